//! A queue in memory: gone when the device restarts.

use super::{Overflow, Queue, QueueError};
use crate::ring::{Ring, RingError};

/// Keeps records in the memory it is given, each with two bytes more.
#[derive(Debug)]
pub struct RamQueue<'a> {
    ring: Ring<'a>,
    overflow: Overflow,
}

impl<'a> RamQueue<'a> {
    /// An empty queue. A record takes its length and two bytes.
    #[must_use]
    pub const fn new(memory: &'a mut [u8], overflow: Overflow) -> Self {
        Self { ring: Ring::new(memory), overflow }
    }

    /// The oldest record, in place.
    #[must_use]
    pub fn oldest(&self) -> Option<&[u8]> {
        self.ring.peek(0)
    }
}

impl Queue for RamQueue<'_> {
    async fn open(&mut self) -> Result<u32, QueueError> {
        Ok(self.ring.len())
    }

    async fn push(&mut self, record: &[u8]) -> Result<u32, QueueError> {
        if !self.ring.could_hold(record.len()) {
            return Err(QueueError::TooLong);
        }
        let mut dropped = 0;
        loop {
            match self.ring.push(record) {
                Ok(()) => return Ok(dropped),
                Err(RingError::Full) if self.overflow == Overflow::DropOldest => {
                    self.ring.pop();
                    dropped += 1;
                }
                Err(RingError::Full) => return Err(QueueError::Full),
                Err(RingError::TooLong | RingError::Write(())) => return Err(QueueError::TooLong),
            }
        }
    }

    async fn peek(&mut self, nth: u32, out: &mut [u8]) -> Result<Option<usize>, QueueError> {
        let Some(record) = self.ring.peek(nth) else { return Ok(None) };
        let place = out.get_mut(..record.len()).ok_or(QueueError::TooLong)?;
        place.copy_from_slice(record);
        Ok(Some(record.len()))
    }

    async fn pop(&mut self) -> Result<(), QueueError> {
        self.ring.pop();
        Ok(())
    }

    fn len(&self) -> u32 {
        self.ring.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embassy_futures::block_on;

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let mut memory = [0; 40];
        let mut queue = RamQueue::new(&mut memory, Overflow::DropOldest);
        let mut dropped = 0;
        for number in 0..10_u8 {
            dropped += block_on(queue.push(&[number; 8])).unwrap();
        }
        let mut out = [0; 8];
        assert_eq!(u32::from(10_u8) - dropped, queue.len());
        assert_eq!(block_on(queue.peek(0, &mut out)), Ok(Some(8)));
        assert_eq!(u32::from(out[0]), dropped);
        let kept = queue.len();
        assert_eq!(block_on(queue.push(&[0; 39])), Err(QueueError::TooLong));
        assert_eq!(queue.len(), kept, "nothing is dropped for what never fits");
    }

    #[test]
    fn the_newest_is_refused() {
        let mut memory = [0; 12];
        let mut queue = RamQueue::new(&mut memory, Overflow::DropNewest);
        assert_eq!(block_on(queue.push(&[1; 8])), Ok(0));
        assert_eq!(block_on(queue.push(&[2; 8])), Err(QueueError::Full));
        assert_eq!(block_on(queue.peek(0, &mut [0; 4])), Err(QueueError::TooLong));
    }
}
