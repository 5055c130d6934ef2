//! What the firmware prints goes into the ledger. The lines are those of `firmware-examples/qemu-mps2-an385`.
//!
//! The firmware counts what was acknowledged and does not name it. Its queue is first in, first out: while it holds `n`
//! readings, those are the last `n` that it kept, and what it kept before has left the queue.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::simulate::ledger::{Id, Ledger};
use crate::simulate::shared::{Handle, Shared, Standing};

/// Longest line that is looked at.
pub(super) const LINE_BYTES_MAX: usize = 512;

/// What a console has told, over all starts of the device.
pub(super) struct Console {
    shared: Arc<Shared>,
    device: usize,
    /// Kept and not gone, in order.
    waiting: VecDeque<Id>,
    /// Dropped by the full queue, and refused by the gateway, in this life.
    dropped: u64,
    refused: u64,
}

/// A line that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'l> {
    /// It starts, as this device, and numbers readings by this.
    Start(&'l str, u64),
    /// A reading is in the queue.
    Kept(Id),
    /// Readings in the queue; dropped, refused and hurt since the start.
    Figures { queued: u64, dropped: u64, refused: u64, failed: u64 },
    /// It is connected, or is not any more.
    Online(bool),
    /// It died.
    Crash(&'l str),
}

impl<'l> Line<'l> {
    /// Half a line, where a life was cut, is none.
    fn read(line: &'l str) -> Option<Self> {
        let said = line.split_once("] ").map_or(line, |(_, said)| said).trim_end();
        let words: Vec<&str> = said.split_whitespace().collect();
        match *words.as_slice() {
            ["device", name, "boot", boot] if boot.len() == 16 => {
                Some(Self::Start(name, u64::from_str_radix(boot, 16).ok()?))
            }
            ["kept", boot, sequence, _] if boot.len() == 16 => Some(Self::Kept(Id {
                boot: u64::from_str_radix(boot, 16).ok()?,
                sequence: sequence.parse().ok()?,
            })),
            ["acked", _, "queued", queued, _, _, _, _, dropped, refused, failed, _, "stack", _] => {
                let number = |word: &str| word.trim_matches(['[', ']', ',']).parse().ok();
                Some(Self::Figures {
                    queued: number(queued)?,
                    dropped: number(dropped)?,
                    refused: number(refused)?,
                    failed: number(failed)?,
                })
            }
            _ if said.starts_with("Online") => Some(Self::Online(true)),
            _ if said.starts_with("Offline") || said == "Connecting" => Some(Self::Online(false)),
            _ if said.contains("panic: ") || said.contains("hard fault: ") => {
                Some(Self::Crash(said))
            }
            _ => None,
        }
    }
}

impl Console {
    /// Of a device that has not started.
    pub(super) fn new(shared: Arc<Shared>, device: usize) -> Self {
        Self { shared, device, waiting: VecDeque::new(), dropped: 0, refused: 0 }
    }

    /// Takes a line.
    pub(super) fn line(&mut self, line: &str) {
        let Some(line) = Line::read(line) else { return };
        let shared = Arc::clone(&self.shared);
        let (handle, device) = (&shared.handles[self.device], self.device);
        match line {
            Line::Start(name, boot) => self.started(name, boot, handle, &mut shared.ledger()),
            Line::Kept(id) => {
                shared.ledger().kept(device, id);
                self.waiting.push_back(id);
            }
            Line::Figures { queued, dropped, refused, failed } => {
                let mut ledger = shared.ledger();
                let account = ledger.account(device);
                account.refused += refused.saturating_sub(self.refused);
                if failed > 0 && account.failures.is_empty() {
                    account.failures.push("its flash failed".to_owned());
                }
                let newly_dropped = dropped.saturating_sub(self.dropped);
                (self.dropped, self.refused) = (dropped, refused);
                self.shrink(queued, newly_dropped, &mut ledger);
            }
            Line::Online(is_online) => {
                let mut view = handle.view();
                view.connects += u64::from(is_online && view.standing != Standing::Online);
                view.standing = if is_online { Standing::Online } else { Standing::Offline };
            }
            Line::Crash(words) => {
                shared.ledger().account(device).failures.push(words.to_owned());
            }
        }
    }

    fn started(&mut self, name: &str, boot: u64, handle: &Handle, ledger: &mut Ledger) {
        (self.dropped, self.refused) = (0, 0);
        let account = ledger.account(self.device);
        account.started(boot);
        if name != handle.plan.name && account.failures.is_empty() {
            account.failures.push(format!(
                "it calls itself `{name}`: this firmware does not read its name from flash; build it with \
                 --features full"
            ));
        }
        if !self.shared.profile.queue_survives {
            for id in self.waiting.drain(..) {
                ledger.dropped(self.device, id);
            }
        }
    }

    /// The queue holds no more than that; the first of what left it were dropped.
    fn shrink(&mut self, queued: u64, mut dropped: u64, ledger: &mut Ledger) {
        while self.waiting.len() as u64 > queued {
            let Some(id) = self.waiting.pop_front() else { return };
            if dropped > 0 {
                dropped -= 1;
                ledger.dropped(self.device, id);
            } else {
                ledger.acked(self.device, id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_firmware_are_read_and_halves_are_not() {
        let read = Line::read;
        assert_eq!(
            read("[    0.1] device sim-0001 boot 00000000000000ff\r\n"),
            Some(Line::Start("sim-0001", 255))
        );
        let id = Id { boot: 255, sequence: 4 };
        assert_eq!(read("[    0.2] kept 00000000000000ff 4 -21000"), Some(Line::Kept(id)));
        assert_eq!(
            read(
                "[ 0.3] acked 1 queued 7 overflowed, refused, failed, ignored [1, 2, 3, 0] stack 13004"
            ),
            Some(Line::Figures { queued: 7, dropped: 1, refused: 2, failed: 3 })
        );
        assert_eq!(read("[ 1.0] Online { resumed: false }"), Some(Line::Online(true)));
        assert_eq!(
            read("[ 1.0] Offline { trouble: Lost, retry_ms: 3 }"),
            Some(Line::Online(false))
        );
        assert!(matches!(read("panic: panicked at x"), Some(Line::Crash(_))));
        for half in ["[ 0.4] kept 00000", "[ 0.4] kept 00000000000000ff 4", "acked 1 queued 7", ""]
        {
            assert_eq!(read(half), None, "{half}");
        }
    }
}
