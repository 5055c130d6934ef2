//! Starts that fail because the machine is short of memory, of numbers for processes or of open files. That is
//! not the fault of what is started: an update loses no try by it, and three of them are not gone in a second.

use std::io;
use std::time::Duration;

use edge_core::boot::restart::{Again, Restarts};
use edge_core::time::Millis;
use rustix::io::Errno;

/// Starts of one program that failed so, in a row.
#[derive(Debug, Default)]
pub(super) struct Lack(Restarts);

impl Lack {
    /// How long to wait after a start failed; `None`: it failed for another reason, or for too long.
    pub(super) fn wait_after(&mut self, error: &io::Error) -> Option<Duration> {
        if !is_lack(error) {
            return None;
        }
        match self.0.ended(Millis(0)) {
            Again::After(wait) => Some(Duration::from_millis(wait.0)),
            Again::GiveUp => None,
        }
    }
}

/// Whether the same start may work later: `fork(2)`, `execve(2)`, `socketpair(2)`.
pub(super) fn is_lack(error: &io::Error) -> bool {
    let lacks = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
    Errno::from_io_error(error).is_some_and(|error| lacks.contains(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_lacks_is_waited_for_longer_and_longer_and_not_for_ever() {
        for error in [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE] {
            let mut lack = Lack::default();
            let waits = std::iter::from_fn(|| lack.wait_after(&error.into()));
            let waits: Vec<Duration> = waits.take(100).collect();
            assert!(waits.is_sorted() && waits.len() < 100);
            assert_eq!(waits[0], Duration::from_millis(500));
            let all: Duration = waits.iter().sum();
            assert!(all > Duration::from_secs(600) && all < Duration::from_secs(1_800), "{all:?}");
        }
    }

    #[test]
    fn what_a_program_is_to_blame_for_is_not_waited_for() {
        let mut lack = Lack::default();
        for error in [Errno::NOEXEC, Errno::NOENT, Errno::ACCESS, Errno::TXTBSY] {
            assert_eq!(lack.wait_after(&error.into()), None, "{error}");
        }
        assert_eq!(lack.wait_after(&io::Error::other("it is no error of the system")), None);
    }
}
