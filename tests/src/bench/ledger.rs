//! What was sent, acked and received, message by message, as the clients saw it.

/// A message: its connection, and its number there from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// The connection, from 0.
    pub connection: u16,
    /// The message, from 0.
    pub n: u32,
}

/// What is known of one message.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    has_output: bool,
    acked: bool,
    outputs: u8,
}

/// The ledger of one load.
#[derive(Debug)]
pub struct Ledger {
    entries: Vec<Vec<Entry>>,
    /// PUBACKs and outputs that belong to no message, or are wrong.
    strange: u64,
}

/// What has come of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Now it is finished: acked, and its output is there if it has one.
    Finished,
    /// Something is still to come.
    Unfinished,
    /// It was known before, or belongs to nothing.
    Nothing,
}

/// The verdict on a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Messages sent.
    pub sent: u64,
    /// Of those, acked.
    pub acked: u64,
    /// Outputs that had to come.
    pub expected: u64,
    /// Of those, received at least once.
    pub received: u64,
    /// Messages that were never acked, or whose output never came.
    pub lost: Vec<Id>,
    /// Outputs received again, counting each repeat.
    pub repeated: u64,
    /// Acks and outputs that belong to no message, and outputs that are wrong.
    pub strange: u64,
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self { entries: vec![Vec::new(); connections], strange: 0 }
    }

    /// A message is sent. Returns its number.
    pub fn sent(&mut self, connection: u16, has_output: impl FnOnce(u32) -> bool) -> u32 {
        let entries = &mut self.entries[usize::from(connection)];
        let n = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        entries.push(Entry { has_output: has_output(n), ..Entry::default() });
        n
    }

    /// Its PUBACK is here.
    pub fn acked(&mut self, id: Id) -> News {
        match self.entry(id) {
            Some(entry) if !entry.acked => {
                entry.acked = true;
                entry.news()
            }
            _ => self.strange(),
        }
    }

    /// An output is here.
    pub fn received(&mut self, id: Id) -> News {
        match self.entry(id) {
            Some(entry) if entry.has_output => {
                entry.outputs = entry.outputs.saturating_add(1);
                if entry.outputs == 1 { entry.news() } else { News::Nothing }
            }
            _ => self.strange(),
        }
    }

    /// Something that belongs to no message, or is wrong.
    pub fn strange(&mut self) -> News {
        self.strange += 1;
        News::Nothing
    }

    /// The verdict.
    #[must_use]
    pub fn judge(&self) -> Judgement {
        let mut judgement = Judgement { strange: self.strange, ..Judgement::default() };
        for (connection, entries) in (0..).zip(&self.entries) {
            for (n, entry) in (0..).zip(entries) {
                judgement.sent += 1;
                judgement.acked += u64::from(entry.acked);
                judgement.expected += u64::from(entry.has_output);
                judgement.received += u64::from(entry.outputs > 0);
                judgement.repeated += u64::from(entry.outputs.saturating_sub(1));
                if entry.news() == News::Unfinished {
                    judgement.lost.push(Id { connection, n });
                }
            }
        }
        judgement
    }

    fn entry(&mut self, id: Id) -> Option<&mut Entry> {
        self.entries.get_mut(usize::from(id.connection))?.get_mut(usize::try_from(id.n).ok()?)
    }
}

impl Entry {
    fn news(self) -> News {
        let finished = self.acked && (!self.has_output || self.outputs > 0);
        if finished { News::Finished } else { News::Unfinished }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLD: Id = Id { connection: 0, n: 0 };
    const WARM: Id = Id { connection: 0, n: 1 };
    const OTHER: Id = Id { connection: 1, n: 0 };

    fn sent() -> Ledger {
        let mut ledger = Ledger::new(2);
        assert_eq!(ledger.sent(0, |_| false), COLD.n);
        assert_eq!(ledger.sent(0, |_| true), WARM.n);
        assert_eq!(ledger.sent(1, |_| true), OTHER.n);
        ledger
    }

    #[test]
    fn a_message_is_finished_when_acked_and_its_output_is_there() {
        let mut ledger = sent();
        assert_eq!(ledger.acked(COLD), News::Finished);
        assert_eq!(ledger.acked(WARM), News::Unfinished);
        assert_eq!(ledger.received(WARM), News::Finished);
        assert_eq!(ledger.received(OTHER), News::Unfinished);
        assert_eq!(ledger.acked(OTHER), News::Finished);
        let judgement = ledger.judge();
        let wanted = Judgement { sent: 3, acked: 3, expected: 2, received: 2, ..judgement.clone() };
        assert_eq!(judgement, wanted);
        assert!(judgement.lost.is_empty());
    }

    #[test]
    fn lost_ids_are_named_whether_the_ack_or_the_output_is_missing() {
        let mut ledger = sent();
        ledger.acked(WARM);
        ledger.received(OTHER);
        assert_eq!(ledger.judge().lost, [COLD, WARM, OTHER]);
        ledger.acked(COLD);
        ledger.received(WARM);
        assert_eq!(ledger.judge().lost, [OTHER], "its output came, its ack did not");
    }

    #[test]
    fn repeats_are_counted_and_are_no_loss() {
        let mut ledger = sent();
        for id in [COLD, WARM, OTHER] {
            ledger.acked(id);
        }
        assert_eq!(ledger.received(WARM), News::Finished);
        assert_eq!(ledger.received(WARM), News::Nothing);
        assert_eq!(ledger.received(WARM), News::Nothing);
        let judgement = ledger.judge();
        assert_eq!((judgement.repeated, judgement.lost), (2, vec![OTHER]));
    }

    #[test]
    fn what_belongs_to_nothing_is_strange() {
        let mut ledger = sent();
        ledger.received(COLD);
        ledger.received(Id { connection: 7, n: 0 });
        ledger.acked(WARM);
        ledger.acked(WARM);
        assert_eq!(ledger.judge().strange, 3);
    }
}
