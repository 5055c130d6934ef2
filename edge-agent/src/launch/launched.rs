//! The agent's side: which slot it runs from, and that it lives.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edge_core::boot::{Slot, State};
use tokio::io::AsyncReadExt as _;

use super::slots::Slots;
use super::{BEAT_VARIABLE, SLOT_VARIABLE, SLOTS_VARIABLE};

/// What an agent that a launcher started knows of that. Clones are of one agent.
#[derive(Clone, Debug)]
pub struct Launched {
    slots: Slots,
    slot: Slot,
    beat: Duration,
    switch: Arc<AtomicBool>,
    /// Held for as long as the agent lives.
    _alone: Arc<File>,
}

impl Launched {
    /// What the launcher said; `None` where none did.
    ///
    /// # Errors
    /// What it said makes no sense: two programs of different opinion. Or another agent runs with these
    /// slots, whose launcher is gone.
    pub fn from_environment() -> Result<Option<Self>, String> {
        let read = |name: &str| std::env::var(name).ok();
        let Some(dir) = read(SLOTS_VARIABLE) else { return Ok(None) };
        let slot = read(SLOT_VARIABLE).and_then(|name| Slot::named(&name));
        let slot =
            slot.ok_or_else(|| format!("{SLOT_VARIABLE} names no slot: use `edge-agent launch`"))?;
        let beat_ms = read(BEAT_VARIABLE).and_then(|text| text.parse().ok());
        let beat_ms: u64 = beat_ms.ok_or_else(|| format!("{BEAT_VARIABLE} is no number"))?;
        let failed = |error: io::Error| format!("{dir}: {error}");
        let slots = Slots::open(Path::new(&dir)).map_err(failed)?;
        let alone = slots.lock_agent().map_err(failed)?.ok_or_else(|| {
            format!("another agent runs with the slots in {dir}: it ends by itself if its launcher is gone")
        })?;
        let beat = Duration::from_millis(beat_ms.max(10));
        Ok(Some(Self { slots, slot, beat, switch: Arc::default(), _alone: Arc::new(alone) }))
    }

    /// The folder of the slots.
    #[must_use]
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The agent's own slot.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// The state as it stands on the disk.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn state(&self) -> io::Result<State> {
        self.slots.state()
    }

    /// How often the launcher wants to hear that the agent lives.
    #[must_use]
    pub const fn beat(&self) -> Duration {
        self.beat
    }

    /// The connection that beats go over: standard input, which an agent has no other use for.
    ///
    /// # Errors
    /// There is none.
    pub fn line(&self) -> io::Result<Beats> {
        let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        line.set_nonblocking(true)?;
        Ok(Beats(line))
    }

    /// The process is to end so that the launcher looks at the state anew.
    pub fn ask_for_switch(&self) {
        self.switch.store(true, Ordering::Relaxed);
    }

    /// Whether that was asked for.
    #[must_use]
    pub fn wants_switch(&self) -> bool {
        self.switch.load(Ordering::Relaxed)
    }
}

/// Where an agent says that it lives.
#[derive(Debug)]
pub struct Beats(UnixStream);

impl Beats {
    /// Ends when the launcher is gone, which never writes here.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn gone(&self) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        let line = self.0.try_clone()?;
        Ok(async move {
            // Only within a runtime; elsewhere nobody looks.
            let Ok(mut line) = tokio::net::UnixStream::from_std(line) else { return };
            let mut byte = [0];
            while line.read(&mut byte).await.is_ok_and(|read| read > 0) {}
        })
    }

    /// Says so. A launcher that does not read at the moment is told the next time.
    ///
    /// # Errors
    /// The launcher is gone.
    pub fn beat(&mut self) -> io::Result<()> {
        match self.0.write_all(b".") {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn beats_arrive_and_the_end_of_the_launcher_is_seen() {
        let (ours, launcher) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut beats = Beats(ours);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _entered = runtime.enter();
        let mut gone = pin!(beats.gone().unwrap());
        let mut context = Context::from_waker(Waker::noop());
        beats.beat().unwrap();
        assert!(gone.as_mut().poll(&mut context) == Poll::Pending, "it is there");
        drop(launcher);
        runtime.block_on(gone);
        beats.beat().unwrap_err();
    }
}
