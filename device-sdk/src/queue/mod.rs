//! Where messages wait for the gateway.
//!
//! A record is opaque here: bytes, numbered when they were published. It leaves the queue when the gateway has
//! acknowledged it, or by the policy for a full queue; the client counts and reports what was dropped.

mod ram;

#[cfg(feature = "flash-queue")]
mod flash;

#[cfg(feature = "flash-queue")]
pub use flash::{FlashQueue, FlashQueueError};
pub use ram::RamQueue;

pub use crate::record::number;

use core::future::Future;

/// What a full queue does with a new message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Overflow {
    /// Drops the oldest until the new one fits.
    #[default]
    DropOldest,
    /// Refuses the new one.
    DropNewest,
}

/// Why a queue did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum QueueError {
    /// It is full, and its policy is to refuse.
    Full,
    /// The record does not fit into an empty queue, or a record of the queue not into the buffer.
    TooLong,
    /// The memory behind it failed. The next call starts with a new look at the memory.
    Storage,
    /// The memory belongs to something else: another version, another layout, or a firmware with longer records. It is left
    /// as it is, and nothing is taken until it is [formatted](crate::Device::format_queue): do not make the buffer of a queue
    /// in the field shorter.
    Foreign,
}

/// A first-in first-out queue of records.
///
/// The client calls one method at a time and lets every future run to its end, unless its own `run` is dropped.
pub trait Queue {
    /// Looks at the memory; returns how many records it holds.
    ///
    /// # Errors
    /// [`QueueError::Storage`] and [`QueueError::Foreign`].
    fn open(&mut self) -> impl Future<Output = Result<u32, QueueError>>;

    /// A memory that is [`QueueError::Foreign`] is given to this queue: when it is opened next, it erases what is there and takes
    /// it. A queue whose memory never is has nothing to do here.
    fn give(&mut self) {}

    /// Adds a record; returns how many of the oldest were dropped for it. What this has returned for is kept, as safe as
    /// the memory is.
    ///
    /// # Errors
    /// [`QueueError`].
    fn push(&mut self, record: &[u8]) -> impl Future<Output = Result<u32, QueueError>>;

    /// Copies the `nth` oldest record, from 0, into `out`; returns its length, or nothing if there are not so many.
    ///
    /// # Errors
    /// [`QueueError::TooLong`] if `out` is too short, and [`QueueError::Storage`].
    fn peek(
        &mut self,
        nth: u32,
        out: &mut [u8],
    ) -> impl Future<Output = Result<Option<usize>, QueueError>>;

    /// Removes the oldest record; nothing if there is none.
    ///
    /// # Errors
    /// [`QueueError::Storage`].
    fn pop(&mut self) -> impl Future<Output = Result<(), QueueError>>;

    /// How many records it holds.
    fn len(&self) -> u32;

    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
