//! Where a virtual device keeps readings for the gateway: memory that can outlive its power cuts, as flash does. What
//! enters and leaves it is in the ledger.

use std::collections::VecDeque;

use device_sdk::Queue;
use device_sdk::queue::QueueError;

use super::ledger::Id;
use super::shared::Shared;

/// Bytes that a record takes beside its own.
const OVERHEAD: usize = 8;

/// A queue that drops the oldest when it is full.
pub(super) struct VirtualQueue<'s> {
    shared: &'s Shared,
    device: usize,
    records: VecDeque<(Id, Box<[u8]>)>,
    bytes: usize,
    bytes_max: usize,
    next: Id,
}

impl<'s> VirtualQueue<'s> {
    /// An empty one.
    pub(super) fn new(shared: &'s Shared, device: usize) -> Self {
        let bytes_max = usize::try_from(shared.profile.queue_bytes).unwrap_or(usize::MAX);
        let next = Id { boot: 0, sequence: 0 };
        Self { shared, device, records: VecDeque::new(), bytes: 0, bytes_max, next }
    }

    /// The device starts: the client numbers its readings by this boot, from 0, in the order in which they come here.
    pub(super) fn start(&mut self, boot: u64) {
        self.next = Id { boot, sequence: 0 };
    }

    /// The memory loses what it held.
    pub(super) fn lose(&mut self) {
        while self.drop_oldest() {}
    }

    fn take(&mut self) -> Option<Id> {
        let (id, record) = self.records.pop_front()?;
        self.bytes -= record.len() + OVERHEAD;
        Some(id)
    }

    /// The oldest record.
    pub(super) fn first(&self) -> Option<(Id, &[u8])> {
        self.records.front().map(|(id, record)| (*id, &**record))
    }

    /// Takes a record; returns how many others made room for it.
    ///
    /// # Errors
    /// It is longer than the queue.
    pub(super) fn keep(&mut self, record: &[u8]) -> Result<u32, QueueError> {
        let id = self.next;
        self.next.sequence += 1;
        let bytes = record.len() + OVERHEAD;
        if bytes > self.bytes_max {
            return Err(QueueError::TooLong);
        }
        let mut dropped = 0;
        while self.bytes + bytes > self.bytes_max && self.drop_oldest() {
            dropped += 1;
        }
        self.bytes += bytes;
        self.records.push_back((id, record.into()));
        self.shared.ledger().kept(self.device, id);
        Ok(dropped)
    }

    /// The oldest is done with: acknowledged, or refused for good, which is told apart by the client's figures.
    pub(super) fn settle(&mut self) {
        if let Some(id) = self.take() {
            self.shared.ledger().acked(self.device, id);
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(id) = self.take() else { return false };
        self.shared.ledger().dropped(self.device, id);
        true
    }
}

impl Queue for VirtualQueue<'_> {
    async fn open(&mut self) -> Result<u32, QueueError> {
        Ok(self.len())
    }

    async fn push(&mut self, record: &[u8]) -> Result<u32, QueueError> {
        self.keep(record)
    }

    async fn peek(&mut self, nth: u32, out: &mut [u8]) -> Result<Option<usize>, QueueError> {
        let nth = usize::try_from(nth).unwrap_or(usize::MAX);
        let Some((_, record)) = self.records.get(nth) else { return Ok(None) };
        let place = out.get_mut(..record.len()).ok_or(QueueError::TooLong)?;
        place.copy_from_slice(record);
        Ok(Some(record.len()))
    }

    async fn pop(&mut self) -> Result<(), QueueError> {
        self.settle();
        Ok(())
    }

    fn len(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }
}
