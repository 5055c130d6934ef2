//! Who owns which part of flash (2 MB of QSPI, at 0x1000_0000), and reading what the host wrote there.
//!
//! While a page is erased or written, nothing runs from flash: interrupts wait, at most for the 400 ms of an erasure.

use board_common::RECORD_BYTES;
use board_common::identity::Copies;
use board_common::settings::SETTINGS_BYTES;
use device_sdk::Overflow;
use device_sdk::queue::FlashQueue;
use embassy_embedded_hal::adapter::{BlockingAsync, YieldingAsync};
use embassy_rp::Peri;
use embassy_rp::flash::{Blocking, ERASE_SIZE, Flash};
use embassy_rp::peripherals::FLASH;
use static_cell::StaticCell;

const FLASH_BYTES: usize = 2 * 1024 * 1024;
const PAGE: u32 = 4096;
const _: () = assert!(ERASE_SIZE == PAGE as usize, "pages are erased one by one");

/// 32 pages: one for the queue's head, 31 of records.
const QUEUE: core::ops::Range<u32> = 0x1D_D000..0x1F_D000;
const SETTINGS: u32 = 0x1F_D000;
const PROVISIONING: [u32; 2] = [0x1F_E000, 0x1F_F000];

type Chip = Flash<'static, FLASH, Blocking, FLASH_BYTES>;
/// Readings that wait for the gateway.
pub(crate) type SensorQueue = FlashQueue<'static, YieldingAsync<BlockingAsync<Chip>>>;

/// The flash, and what stands in it.
pub(crate) struct Storage {
    chip: Chip,
    pub(crate) copies: &'static Copies,
    pub(crate) settings: &'static [u8],
}

impl Storage {
    /// Reads provisioning and settings. To be called once.
    pub(crate) fn read(flash: Peri<'static, FLASH>) -> Self {
        static COPIES: StaticCell<Copies> = StaticCell::new();
        static TEXT: StaticCell<[u8; SETTINGS_BYTES]> = StaticCell::new();
        let mut chip = Chip::new_blocking(flash);
        let copies = COPIES.init_with(|| [[0; _]; 2]);
        for (copy, offset) in copies.iter_mut().zip(PROVISIONING) {
            chip.blocking_read(offset, copy).expect("invariant: within flash");
        }
        let settings = TEXT.init_with(|| [0; _]);
        chip.blocking_read(SETTINGS, settings).expect("invariant: within flash");
        Self { chip, copies, settings }
    }

    /// The queue. What it held before is kept.
    pub(crate) fn into_queue(self) -> SensorQueue {
        static BUFFER: StaticCell<[u8; RECORD_BYTES]> = StaticCell::new();
        let buffer = BUFFER.init([0; RECORD_BYTES]);
        // Others have their turn between two pages that are erased.
        let chip = YieldingAsync::new(BlockingAsync::new(self.chip));
        FlashQueue::new(chip, QUEUE, buffer, Overflow::DropOldest)
            .expect("invariant: whole pages, and more than three")
    }
}
