//! Who owns which part of flash (4 MB), and reading what the host wrote there. `partitions.csv` has the same addresses.
//!
//! While a page is erased or written, nothing runs from flash: interrupts wait.

use board_common::RECORD_BYTES;
use board_common::identity::Copies;
use board_common::settings::SETTINGS_BYTES;
use device_sdk::Overflow;
use device_sdk::queue::FlashQueue;
use embassy_embedded_hal::adapter::{BlockingAsync, YieldingAsync};
use embedded_storage::nor_flash::ReadNorFlash;
use esp_hal::peripherals::FLASH;
use esp_storage::FlashStorage;
use static_cell::StaticCell;

const _: () = assert!(FlashStorage::SECTOR_SIZE == 4096, "the addresses below are of such pages");
/// 32 pages: one for the queue's head, 31 of records.
const QUEUE: core::ops::Range<u32> = 0x3D_D000..0x3F_D000;
const SETTINGS: u32 = 0x3F_D000;
const PROVISIONING: [u32; 2] = [0x3F_E000, 0x3F_F000];

/// Readings that wait for the gateway.
pub(crate) type SensorQueue =
    FlashQueue<'static, YieldingAsync<BlockingAsync<FlashStorage<'static>>>>;

/// The flash, and what stands in it.
pub(crate) struct Storage {
    chip: FlashStorage<'static>,
    pub(crate) copies: &'static Copies,
    pub(crate) settings: &'static [u8],
}

impl Storage {
    /// Reads provisioning and settings; nothing where the chip has less flash than they need. To be called once.
    pub(crate) fn read(flash: FLASH<'static>) -> Option<Self> {
        static COPIES: StaticCell<Copies> = StaticCell::new();
        static TEXT: StaticCell<[u8; SETTINGS_BYTES]> = StaticCell::new();
        let mut chip = FlashStorage::new(flash);
        let copies = COPIES.init_with(|| [[0; _]; 2]);
        for (copy, offset) in copies.iter_mut().zip(PROVISIONING) {
            chip.read(offset, copy).ok()?;
        }
        let settings = TEXT.init_with(|| [0; _]);
        chip.read(SETTINGS, settings).ok()?;
        Some(Self { chip, copies, settings })
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
