//! A board: flash with embassy-boot's partitions, its boot loader, and firmware that updates itself with the SDK.
//!
//! The image in the active partition decides what runs: its first bytes say version, floor, and whether it ever reaches
//! the gateway. The loader and the SDK work on the same bytes, as on a real board; only the processor is a thread.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use device_sdk::host::TcpDial;
use device_sdk::protocol::DeviceName;
use device_sdk::update::{EmbassyBoot, Ended, Layout, Running, Slot, UpdateConfig};
use device_sdk::{BackoffConfig, Config, Device, Login, Memory, Overflow, RamQueue};
use embassy_boot::{BootLoader, BootLoaderConfig, State};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use embedded_storage_async::nor_flash as asynchronous;

const PAGE: u32 = 4_096;
const WORD: usize = 4;
/// Pages of the image that runs.
const ACTIVE: Range<u32> = 0..28;
/// Pages of the next one: one more, by which the loader swaps.
const DFU: Range<u32> = 28..57;
/// The page of the boot loader.
const LOADER: Range<u32> = 57..58;
/// The page of the SDK's notes.
const NOTES: Range<u32> = 58..59;

/// What stands at the beginning of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) version: u32,
    pub(super) floor: u32,
    /// It never reaches the gateway.
    pub(super) is_mute: bool,
}

impl Head {
    /// An image of so many bytes.
    pub(super) fn image(self, length: usize) -> Vec<u8> {
        let mut bytes = b"IMG0".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.floor.to_le_bytes());
        bytes.extend(u32::from(self.is_mute).to_le_bytes());
        let mut random = u64::from(self.version) | 1;
        while bytes.len() < length {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            bytes.extend(random.to_be_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn of(image: &[u8]) -> Self {
        assert_eq!(&image[..4], b"IMG0", "the active partition holds no image");
        let number = |at: usize| u32::from_le_bytes(*image[at..].first_chunk().expect("a head"));
        Self { version: number(4), floor: number(8), is_mute: number(12) != 0 }
    }
}

/// The chip; clones are the same one.
#[derive(Clone)]
struct Flash(Arc<Mutex<Chip>>);

struct Chip {
    bytes: Vec<u8>,
    /// How often each page was erased.
    erased: Vec<u32>,
}

impl Flash {
    fn with(image: &[u8]) -> Self {
        let mut bytes = vec![0xff; NOTES.end as usize * PAGE as usize];
        bytes[..image.len()].copy_from_slice(image);
        Self(Arc::new(Mutex::new(Chip { bytes, erased: vec![0; NOTES.end as usize] })))
    }

    fn chip(&self) -> MutexGuard<'_, Chip> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self, pages: Range<u32>) -> Part {
        Part {
            flash: self.clone(),
            start: pages.start * PAGE,
            length: (pages.end - pages.start) * PAGE,
        }
    }

    /// What a start does before the firmware: the boot loader, then a look at what is to run.
    fn boot(&self) -> (State, Head) {
        let (active, dfu, state) = (self.part(ACTIVE), self.part(DFU), self.part(LOADER));
        let mut loader = BootLoader::new(BootLoaderConfig { active, dfu, state });
        let mut page = vec![0; PAGE as usize];
        let state = loader.prepare_boot(&mut page).expect("the boot loader works");
        (state, Head::of(&self.chip().bytes))
    }
}

/// A part of the chip.
struct Part {
    flash: Flash,
    start: u32,
    length: u32,
}

impl ErrorType for Part {
    type Error = Infallible;
}

impl ReadNorFlash for Part {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Infallible> {
        let start = (self.start + offset) as usize;
        out.copy_from_slice(&self.flash.chip().bytes[start..][..out.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.length as usize
    }
}

impl NorFlash for Part {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE as usize;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Infallible> {
        assert!(
            from.is_multiple_of(PAGE) && to.is_multiple_of(PAGE) && to <= self.length,
            "whole pages"
        );
        let mut chip = self.flash.chip();
        for page in (self.start + from) / PAGE..(self.start + to) / PAGE {
            chip.bytes[(page * PAGE) as usize..][..PAGE as usize].fill(0xff);
            chip.erased[page as usize] += 1;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Infallible> {
        assert!(
            (offset as usize).is_multiple_of(WORD) && bytes.len().is_multiple_of(WORD),
            "whole words"
        );
        let start = (self.start + offset) as usize;
        let mut chip = self.flash.chip();
        for (place, byte) in chip.bytes[start..][..bytes.len()].iter_mut().zip(bytes) {
            assert_eq!(*place & byte, *byte, "a bit would have to be set");
            *place &= byte;
        }
        Ok(())
    }
}

impl asynchronous::ReadNorFlash for Part {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Infallible> {
        ReadNorFlash::read(self, offset, out)
    }

    fn capacity(&self) -> usize {
        ReadNorFlash::capacity(self)
    }
}

impl asynchronous::NorFlash for Part {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE as usize;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Infallible> {
        NorFlash::erase(self, from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Infallible> {
        NorFlash::write(self, offset, bytes)
    }
}

/// Who a board is.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) name: &'static str,
    pub(super) board: &'static str,
    pub(super) token: String,
    pub(super) gateway: SocketAddr,
    /// Whose images it takes.
    pub(super) author: [u8; 32],
}

/// A start of the board, and how it ended.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) state: String,
    pub(super) head: Head,
    /// What the SDK said; `None`: power was cut, or it runs still.
    pub(super) ended: Option<Ended>,
    /// Pages of the next image that were erased until then, and how often each.
    pub(super) erased: Vec<u32>,
}

#[derive(Default)]
struct Shared {
    cut: AtomicBool,
    over: AtomicBool,
    lives: Mutex<Vec<Life>>,
}

/// A board under power.
pub(super) struct Board {
    flash: Flash,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Board {
    pub(super) fn start(setup: Setup, image: &[u8]) -> Self {
        let (flash, shared) = (Flash::with(image), Arc::<Shared>::default());
        let (chip, lives) = (flash.clone(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || live(&setup, &chip, &lives));
        Self { flash, shared, thread: Some(thread) }
    }

    /// Cuts power; it is back at once.
    pub(super) fn cut_power(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
    }

    /// Pages of an image that were begun to be written.
    pub(super) fn pages_begun(&self) -> usize {
        let chip = self.flash.chip();
        let pages = &chip.erased[DFU.start as usize..DFU.end as usize];
        pages.iter().filter(|erased| **erased > 0).count()
    }

    /// What runs, byte for byte.
    pub(super) fn active(&self, length: usize) -> Vec<u8> {
        self.flash.chip().bytes[..length].to_vec()
    }

    /// All starts so far.
    pub(super) fn lives(&self) -> Vec<Life> {
        self.shared.lives.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the firmware panicked");
        }
    }
}

fn live(setup: &Setup, flash: &Flash, shared: &Shared) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut boot_id = 1;
    while !shared.over.load(Ordering::SeqCst) {
        let (state, head) = flash.boot();
        let life = Life { state: format!("{state:?}"), head, ended: None, erased: Vec::new() };
        let index = {
            let mut lives = shared.lives.lock().unwrap_or_else(PoisonError::into_inner);
            lives.push(life);
            lives.len() - 1
        };
        let ended = runtime.block_on(run(setup, flash, head, boot_id, shared));
        boot_id += 1;
        let erased = flash.chip().erased[DFU.start as usize..DFU.end as usize].to_vec();
        let mut lives = shared.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives[index].ended = ended;
        lives[index].erased = erased;
    }
}

/// One life of the firmware.
async fn run(
    setup: &Setup,
    flash: &Flash,
    head: Head,
    boot_id: u64,
    shared: &Shared,
) -> Option<Ended> {
    let mut memory = Box::new(Memory::<512, 2_048, 2_048, 512>::new());
    let mut config = Config::new(DeviceName::new(setup.name).expect("a name"));
    config.login = Some(Login { user: setup.name, password: setup.token.as_bytes() });
    config.backoff = BackoffConfig { min_ms: 50, max_ms: 500 };
    let (device, link) = Device::new(config, boot_id, &mut memory);
    let bytes = |pages: Range<u32>| pages.start * PAGE..pages.end * PAGE;
    let layout = Layout { image: bytes(DFU), notes: bytes(NOTES) };
    let mut slot = Slot::open(flash.part(0..NOTES.end), layout).await.expect("a slot");
    let mut word = [0; WORD];
    let mut boot = EmbassyBoot::new(flash.part(LOADER), &mut word);
    let running = Running {
        board: setup.board,
        version: head.version,
        floor: head.floor,
        author: &setup.author,
        digest: None,
    };
    let mut ring = vec![0; 4_096];
    let network = async {
        if head.is_mute {
            return std::future::pending().await;
        }
        let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
        let mut dial = TcpDial::new(setup.gateway.to_string());
        device.run(link, &mut queue, &mut dial, &mut ()).await
    };
    let power = async {
        while !shared.cut.swap(false, Ordering::SeqCst) && !shared.over.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let config = UpdateConfig { confirm_ms_max: 1_500 };
    // A new image must have time enough to connect on a busy machine; a mute one needs none.
    let config = if head.is_mute { config } else { UpdateConfig::default() };
    tokio::select! {
        ended = device.update(config, &running, &mut slot, &mut boot) => Some(ended),
        fault = network => panic!("the device ended: {fault:?}"),
        () = power => None,
    }
}
