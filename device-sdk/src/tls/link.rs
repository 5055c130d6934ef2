//! What gate, cipher, verifier and stream of one connection know together.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::Refusal;

/// How far the connection is, and why it was refused. Atomic only so that a stream may move between threads; one task
/// uses it.
#[derive(Debug)]
pub(super) struct Link {
    proven: AtomicBool,
    open: AtomicBool,
    refusal: AtomicU8,
}

impl Link {
    pub(super) const fn new() -> Self {
        Self {
            proven: AtomicBool::new(false),
            open: AtomicBool::new(false),
            refusal: AtomicU8::new(0),
        }
    }

    /// A new connection; `proven` if the keys themselves will prove the gateway.
    pub(super) fn begin(&self, proven: bool) {
        self.proven.store(proven, Ordering::Relaxed);
        self.open.store(false, Ordering::Relaxed);
        self.refusal.store(0, Ordering::Relaxed);
    }

    /// The gateway has proven itself.
    pub(super) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// The handshake is over.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Keeps why; the first reason stays.
    pub(super) fn refuse(&self, why: Refusal) {
        if self.refusal().is_none() {
            self.refusal.store(why.code(), Ordering::Relaxed);
        }
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        Refusal::of(self.refusal.load(Ordering::Relaxed))
    }
}
