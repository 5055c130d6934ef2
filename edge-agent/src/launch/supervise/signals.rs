//! Signals to the launcher.

use std::io;
use std::time::Duration;

use rustix::process::Signal as Kill;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those that are handled.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    quit: Signal,
    child: Signal,
}

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Something became of a child.
    Child,
    /// Stop, and tell the agent so with this signal.
    Stop(Kill),
}

impl Signals {
    /// Handles them from now on.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Said {
        tokio::select! {
            _ = self.terminate.recv() => Said::Stop(Kill::TERM),
            _ = self.interrupt.recv() => Said::Stop(Kill::INT),
            // The agent knows the two others: it would not stop well at these.
            _ = self.hangup.recv() => Said::Stop(Kill::TERM),
            _ = self.quit.recv() => Said::Stop(Kill::TERM),
            _ = self.child.recv() => Said::Child,
        }
    }

    /// Waits; whether a stop was asked for meanwhile.
    pub(super) async fn stop_within(&mut self, wait: Duration) -> bool {
        let stopped = async { while self.next().await == Said::Child {} };
        tokio::time::timeout(wait, stopped).await.is_ok()
    }
}
