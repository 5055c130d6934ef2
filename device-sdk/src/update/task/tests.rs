//! What the task makes of a trial, at the start of the device, and of offers.

use std::ops::ControlFlow;

use device_protocol::Up;
use device_protocol::update::{Chunk, Digest, Offer, Progress, Want};
use ed25519_dalek::{Signer, SigningKey};
use embassy_futures::block_on;
use embassy_futures::select::{Either, select};
use futures_util::FutureExt as _;

use super::super::exchange::Exchange;
use super::super::plan::Decline;
use super::super::slot::tests::{Flash, fetch, image, layout, plan};
use super::*;
use crate::config::{Config, Memory};

const BOARD: &str = "board";

struct Loader {
    trial: Trial,
    confirmed: u32,
    armed: u32,
}

impl Loader {
    fn new(trial: Trial) -> Self {
        Self { trial, confirmed: 0, armed: 0 }
    }
}

impl Boot for Loader {
    type Error = ();

    async fn trial(&mut self) -> Result<Trial, ()> {
        Ok(self.trial)
    }

    async fn confirm(&mut self) -> Result<(), ()> {
        self.confirmed += 1;
        self.trial = Trial::None;
        Ok(())
    }

    async fn arm(&mut self) -> Result<(), ()> {
        self.armed += 1;
        Ok(())
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// Digest of the function that runs in these tests; that of firmware is not known.
const OWN_DIGEST: Digest = [0xe0; 32];

/// Runs `with` with a task of a device that runs this version, and that is online.
fn with_task<T>(
    kind: Kind,
    running_version: u32,
    slot: &mut Slot<Flash>,
    boot: &mut Loader,
    with: impl FnOnce(&mut Task<'_, '_, Flash, Loader>) -> T,
) -> T {
    let mut memory = Box::new(Memory::<512, 128, 256, 0>::new());
    let name = crate::protocol::DeviceName::new("press").unwrap();
    let (device, _link) = Device::new(Config::new(name), 1, &mut memory);
    let author = key().verifying_key().to_bytes();
    let digest = (kind == Kind::Function).then_some(OWN_DIGEST);
    let running =
        Running { board: BOARD, version: running_version, floor: 0, author: &author, digest };
    let config = UpdateConfig::default();
    with(&mut Task::new(&device, kind, config, &running, slot, boot))
}

/// What a flash in memory does is done at once, and well.
fn now<T, E: core::fmt::Debug>(future: impl Future<Output = Result<T, E>>) -> T {
    future.now_or_never().expect("it does not wait").expect("it works")
}

fn open(flash: Flash) -> Slot<Flash> {
    now(Slot::open(flash, layout()))
}

/// What a start came to, nothing if it waits; the stage of the slot, and how often the loader heard that the image stays.
type Start = (Option<Settled>, Option<Stage>, u32);

/// A start in which the loader says this of an armed slot, and which never reaches the gateway.
fn start(trial: Trial, running_version: u32) -> Start {
    start_of(Kind::Firmware, trial, running_version)
}

fn start_of(kind: Kind, trial: Trial, running_version: u32) -> Start {
    let mut slot = open(Flash::new());
    fetch(&mut slot).unwrap();
    let mut boot = Loader::new(trial);
    let ended = with_task(kind, running_version, &mut slot, &mut boot, |task| {
        task.settle_trial().now_or_never().map(|settled| settled.expect("all works"))
    });
    assert_eq!(boot.armed, 0, "nothing is to be started");
    (ended, slot.contents().map(|(_, stage)| *stage), boot.confirmed)
}

#[test]
fn an_image_that_was_taken_back_is_noted_and_told_before_the_loader_forgets_it() {
    let untold = (Some(Settled::TakenBack), Some(Stage::TakenBack), 0);
    assert_eq!(start(Trial::TakenBack, plan().version - 1), untold);
}

#[test]
fn while_nobody_hears_of_a_take_back_the_other_task_has_its_turn() {
    let (mut slot, mut boot) = (open(Flash::new()), Loader::new(Trial::TakenBack));
    fetch(&mut slot).unwrap();
    with_task(Kind::Firmware, plan().version - 1, &mut slot, &mut boot, |task| {
        let turn = &task.device.update_turn;
        let mut run = core::pin::pin!(task.run());
        assert!(run.as_mut().now_or_never().is_none(), "the gateway is not reached");
        assert!(turn.try_lock().is_ok());
    });
    assert_eq!(boot.confirmed, 0, "it is to be told still");
}

#[test]
fn whoever_asks_for_a_restart_keeps_the_turn() {
    let (mut slot, mut boot) = (open(Flash::new()), Loader::new(Trial::Running));
    fetch(&mut slot).unwrap();
    with_task(Kind::Firmware, plan().version + 1, &mut slot, &mut boot, |task| {
        let turn = &task.device.update_turn;
        let ended = task.run().now_or_never();
        assert_eq!(ended, Some(Ok(Ended::TakeBack)));
        assert!(turn.try_lock().is_err());
    });
}

#[test]
fn a_power_cut_while_an_image_is_confirmed_does_not_make_it_one_that_was_taken_back() {
    assert_eq!(start(Trial::TakenBack, plan().version), (None, Some(Stage::Confirmed), 1));
    // Between the loader's word and the note.
    assert_eq!(start(Trial::None, plan().version), (None, Some(Stage::Confirmed), 1));
    let other = (Some(Settled::Runs), Some(Stage::Armed), 0);
    assert_eq!(start(Trial::None, plan().version - 1), other);
}

/// While it is written, a function comes again under the version that runs.
#[test]
fn a_function_that_was_taken_back_is_not_confirmed_because_the_former_one_has_its_version() {
    let untold = (Some(Settled::TakenBack), Some(Stage::TakenBack), 0);
    assert_eq!(start_of(Kind::Function, Trial::TakenBack, plan().version), untold);
}

#[test]
fn an_image_on_trial_stays_on_trial_until_the_gateway_is_reached() {
    assert_eq!(start(Trial::Running, plan().version), (None, Some(Stage::Armed), 0));
}

#[test]
fn an_image_of_another_version_than_was_offered_is_taken_back() {
    let ended = Some(Settled::Restart(Ended::TakeBack));
    assert_eq!(start(Trial::Running, plan().version + 1), (ended, Some(Stage::Armed), 0));
}

/// An offer of the image that `plan` is of, signed.
fn offer(plan: &Plan) -> KeptOffer {
    let Plan { digest, length, version, floor } = *plan;
    let mut offer = Offer { digest, length, board: BOARD, version, floor, signature: &[] };
    let signature = key().sign(&offer.signed().unwrap()).to_bytes();
    offer.signature = &signature;
    KeptOffer::new(&offer).unwrap()
}

/// Plays the gateway and the task that runs the device: what is said arrives, and a question is answered with what
/// `hear` makes of it. Ends when that says so.
async fn gateway(
    device: &Device<'_>,
    mut hear: impl FnMut(&Up<'_>) -> ControlFlow<(), Option<Vec<u8>>>,
) {
    device.change(|facts| facts.state = State::Online { resumed: false });
    loop {
        let seen = device.changes();
        let Some(up) = device.exchange(Exchange::next) else {
            device.bell.until_running(|| (device.changes() != seen).then_some(())).await;
            continue;
        };
        device.exchange(Exchange::settled);
        let ControlFlow::Continue(answer) = hear(&up) else { return };
        if let (Up::Want(Want { image, offset, .. }), Some(bytes)) = (up, answer) {
            let chunk = Chunk { image, offset, bytes: &bytes };
            assert!(device.exchange(|exchange| exchange.arrived(&chunk)));
        }
        device.change(|_| ());
    }
}

/// The bytes that are asked for.
fn answer(want: &Want) -> Vec<u8> {
    let from = usize::try_from(want.offset).unwrap();
    image()[from..from + usize::from(want.length)].to_vec()
}

/// Has the task handle the offer of [`plan`] at a gateway that answers so; nothing if the gateway ended it.
fn handle(
    task: &mut Task<'_, '_, Flash, Loader>,
    damaged: &mut Damaged,
    hear: impl FnMut(&Up<'_>) -> ControlFlow<(), Option<Vec<u8>>>,
) -> Option<Outcome> {
    let (device, offer) = (task.device, offer(&plan()));
    match block_on(select(task.handle(&offer, damaged), gateway(device, hear))) {
        Either::First(outcome) => Some(outcome.expect("all works")),
        Either::Second(()) => None,
    }
}

const UNDAMAGED: Damaged = Damaged { image: [0; 8], times: 0 };

/// The flash of this test has pages of 256 bytes, the device room for 512.
#[test]
fn no_chunk_reaches_over_the_end_of_a_page() {
    let (mut slot, mut boot) = (open(Flash::new()), Loader::new(Trial::None));
    let mut wanted = Vec::new();
    let outcome = with_task(Kind::Firmware, 1, &mut slot, &mut boot, |task| {
        handle(task, &mut { UNDAMAGED }, |up| {
            let Up::Want(want) = up else { return ControlFlow::Continue(None) };
            wanted.push((want.offset, want.length));
            ControlFlow::Continue(Some(answer(want)))
        })
    });
    assert!(matches!(outcome, Some(Outcome::Restart)));
    assert_eq!(wanted, [(0, 256), (256, 256), (512, 256), (768, 77)]);
    assert_eq!((slot.contents(), boot.armed), (Some(&(plan(), Stage::Armed)), 1));
}

/// At a gateway whose first `wrong` copies of the image are wrong: how it ended, copies, and stages that were told.
fn fetched(wrong: u32) -> (bool, u32, Vec<Told>) {
    let (mut slot, mut boot) = (open(Flash::new()), Loader::new(Trial::None));
    let (mut copies, mut told, mut damaged) = (0, Vec::new(), UNDAMAGED);
    let outcome = with_task(Kind::Firmware, 1, &mut slot, &mut boot, |task| {
        // The same offer comes again, as after a new connection.
        let mut outcome = None;
        for _ in 0..2 {
            outcome = handle(task, &mut damaged, |up| match up {
                Up::Want(want) => {
                    copies += u32::from(want.offset == 0);
                    let mut bytes = answer(want);
                    bytes[0] ^= u8::from(copies <= wrong);
                    ControlFlow::Continue(Some(bytes))
                }
                Up::Progress(Progress { stage, .. }) => {
                    told.push(*stage);
                    ControlFlow::Continue(None)
                }
                _ => panic!("{up:?}"),
            });
            if matches!(outcome, Some(Outcome::Restart)) {
                break;
            }
        }
        outcome
    });
    let is_armed = matches!(outcome, Some(Outcome::Restart));
    let stage = slot.contents().map(|(_, stage)| *stage);
    let wanted = if is_armed { Stage::Armed } else { Stage::Fetching(0) };
    assert_eq!((boot.armed, stage), (u32::from(is_armed), Some(wanted)));
    (is_armed, copies, told)
}

#[test]
fn wrong_bytes_are_fetched_again_and_only_right_ones_are_started() {
    use Told::{Declined, Fetching, Verified};
    assert_eq!(fetched(0), (true, 1, vec![Fetching, Verified]));
    assert_eq!(fetched(1), (true, 2, vec![Fetching, Fetching, Verified]));
    // It is declined after the third copy, and again when it is offered again, without a question.
    let told = vec![Fetching, Fetching, Fetching, Declined, Declined];
    assert_eq!(fetched(u32::MAX), (false, 3, told));
}

#[test]
fn a_take_back_that_could_not_be_told_says_nothing_of_the_image_that_is_fetched_after_it() {
    let (mut slot, mut boot) = (open(Flash::new()), Loader::new(Trial::TakenBack));
    with_task(Kind::Firmware, 1, &mut slot, &mut boot, |task| {
        let mut chunks = 0;
        let ended = handle(task, &mut { UNDAMAGED }, |up| match up {
            Up::Want(_) if chunks == 2 => ControlFlow::Break(()),
            Up::Want(want) => {
                chunks += 1;
                ControlFlow::Continue(Some(answer(want)))
            }
            _ => ControlFlow::Continue(None),
        });
        assert!(ended.is_none(), "power is cut");
    });
    let mut slot = open(slot.into_flash());
    with_task(Kind::Firmware, 1, &mut slot, &mut boot, |task| {
        let settled = task.settle_trial().now_or_never();
        assert_eq!(settled, Some(Ok(Settled::Runs)), "the loader's word is of no image any more");
    });
    assert_eq!(slot.contents(), Some(&(plan(), Stage::Fetching(512))));
}

#[test]
fn an_offer_below_the_floor_of_a_confirmed_image_is_declined() {
    let (mut slot, mut boot) = (open(Flash::new()), Loader::new(Trial::None));
    now(slot.begin(&Plan { digest: [5; 32], version: 8, floor: 4, ..plan() }));
    now(slot.reached(Stage::Confirmed));
    let mut told = Vec::new();
    // The image that runs states no floor; what is offered has version 3.
    let outcome = with_task(Kind::Firmware, 8, &mut slot, &mut boot, |task| {
        handle(task, &mut { UNDAMAGED }, |up| {
            let Up::Progress(progress) = up else { panic!("{up:?}") };
            told.push((progress.stage, progress.reason.to_owned()));
            ControlFlow::Continue(None)
        })
    });
    assert!(matches!(outcome, Some(Outcome::Done)));
    assert_eq!(told, [(Told::Declined, Decline::Floor.reason().to_owned())]);
}

/// Offers [`plan`] to a device with a function of this version in its slot, confirmed: what the gateway is told.
fn told_beside(kind: Kind, version: u32, floor: u32) -> Vec<Told> {
    let (mut slot, mut boot) = (open(Flash::new()), Loader::new(Trial::None));
    now(slot.begin(&Plan { digest: OWN_DIGEST, version, floor, ..plan() }));
    now(slot.reached(Stage::Confirmed));
    let mut told = Vec::new();
    with_task(kind, version, &mut slot, &mut boot, |task| {
        handle(task, &mut { UNDAMAGED }, |up| match up {
            Up::Want(want) => ControlFlow::Continue(Some(answer(want))),
            Up::Progress(progress) => {
                told.push(progress.stage);
                ControlFlow::Continue(None)
            }
            _ => panic!("{up:?}"),
        })
    });
    told
}

#[test]
fn a_function_is_fetched_under_the_version_that_runs_and_below_a_floor_of_another_app() {
    let fetched = vec![Told::Fetching, Told::Verified];
    assert_eq!(told_beside(Kind::Function, plan().version, 0), fetched);
    assert_eq!(told_beside(Kind::Firmware, plan().version, 0), [Told::Confirmed]);
    let above = plan().version + 1;
    assert_eq!(told_beside(Kind::Function, above, above), fetched);
    assert_eq!(told_beside(Kind::Firmware, above, above), [Told::Declined]);
}
