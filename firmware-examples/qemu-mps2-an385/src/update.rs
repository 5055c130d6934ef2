//! Firmware updates: the slot in flash, the boot loader's state, and the watchdog that the boot loader has started.

use board_mps2::flash::Flash;
use board_mps2::label::{Drill, Label, label};
use board_mps2::regions::{DOWNLOAD_IMAGE, DOWNLOAD_NOTES};
use board_mps2::watchdog::Watchdog;
use board_mps2::{log, reset};
use device_sdk::Device;
use device_sdk::update::{EmbassyBoot, Ended, Layout, Running, Slot, UpdateConfig};
use embassy_time::{Duration, Timer};

/// Images for another board are declined: `board` of `[firmware]` in `holm.toml`.
const BOARD: &str = "mps2-an385";
/// Twice the longest time that tasks may leave it unfed: long, because a busy host stops the machine, too.
const WATCHDOG: Duration = Duration::from_secs(30);
const FEED: Duration = Duration::from_secs(1);

/// The image that runs: says which it is, and does what is wrong with it. Whether it is to speak with the gateway.
pub(crate) fn start() -> (Label, bool) {
    let label = label();
    log!("image version {} floor {}", label.version, label.floor);
    if let Some(drill) = label.drill {
        drill.perform();
    }
    (label, label.drill != Some(Drill::Mute))
}

/// Feeds the watchdog for as long as tasks run.
#[embassy_executor::task]
pub(crate) async fn live(watchdog: Watchdog) {
    let mut watchdog = watchdog.start(WATCHDOG);
    loop {
        watchdog.feed();
        Timer::after(FEED).await;
    }
}

/// What the task below needs.
pub(crate) struct Parts {
    pub(crate) label: Label,
    /// Whose images are taken; nobody's without one.
    pub(crate) author: Option<[u8; 32]>,
    pub(crate) confirm_ms_max: u32,
    /// The region of the image that is fetched.
    pub(crate) download: Flash,
    /// The region of the boot loader's state.
    pub(crate) state: Flash,
}

/// Updates the firmware, and restarts the device when that is due.
#[embassy_executor::task]
pub(crate) async fn update(device: &'static Device<'static>, parts: Parts) {
    let Parts { label, author, confirm_ms_max, download, state } = parts;
    let Some(author) = author else {
        return log!("update: provisioned without an author's key, takes no image");
    };
    let layout = Layout { image: DOWNLOAD_IMAGE, notes: DOWNLOAD_NOTES };
    let mut slot =
        Slot::open(download, layout).await.expect("invariant: the layout fits the region");
    let mut word = [0; board_mps2::flash::WORD_BYTES];
    let mut boot = EmbassyBoot::new(state, &mut word);
    let Label { version, floor, .. } = label;
    let running = Running { board: BOARD, version, floor, author: &author, digest: None };
    let config = UpdateConfig { confirm_ms_max: confirm_ms_max.into() };
    match device.update(config, &running, &mut slot, &mut boot).await {
        Ended::Restart => log!("update: restarts into the new image"),
        Ended::TakeBack => {
            log!("update: this image does not confirm itself, restarts to be taken back");
        }
        // What was fetched is kept, or fetched again: it is tried once more at the next start.
        ended @ (Ended::Flash | Ended::Boot) => return log!("update: ended, {ended:?} failed"),
    }
    reset()
}
