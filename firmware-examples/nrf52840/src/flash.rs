//! Who owns which part of the internal flash (1 MB), and reading what the host wrote there.
//!
//! The core stands still while a page is erased (85 ms) or a word is written. A word takes two writes between erasures.

use board_common::RECORD_BYTES;
use board_common::identity::Copies;
use board_common::settings::SETTINGS_BYTES;
use device_sdk::Overflow;
use device_sdk::queue::FlashQueue;
use embassy_embedded_hal::adapter::{BlockingAsync, YieldingAsync};
use embassy_nrf::Peri;
use embassy_nrf::nvmc::{Nvmc, PAGE_SIZE};
use embassy_nrf::peripherals::NVMC;
use embedded_storage::nor_flash::ReadNorFlash;
use static_cell::StaticCell;

const _: () = assert!(PAGE_SIZE == 4096, "the addresses below are of such pages");
/// 32 pages: one for the queue's head, 31 of records.
const QUEUE: core::ops::Range<u32> = 0xD_D000..0xF_D000;
const SETTINGS: u32 = 0xF_D000;
const PROVISIONING: [u32; 2] = [0xF_E000, 0xF_F000];

/// Readings that wait for the gateway.
pub(crate) type SensorQueue = FlashQueue<'static, YieldingAsync<BlockingAsync<Nvmc<'static>>>>;

/// The flash, and what stands in it.
pub(crate) struct Storage {
    chip: Nvmc<'static>,
    pub(crate) copies: &'static Copies,
    pub(crate) settings: &'static [u8],
}

impl Storage {
    /// Reads provisioning and settings. To be called once.
    pub(crate) fn read(nvmc: Peri<'static, NVMC>) -> Self {
        static COPIES: StaticCell<Copies> = StaticCell::new();
        static TEXT: StaticCell<[u8; SETTINGS_BYTES]> = StaticCell::new();
        let mut chip = Nvmc::new(nvmc);
        let copies = COPIES.init_with(|| [[0; _]; 2]);
        for (copy, offset) in copies.iter_mut().zip(PROVISIONING) {
            chip.read(offset, copy).expect("invariant: within flash");
        }
        let settings = TEXT.init_with(|| [0; _]);
        chip.read(SETTINGS, settings).expect("invariant: within flash");
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
