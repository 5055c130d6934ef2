//! What the task makes of a trial, at the start of the device.

use futures_util::FutureExt as _;

use super::super::slot::tests::{Flash, fetch, layout, plan};
use super::*;
use crate::config::{Config, Memory};

const BOARD: &str = "board";

struct Loader {
    trial: Trial,
    confirmed: u32,
}

impl Boot for Loader {
    type Error = ();

    async fn trial(&mut self) -> Result<Trial, ()> {
        Ok(self.trial)
    }

    async fn confirm(&mut self) -> Result<(), ()> {
        self.confirmed += 1;
        Ok(())
    }

    async fn arm(&mut self) -> Result<(), ()> {
        panic!("nothing is to be started");
    }
}

/// A start in which the loader says this of an armed slot, and which never reaches the gateway: how it ends, stage of the
/// slot, and how often the loader heard that the image stays.
fn start(trial: Trial, running_version: u32) -> (Option<Ended>, Option<Stage>, u32) {
    start_of(Kind::Firmware, trial, running_version)
}

fn start_of(kind: Kind, trial: Trial, running_version: u32) -> (Option<Ended>, Option<Stage>, u32) {
    let mut slot = Slot::open(Flash::new(), layout()).now_or_never().unwrap().unwrap();
    fetch(&mut slot).unwrap();
    let mut memory = Box::new(Memory::<256, 128, 256, 0>::new());
    let name = crate::protocol::DeviceName::new("press").unwrap();
    let (device, _link) = Device::new(Config::new(name), 1, &mut memory);
    let running = Running { board: BOARD, version: running_version, floor: 0, author: &[0; 32] };
    let mut boot = Loader { trial, confirmed: 0 };
    let config = UpdateConfig::default();
    let mut task =
        Task { device: &device, kind, config, running: &running, slot: &mut slot, boot: &mut boot };
    let ended = task.settle_trial().now_or_never().and_then(|ended| ended.expect("all works"));
    (ended, slot.contents().map(|(_, stage)| *stage), boot.confirmed)
}

#[test]
fn an_image_that_was_taken_back_is_noted_and_told_before_the_loader_forgets_it() {
    assert_eq!(start(Trial::TakenBack, plan().version - 1), (None, Some(Stage::TakenBack), 0));
}

#[test]
fn a_power_cut_while_an_image_is_confirmed_does_not_make_it_one_that_was_taken_back() {
    assert_eq!(start(Trial::TakenBack, plan().version), (None, Some(Stage::Confirmed), 1));
}

/// While it is written, a function comes again under the version that runs.
#[test]
fn a_function_that_was_taken_back_is_not_confirmed_because_the_former_one_has_its_version() {
    let untold = (None, Some(Stage::TakenBack), 0);
    assert_eq!(start_of(Kind::Function, Trial::TakenBack, plan().version), untold);
}

#[test]
fn an_image_on_trial_stays_on_trial_until_the_gateway_is_reached() {
    assert_eq!(start(Trial::Running, plan().version), (None, Some(Stage::Armed), 0));
}

#[test]
fn an_image_of_another_version_than_was_offered_is_taken_back() {
    let ended = Some(Ended::TakeBack);
    assert_eq!(start(Trial::Running, plan().version + 1), (ended, Some(Stage::Armed), 0));
}
