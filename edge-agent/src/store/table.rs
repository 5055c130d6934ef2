//! The tables of the store and the encoding of their keys.
//!
//! A key's bytes sort as its parts do: numbers are big-endian, and a text ends in `00 01` with
//! every zero byte inside written as `00 FF`, so that no text is a prefix of another.

use edge_core::id::LaneKey;

/// A table of rows. The order is that of the checkpoint's writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Job id -> job. Before [`Table::Job`] in a merge comes its progress.
    JobProgress,
    /// Job id -> job as admitted.
    Job,
    /// Function, state version, lane, key -> value.
    State,
    /// Stream, position -> record.
    Outbox,
    /// Stream, first position -> record run.
    OutboxChunk,
    /// Stream -> its positions.
    Stream,
    /// Device, boot, block -> 64 bits of a window.
    Dedupe,
    /// Function, event -> dead letter.
    DeadLetter,
    /// App -> probation.
    Probation,
    /// Trigger -> last used slot.
    ScheduleMark,
    /// Session -> session.
    Session,
    /// Session, filter -> subscription.
    Subscription,
    /// Session, number -> queued message.
    SessionMessage,
    /// Session, number -> QoS 2 message between PUBREC and PUBCOMP.
    Release,
    /// Session, packet id -> QoS 2 message of the client.
    Inbound,
    /// Topic -> retained message.
    Retained,
    /// Session -> will.
    Will,
    /// Name -> bytes of the reconciler's ledger.
    Ledger,
    /// Function -> pause.
    Pause,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 19] = [
        Self::JobProgress,
        Self::Job,
        Self::State,
        Self::Outbox,
        Self::OutboxChunk,
        Self::Stream,
        Self::Dedupe,
        Self::DeadLetter,
        Self::Probation,
        Self::ScheduleMark,
        Self::Session,
        Self::Subscription,
        Self::SessionMessage,
        Self::Release,
        Self::Inbound,
        Self::Retained,
        Self::Will,
        Self::Ledger,
        Self::Pause,
    ];

    /// Its name in redb: part of the format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::JobProgress => "job-progress",
            Self::Job => "job",
            Self::State => "state",
            Self::Outbox => "outbox",
            Self::OutboxChunk => "outbox-chunk",
            Self::Stream => "stream",
            Self::Dedupe => "dedupe",
            Self::DeadLetter => "dead-letter",
            Self::Probation => "probation",
            Self::ScheduleMark => "schedule-mark",
            Self::Session => "session",
            Self::Subscription => "subscription",
            Self::SessionMessage => "session-message",
            Self::Release => "release",
            Self::Inbound => "inbound",
            Self::Retained => "retained",
            Self::Will => "will",
            Self::Ledger => "ledger",
            Self::Pause => "pause",
        }
    }
}

/// Builds a key part by part.
#[derive(Clone, Debug, Default)]
pub struct KeyBuf(Vec<u8>);

impl KeyBuf {
    /// An empty key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text that other parts may follow.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        for &byte in text.as_bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xFF);
            }
        }
        self.0.extend_from_slice(&[0, 1]);
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn u8(mut self, n: u8) -> Self {
        self.0.push(n);
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn u16(mut self, n: u16) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn u32(mut self, n: u32) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn u64(mut self, n: u64) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    /// Adds a lane.
    #[must_use]
    pub fn lane(self, lane: &LaneKey) -> Self {
        match lane {
            LaneKey::Device(device) => self.u8(0).text(device.as_str()),
            LaneKey::Function => self.u8(1),
            LaneKey::Job(job) => self.u8(2).u64(job.0),
            LaneKey::Key(key) => self.u8(3).text(key),
            LaneKey::Keyless => self.u8(4),
        }
    }

    /// Adds bytes as they are; nothing may follow.
    #[must_use]
    pub fn tail(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The key.
    #[must_use]
    pub fn key(self) -> Box<[u8]> {
        self.0.into_boxed_slice()
    }

    /// The keys that begin with this one: first, and the first one behind them (empty: no end).
    #[must_use]
    pub fn prefix(self) -> (Box<[u8]>, Box<[u8]>) {
        let end = after_prefix(&self.0);
        (self.key(), end)
    }
}

/// The first key behind all that begin with `prefix`; empty where there is none.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Box<[u8]> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end.into_boxed_slice()
}

/// The first key behind `key`.
#[must_use]
pub fn successor(key: &[u8]) -> Box<[u8]> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into_boxed_slice()
}

/// Takes a key apart. Every method is `None` where the bytes are not what it reads.
#[derive(Clone, Debug)]
pub struct KeyReader<'a>(&'a [u8]);

impl<'a> KeyReader<'a> {
    /// Starts at the first part.
    #[must_use]
    pub fn new(key: &'a [u8]) -> Self {
        Self(key)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// Reads a number.
    pub fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[n]| n)
    }

    /// Reads a number.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// Reads a number.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// Reads a text.
    pub fn text(&mut self) -> Option<String> {
        let mut text = Vec::new();
        loop {
            match (self.u8()?, self.0.first()) {
                (0, Some(1)) => break,
                (0, Some(0xFF)) => text.push(0),
                (0, _) => return None,
                (byte, _) => {
                    text.push(byte);
                    continue;
                }
            }
            self.u8()?;
        }
        self.u8()?;
        String::from_utf8(text).ok()
    }

    /// Reads a lane.
    pub fn lane(&mut self) -> Option<LaneKey> {
        Some(match self.u8()? {
            0 => LaneKey::Device(edge_core::id::DeviceId::new(&self.text()?)),
            1 => LaneKey::Function,
            2 => LaneKey::Job(edge_core::id::JobId(self.u64()?)),
            3 => LaneKey::Key(self.text()?.into()),
            4 => LaneKey::Keyless,
            _ => return None,
        })
    }

    /// The rest as a text without end mark.
    #[must_use]
    pub fn tail_text(self) -> Option<String> {
        String::from_utf8(self.0.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_core::id::{DeviceId, JobId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_sort_as_their_parts_and_come_back(
            a in (".*", any::<u64>()), b in (".*", any::<u64>()),
        ) {
            let key = |(text, n): &(String, u64)| KeyBuf::new().text(text).u64(*n).key();
            prop_assert_eq!(a.cmp(&b), key(&a).cmp(&key(&b)));
            let bytes = key(&a);
            let mut reader = KeyReader::new(&bytes);
            prop_assert_eq!(reader.text(), Some(a.0));
            prop_assert_eq!(reader.u64(), Some(a.1));
        }

        #[test]
        fn a_reader_of_foreign_bytes_does_not_panic(bytes: Vec<u8>) {
            let mut reader = KeyReader::new(&bytes);
            let _ = (reader.lane(), reader.text(), reader.u64(), reader.u32(), reader.tail_text());
        }
    }

    #[test]
    fn lanes_come_back() {
        let lanes = [
            LaneKey::Device(DeviceId::new("d\0x")),
            LaneKey::Function,
            LaneKey::Job(JobId(7)),
            LaneKey::Key("7\0/é".into()),
            LaneKey::Keyless,
        ];
        for lane in lanes {
            let key = KeyBuf::new().lane(&lane).tail(b"rest").key();
            let mut reader = KeyReader::new(&key);
            assert_eq!(reader.lane(), Some(lane));
            assert_eq!(reader.tail_text().as_deref(), Some("rest"));
        }
    }

    #[test]
    fn a_prefix_ends_behind_its_last_key() {
        assert_eq!(&*after_prefix(&[1, 2]), &[1, 3]);
        assert_eq!(&*after_prefix(&[1, 0xFF]), &[2]);
        assert_eq!(&*after_prefix(&[0xFF, 0xFF]), &[] as &[u8]);
        assert_eq!(&*successor(&[1]), &[1, 0]);
    }
}
