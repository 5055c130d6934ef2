//! Where what the function published waits for the gateway: in flash, so that it survives a power cut.

use board_mps2::flash::Flash;
use device_sdk::Overflow;
use device_sdk::queue::FlashQueue;
use static_cell::StaticCell;

use crate::RECORD_BYTES;

/// See the module.
pub(crate) type EdgeQueue = FlashQueue<'static, Flash>;

/// A queue in this region. What it held before is kept.
pub(crate) fn new(flash: Flash) -> EdgeQueue {
    static BUFFER: StaticCell<[u8; RECORD_BYTES]> = StaticCell::new();
    let region = 0..flash.bytes();
    let buffer = BUFFER.init([0; RECORD_BYTES]);
    FlashQueue::new(flash, region, buffer, Overflow::DropOldest)
        .expect("invariant: the region is of whole pages, and more than three")
}
