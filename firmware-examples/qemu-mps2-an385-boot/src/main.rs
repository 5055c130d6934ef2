//! The boot loader of `mps2-an385`: swaps in a new image, starts it on trial, and takes it back.
//!
//! What is to be done stands in the region `UPDATE_STATE`, where the firmware writes it (`device_sdk::update::EmbassyBoot`).
//! Moving pages may be cut off at any point: each step is noted after it is done, and is done again if it is not noted.
//!
//! # Invariants
//! - An image is started under a running watchdog: one that hangs does not keep the device.
//! - An image on trial that did not confirm itself is taken back at the next start, whatever that start comes from.
//! - No signature is checked here: the firmware that marked the image did. See README.md.

#![no_std]
#![no_main]

use board_mps2::boot::{self, Image, Machine, NotAnImage};
use board_mps2::log;
use board_mps2::regions::Regions;
use embassy_boot::{BootError, BootLoader, BootLoaderConfig, State};
use embassy_time::Duration;

/// How long an image has to take the watchdog over, twice: after the first half it says so on the console.
const WATCHDOG: Duration = Duration::from_secs(20);
/// Bytes of a page that are moved at once.
const BUFFER_BYTES: usize = 1024;

#[cortex_m_rt::entry]
fn main() -> ! {
    let Machine { mut regions, watchdog } = boot::machine();
    let done =
        prepare(&mut regions).unwrap_or_else(|error| stop(format_args!("flash failed: {error:?}")));
    match (Image::find(&regions.update_active), done) {
        (Ok(image), _) => {
            let _running = watchdog.start(WATCHDOG);
            image.start()
        }
        (Err(why), Done::Swapped) => {
            log!("boot: the new image cannot be started: {why}; the former one comes back");
            board_mps2::reset()
        }
        (Err(NotAnImage::Blank), _) => {
            stop(format_args!("no image; README.md says how the first one is written"))
        }
        (Err(why), _) => stop(format_args!("the image cannot be started: {why}")),
    }
}

/// What was done to the image that is started now.
#[derive(Clone, Copy)]
enum Done {
    Nothing,
    /// It is on trial.
    Swapped,
    TakenBack,
}

/// Moves the pages of images, if something is to be done.
fn prepare(regions: &mut Regions) -> Result<Done, BootError> {
    let mut buffer = [0; BUFFER_BYTES];
    let mut loader = BootLoader::new(BootLoaderConfig {
        active: &mut regions.update_active,
        dfu: &mut regions.update_download,
        state: &mut regions.update_state,
    });
    if loader.read_state(&mut buffer)? == State::Swap {
        log!("boot: moving pages");
    }
    let before = loader.prepare_boot(&mut buffer)?;
    let done = match (before, loader.read_state(&mut buffer)?) {
        (State::Swap, State::Swap) => Done::Swapped,
        (State::Swap, _) => Done::TakenBack,
        _ => Done::Nothing,
    };
    log!("boot: {}", done.words());
    Ok(done)
}

impl Done {
    const fn words(self) -> &'static str {
        match self {
            Self::Nothing => "the image that ran",
            Self::Swapped => "a new image, on trial",
            Self::TakenBack => "the former image, taken back",
        }
    }
}

/// Says why nothing is started, and waits for a reset.
fn stop(why: core::fmt::Arguments<'_>) -> ! {
    log!("boot: {why}");
    board_mps2::halt()
}
