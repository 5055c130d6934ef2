//! Where readings wait for the gateway: in flash (feature `full`), so that they survive a power cut, or in memory.

use board_mps2::flash::Flash;
use device_sdk::Overflow;
use static_cell::StaticCell;

#[cfg(feature = "full")]
mod place {
    use super::{Flash, Overflow, StaticCell};
    use device_sdk::queue::FlashQueue;

    /// Longest record.
    const RECORD_BYTES: usize = 256;

    /// See the module.
    pub(crate) type SensorQueue = FlashQueue<'static, Flash>;

    /// A queue in this region. What it held before is kept.
    pub(crate) fn new(flash: Flash) -> SensorQueue {
        static BUFFER: StaticCell<[u8; RECORD_BYTES]> = StaticCell::new();
        let region = 0..flash.bytes();
        let buffer = BUFFER.init([0; RECORD_BYTES]);
        FlashQueue::new(flash, region, buffer, Overflow::DropOldest)
            .expect("invariant: the region is of whole pages, and more than three")
    }
}

#[cfg(not(feature = "full"))]
mod place {
    use super::{Flash, Overflow, StaticCell};
    use device_sdk::RamQueue;

    /// Some forty readings.
    const RING_BYTES: usize = 4096;

    /// See the module.
    pub(crate) type SensorQueue = RamQueue<'static>;

    /// A queue in memory.
    pub(crate) fn new(_: Flash) -> SensorQueue {
        static RING: StaticCell<[u8; RING_BYTES]> = StaticCell::new();
        RamQueue::new(RING.init([0; RING_BYTES]), Overflow::DropOldest)
    }
}

pub(crate) use place::{SensorQueue, new};
