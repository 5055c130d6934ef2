//! Watching a program until it ends. One that is silent for too long is told to stop, and killed where
//! it does not.

use std::process::{Child, ExitStatus};
use std::time::Duration;

use edge_core::boot::End;
use edge_core::time::Millis;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::signals::{Said, Signals};
use super::{code_of, end_of};
use crate::supervisor::Supervisor;

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) hang_after: Duration,
    pub(super) start_within: Duration,
    pub(super) stop_within: Duration,
}

/// A run of a program.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) end: End,
    status: Option<ExitStatus>,
    /// Somebody told the launcher to stop.
    pub(super) was_told: bool,
    /// It was silent for too long, before anybody told it to stop.
    pub(super) hung: bool,
    pub(super) lived: Millis,
}

impl Run {
    /// It did not even start.
    pub(super) fn not_started(error: &std::io::Error) -> Self {
        let end = End::Failed(format!("it did not start: {error}"));
        Self { end, status: None, was_told: false, hung: false, lived: Millis(0) }
    }

    /// Somebody told the launcher to stop before it started.
    pub(super) fn stopped() -> Self {
        let end = End::Stopped;
        Self { end, status: None, was_told: true, hung: false, lived: Millis(0) }
    }

    /// The exit code that stands for it.
    pub(super) fn code(&self) -> u8 {
        self.status.map_or(u8::from(self.end != End::Stopped), code_of)
    }
}

/// Watches until the program ended, which is at most `stop_within` after the time for it came.
/// `supervisor` hears meanwhile that the launcher itself turns.
pub(super) async fn watch(
    mut child: Child,
    mut line: UnixStream,
    signals: &mut Signals,
    supervisor: &mut Supervisor,
    patience: Patience,
) -> Run {
    let mut silent_until = Instant::now() + patience.start_within;
    let mut kill_at: Option<Instant> = None;
    let (mut was_told, mut hung, mut is_heard) = (false, false, true);
    let mut beats = [0; 64];
    loop {
        supervisor.beat(Instant::now().into_std());
        match child.try_wait() {
            Ok(Some(status)) => {
                let end = if hung { End::Failed("it hung".to_owned()) } else { end_of(status) };
                return Run { end, status: Some(status), was_told, hung, lived: Millis(0) };
            }
            Ok(None) => {}
            Err(error) => return Run { was_told, hung, ..Run::not_started(&error) },
        }
        let due = kill_at.unwrap_or(silent_until);
        let beat_at = Instant::now() + supervisor.longest_wait();
        tokio::select! {
            said = signals.next() => if said == Said::Stop {
                was_told = true;
                supervisor.stopping();
                kill_at.get_or_insert(Instant::now() + patience.stop_within);
                tell(&child, Signal::TERM);
            },
            read = line.read(&mut beats), if is_heard => match read {
                // It closed the line, or is about to end: silence says the rest.
                Ok(0) | Err(_) => is_heard = false,
                Ok(_) => silent_until = Instant::now() + patience.hang_after,
            },
            () = tokio::time::sleep_until(due.min(beat_at)) => {
                if Instant::now() < due {
                    // A beat is due, nothing else.
                } else if kill_at.is_some() {
                    tell(&child, Signal::KILL);
                    kill_at = Some(Instant::now() + patience.stop_within);
                } else {
                    tracing::error!("the agent hangs: it is told to stop, then killed");
                    hung = true;
                    kill_at = Some(Instant::now() + patience.stop_within);
                    tell(&child, Signal::TERM);
                }
            }
        }
    }
}

/// Sends a signal to a child that was not waited for yet: its number is still its own.
fn tell(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
        tracing::warn!(%error, ?signal, "the agent cannot be told");
    }
}
