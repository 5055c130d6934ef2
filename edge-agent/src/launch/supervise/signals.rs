//! Signals to the launcher.

use std::io;
use std::time::Duration;

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
    /// Stop, and tell the agent so: with SIGTERM, which it knows, whatever the launcher was told with.
    Stop,
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
            _ = self.terminate.recv() => Said::Stop,
            _ = self.interrupt.recv() => Said::Stop,
            _ = self.hangup.recv() => Said::Stop,
            _ = self.quit.recv() => Said::Stop,
            _ = self.child.recv() => Said::Child,
        }
    }

    /// Waits; whether a stop was asked for meanwhile.
    pub(super) async fn stop_within(&mut self, wait: Duration) -> bool {
        let stopped = async { while self.next().await == Said::Child {} };
        tokio::time::timeout(wait, stopped).await.is_ok()
    }
}
