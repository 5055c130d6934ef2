//! Updates of the function: offered and fetched as firmware is, into the slot that does not run; tried at the next start.
//!
//! A new function has proved itself when an event has not ended in a fault, or when none came for some minutes; then the
//! gateway has to be reached as well. One whose event does not end in that time is taken back. Before it is begun, the image as it lies in flash is verified as at each start.

use core::sync::atomic::{AtomicBool, Ordering};

use board_mps2::flash::Flash;
use board_mps2::log;
use device_function::{Image, PLATFORM, Slots, StoreError, Trial as Stand, Verdict, Why};
use device_sdk::Device;
use device_sdk::update::{Boot, Layout, Running, Slot, Trial, UpdateConfig};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, with_timeout};
use embedded_storage_async::nor_flash::NorFlash;

use crate::pair::Pair;

/// A function that is given no event for so long has done nothing wrong.
const QUIET_MAX: Duration = Duration::from_secs(300);

/// How the function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// By its events.
    Of(Verdict),
    /// There is nothing to run.
    DoesNotLoad,
}

static JUDGEMENT: Signal<CriticalSectionRawMutex, Judgement> = Signal::new();

/// Whether an event has begun and not ended.
static IS_WORKING: AtomicBool = AtomicBool::new(false);

/// Says that an event has begun, or ended.
pub(crate) fn working(is_working: bool) {
    IS_WORKING.store(is_working, Ordering::Relaxed);
}

/// Says how the function does.
pub(crate) fn judge(judgement: Judgement) {
    JUDGEMENT.signal(judgement);
}

/// Which function runs, as offers have it; zeros: there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Version {
    version: u32,
    floor: u32,
    digest: [u8; 32],
}

impl Version {
    pub(crate) fn of(image: &Image) -> Self {
        let header = &image.header;
        let (version, floor) = (header.offer_version(), header.offer_floor());
        Self { version, floor, digest: image.digest() }
    }
}

/// Where the next function goes.
pub(crate) struct Place<F> {
    pub(crate) slots: Slots<F>,
    /// The slot that does not run.
    pub(crate) other: Flash,
    pub(crate) notes: Flash,
}

/// Takes offers for ever; restarts the device for a new function.
pub(crate) async fn run(
    device: &Device<'static>,
    place: Place<Flash>,
    author: &[u8; 32],
    version: Version,
) {
    let Place { slots, other, notes } = place;
    let image = 0..other.bytes();
    let layout = Layout { notes: image.end..image.end + notes.bytes(), image };
    let flash = Pair { first: other, second: notes };
    let mut slot = match Slot::open(flash, layout).await {
        Ok(slot) => slot,
        Err(error) => return log!("functions cannot be updated: {error:?}"),
    };
    let Version { version, floor, digest } = version;
    let running = Running { board: PLATFORM, version, floor, author, digest: Some(digest) };
    let mut boot = FunctionBoot { slots };
    let ended =
        device.update_function(UpdateConfig::default(), &running, &mut slot, &mut boot).await;
    log!("the function's slots: {ended:?}, the device restarts");
    board_mps2::reset()
}

/// The slots in the place of a boot loader.
struct FunctionBoot<F> {
    slots: Slots<F>,
}

impl<F: NorFlash> Boot for FunctionBoot<F> {
    type Error = StoreError;

    async fn trial(&mut self) -> Result<Trial, StoreError> {
        match self.slots.trial() {
            Stand::Settled | Stand::Armed => Ok(Trial::None),
            Stand::TakenBack(why) => {
                log!("the new function was taken back: {}", why.reason());
                Ok(Trial::TakenBack)
            }
            Stand::Running => {
                let judgement = with_timeout(QUIET_MAX, JUDGEMENT.wait()).await;
                let why = match judgement {
                    Ok(Judgement::Of(Verdict::Proven)) => return Ok(Trial::Running),
                    Ok(Judgement::Of(Verdict::Fails)) => Why::Faults,
                    Ok(Judgement::DoesNotLoad) => Why::Load,
                    Err(_) if IS_WORKING.load(Ordering::Relaxed) => Why::Undelivered,
                    Err(_) => return Ok(Trial::Running),
                };
                self.slots.take_back(why).await?;
                log!("the new function is taken back: {}, the device restarts", why.reason());
                board_mps2::reset()
            }
        }
    }

    async fn confirm(&mut self) -> Result<(), StoreError> {
        self.slots.confirm().await
    }

    async fn arm(&mut self) -> Result<(), StoreError> {
        self.slots.arm().await
    }

    fn why(&self) -> &'static str {
        match self.slots.trial() {
            Stand::TakenBack(why) => why.reason(),
            Stand::Settled | Stand::Armed | Stand::Running => "",
        }
    }
}
