//! The task that updates the firmware: it takes offers, fetches, verifies, hands over to the boot loader, and confirms.
//!
//! # Invariants
//! - An image is handed to the boot loader only when the bytes in flash have the digest that its author signed.
//! - `Armed` is noted before the boot loader is told, and an image that is noted so is verified again before it is told
//!   again: after a swap the place of the image holds other bytes.
//! - An image confirms itself only after this start has reached the gateway, and only if it is of the version that was
//!   offered.
//! - Where one task updates the firmware and another one a function, one of them at a time has the *turn*: to settle what the
//!   start is, or to work on an offer. Only it asks the gateway for bytes, tells it anything, or asks
//!   for a restart; whoever is asked restarts before he does anything else.

use core::future::Future;

use embassy_time::{Duration, Instant, Timer, with_timeout};
use embedded_storage_async::nor_flash::NorFlash;

use device_protocol::limits::CHUNK_MAX;
use device_protocol::update::Stage as Told;

use super::exchange::{KeptOffer, Kind, Say};
use super::fetch::{ANSWER_MS, Fetch};
use super::plan::{Decision, Decline, Plan, Running, decide};
use super::slot::{Slot, SlotError, Stage};
use crate::device::Device;
use crate::state::State;

/// Longest wait for the gateway to hear that an image is about to be started.
const TELL: Duration = Duration::from_secs(30);
/// Wait of a task that gave way, so that the other one has its turn.
const GIVE_WAY: Duration = Duration::from_secs(1);
/// An image whose bytes were wrong so often is not fetched again before the next start.
const DAMAGED_MAX: u32 = 3;

/// What the boot loader says about this start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Nothing special.
    None,
    /// A new image runs for the first time: if it does not confirm itself, the former one comes back at the next start.
    Running,
    /// The former image has come back. The boot loader says so at each start until [`Boot::confirm`].
    TakenBack,
}

/// The boot loader, as the firmware sees it.
pub trait Boot {
    /// Why it failed.
    type Error;

    /// What this start is.
    fn trial(&mut self) -> impl Future<Output = Result<Trial, Self::Error>>;

    /// The image that runs stays.
    fn confirm(&mut self) -> impl Future<Output = Result<(), Self::Error>>;

    /// The image in the slot is to be started, on trial, at the next start.
    fn arm(&mut self) -> impl Future<Output = Result<(), Self::Error>>;

    /// Why the former image came back, for people: at most 200 bytes.
    fn why(&self) -> &'static str {
        "it did not reach the gateway, or is of another version than was offered"
    }
}

/// Times of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UpdateConfig {
    /// How long a new image has to reach the gateway, in milliseconds; then it is taken back.
    pub confirm_ms_max: u64,
}

impl Default for UpdateConfig {
    /// Five minutes.
    fn default() -> Self {
        Self { confirm_ms_max: 300_000 }
    }
}

/// Why the task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Ended {
    /// Restart the device: the boot loader starts the new image.
    Restart,
    /// Restart the device: this image did not reach the gateway, or is of another version than was offered. The boot
    /// loader brings the former one back.
    TakeBack,
    /// The flash of the slot failed.
    Flash,
    /// The boot loader failed.
    Boot,
}

/// Of which image the bytes were wrong, and how often.
struct Damaged {
    image: [u8; 8],
    times: u32,
}

impl Damaged {
    fn count(&mut self, image: [u8; 8]) {
        self.times = if self.image == image { self.times + 1 } else { 1 };
        self.image = image;
    }
}

/// What a start of the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    /// What runs stays.
    Runs,
    /// The device has to restart.
    Restart(Ended),
    /// The image of the slot was taken back; the gateway is to be told.
    TakenBack,
}

/// How one offer ended.
enum Outcome {
    /// There may be another one.
    Done,
    /// The gateway does not answer, and something of the other kind is offered: this one is to be taken up again after it.
    GaveWay,
    /// Verified and armed.
    Restart,
}

/// How the fetching of an image ended.
enum Taken {
    /// Verified and armed.
    Armed,
    /// Its bytes were wrong too often.
    Damaged,
    /// Before it was whole.
    Ended(Outcome),
}

impl Device<'_> {
    /// Updates the firmware. To be called once, beside [`Device::run`], and to be run to its end: what it returns says what
    /// the firmware has to do.
    pub async fn update<F: NorFlash, B: Boot>(
        &self,
        config: UpdateConfig,
        running: &Running<'_>,
        slot: &mut Slot<F>,
        boot: &mut B,
    ) -> Ended {
        let mut task = Task::new(self, Kind::Firmware, config, running, slot, boot);
        match task.run().await {
            Ok(ended) | Err(ended) => ended,
        }
    }

    /// Updates a function that the firmware runs, as [`Device::update`] updates the firmware: in its place or, with another
    /// slot, beside it. Beside it, call that one first: firmware on trial is then confirmed before a function on trial, or a
    /// new one, can restart the device. One of them fetches at a time; the other one's offer waits. The `board` of `running` is what functions have to be compiled for, and its `digest` tells which one runs; of `boot`, [`Boot::trial`] may wait until the
    /// function that runs has proved itself.
    pub async fn update_function<F: NorFlash, B: Boot>(
        &self,
        config: UpdateConfig,
        running: &Running<'_>,
        slot: &mut Slot<F>,
        boot: &mut B,
    ) -> Ended {
        let mut task = Task::new(self, Kind::Function, config, running, slot, boot);
        match task.run().await {
            Ok(ended) | Err(ended) => ended,
        }
    }
}

struct Task<'t, 'a, F, B> {
    device: &'t Device<'a>,
    kind: Kind,
    config: UpdateConfig,
    running: &'t Running<'t>,
    slot: &'t mut Slot<F>,
    boot: &'t mut B,
    /// How long an answer is waited for: as the last ones have shown, also after the other one's turn.
    wait_ms: u64,
}

impl<'t, 'a, F: NorFlash, B: Boot> Task<'t, 'a, F, B> {
    const fn new(
        device: &'t Device<'a>,
        kind: Kind,
        config: UpdateConfig,
        running: &'t Running<'t>,
        slot: &'t mut Slot<F>,
        boot: &'t mut B,
    ) -> Self {
        Self { device, kind, config, running, slot, boot, wait_ms: ANSWER_MS }
    }

    async fn run(&mut self) -> Result<Ended, Ended> {
        let (device, kind) = (self.device, self.kind);
        device.exchange(|exchange| exchange.attend(kind));
        let turn = device.update_turn.lock().await;
        let settled = self.settle_trial().await?;
        if let Settled::Restart(ended) = settled {
            return Ok(keeping(turn, ended));
        }
        if self.rearm().await? {
            return Ok(keeping(turn, Ended::Restart));
        }
        drop(turn);
        if settled == Settled::TakenBack {
            self.tell_taken_back().await?;
        }
        let mut damaged = Damaged { image: [0; 8], times: 0 };
        loop {
            device.offered(kind).await;
            let turn = device.update_turn.lock().await;
            let Some(offer) = device.exchange(|exchange| exchange.take_offer(kind)) else {
                continue;
            };
            match self.handle(&offer, &mut damaged).await? {
                Outcome::Done => {}
                Outcome::GaveWay => {
                    device.exchange(|exchange| exchange.put_back(kind, offer));
                    drop(turn);
                    Timer::after(GIVE_WAY).await;
                }
                Outcome::Restart => return Ok(keeping(turn, Ended::Restart)),
            }
        }
    }

    /// Confirms a new image once it has reached the gateway, or notes that one was taken back.
    async fn settle_trial(&mut self) -> Result<Settled, Ended> {
        let trial = self.boot.trial().await.map_err(|_| Ended::Boot)?;
        let stage = self.slot.contents().map(|(_, stage)| *stage);
        let is_own = self.is_of_slot();
        let is_kept = match trial {
            // Power was cut between the loader's word and the note: without it, the floor of the image would not hold.
            Trial::None => is_own && stage == Some(Stage::Armed),
            Trial::Running => {
                // It would be offered again as soon as it has confirmed itself, and be fetched without end.
                let is_another = stage.is_some() && !is_own;
                let deadline = Duration::from_millis(self.config.confirm_ms_max);
                if is_another || with_timeout(deadline, self.device.online()).await.is_err() {
                    return Ok(Settled::Restart(Ended::TakeBack));
                }
                true
            }
            // Power was cut while the loader was told that the image stays: it speaks of the one that runs. Or of none.
            Trial::TakenBack => is_own || stage.is_none(),
        };
        if is_kept {
            self.keep().await?;
        } else if trial == Trial::TakenBack {
            if stage != Some(Stage::TakenBack) {
                self.slot.reached(Stage::TakenBack).await.map_err(flash)?;
            }
            return Ok(Settled::TakenBack);
        }
        Ok(Settled::Runs)
    }

    /// Tells that an image was taken back, before the boot loader forgets it. The other task may have its turn until the gateway
    /// is reached.
    async fn tell_taken_back(&mut self) -> Result<(), Ended> {
        let Some((image, length)) = self.image() else { return Ok(()) };
        self.device.online().await;
        let _turn = self.device.update_turn.lock().await;
        let why = self.boot.why();
        // Unheard, it is told at the next start.
        if self.tell(image, Told::TakenBack, length, why).await {
            self.boot.confirm().await.map_err(|_| Ended::Boot)?;
        }
        Ok(())
    }

    /// Whether the image that runs is the one that the slot is about.
    fn is_of_slot(&self) -> bool {
        let contents = self.slot.contents();
        contents.is_some_and(|(plan, _)| self.running.is(&plan.digest, plan.version))
    }

    /// The image that runs stays.
    async fn keep(&mut self) -> Result<(), Ended> {
        // The boot loader first: a note before it would be taken for that of an image that was taken back.
        self.boot.confirm().await.map_err(|_| Ended::Boot)?;
        if let Some((image, length)) = self.image() {
            self.slot.reached(Stage::Confirmed).await.map_err(flash)?;
            self.tell(image, Told::Confirmed, length, "").await;
        }
        Ok(())
    }

    /// Name and length of the image that the slot is about.
    fn image(&self) -> Option<([u8; 8], u32)> {
        self.slot.contents().map(|(plan, _)| (plan.image(), plan.length))
    }

    /// Tells the boot loader again, where power was cut between the note and the telling.
    async fn rearm(&mut self) -> Result<bool, Ended> {
        let is_armed = matches!(self.slot.contents(), Some((_, Stage::Armed)));
        if !is_armed || !self.slot.verify().await.map_err(flash)? {
            return Ok(false);
        }
        self.boot.arm().await.map_err(|_| Ended::Boot)?;
        Ok(true)
    }

    async fn handle(&mut self, offer: &KeptOffer, damaged: &mut Damaged) -> Result<Outcome, Ended> {
        let image = offer.offer().image();
        let mut offset = 0;
        let (outcome, stage, why) = match self.decide(offer, damaged) {
            Decision::Runs => (Outcome::Done, Told::Confirmed, ""),
            Decision::Decline(why) => (Outcome::Done, Told::Declined, why.reason()),
            Decision::Take(plan) => match self.take(&plan, damaged).await? {
                // Whether it is heard or not: the image is started.
                Taken::Armed => {
                    offset = plan.length;
                    (Outcome::Restart, Told::Verified, "")
                }
                Taken::Damaged => {
                    (Outcome::Done, Told::Declined, "its bytes are not those that were signed")
                }
                Taken::Ended(outcome) => return Ok(outcome),
            },
        };
        self.tell(image, stage, offset, why).await;
        Ok(outcome)
    }

    fn decide(&self, offer: &KeptOffer, damaged: &Damaged) -> Decision {
        let offer = offer.offer();
        if damaged.image == offer.image() && damaged.times >= DAMAGED_MAX {
            return Decision::Decline(Decline::Damaged);
        }
        // The slot does not know of which app the functions were that it gathered.
        let kept_floor = if self.kind == Kind::Firmware { self.slot.floor() } else { 0 };
        decide(&offer, self.running, kept_floor, self.slot.capacity(), self.slot.taken_back())
    }

    /// Fetches an image until it is the one that was signed, and arms it.
    async fn take(&mut self, plan: &Plan, damaged: &mut Damaged) -> Result<Taken, Ended> {
        // A take-back that could not be told is over now: the loader's word must not be taken for one on this image.
        self.boot.confirm().await.map_err(|_| Ended::Boot)?;
        loop {
            if let Some(ended) = self.fetch(plan).await? {
                return Ok(Taken::Ended(ended));
            }
            if self.slot.verify().await.map_err(flash)? {
                break;
            }
            // The offer does not come again by itself.
            damaged.count(plan.image());
            self.slot.begin_anew(plan).await.map_err(flash)?;
            if damaged.times >= DAMAGED_MAX {
                return Ok(Taken::Damaged);
            }
        }
        self.slot.reached(Stage::Armed).await.map_err(flash)?;
        self.boot.arm().await.map_err(|_| Ended::Boot)?;
        Ok(Taken::Armed)
    }

    /// Fetches what is missing of an image; what it ends with where that is not all.
    async fn fetch(&mut self, plan: &Plan) -> Result<Option<Outcome>, Ended> {
        let kept = self.slot.begin(plan).await.map_err(flash)?;
        let mut fetch = Fetch::new(plan, kept, self.chunk_bytes(), Slot::<F>::PAGE, self.wait_ms);
        let mut buffer = [0; CHUNK_BYTES];
        // The first question would take its place.
        self.tell(plan.image(), Told::Fetching, kept, "").await;
        let mut ended = None;
        while !fetch.is_whole() && ended.is_none() {
            self.device.online().await;
            if let Some(want) = fetch.want(Instant::now().as_millis()) {
                self.device.exchange(|exchange| {
                    exchange.expect(Some(&fetch));
                    exchange.say(Say::Want(want));
                });
            }
            let arrived = self.device.chunk_or_offer(self.kind, &mut buffer, fetch.due_ms()).await;
            match arrived {
                // The question is lost with the connection.
                Arrived::Nothing if !matches!(self.device.state(), State::Online { .. }) => {
                    fetch.lost();
                }
                Arrived::Nothing => {
                    let other = self.kind.other();
                    let is_silent = fetch.due_ms() <= Instant::now().as_millis();
                    if is_silent && self.device.exchange(|exchange| exchange.is_awaited(other)) {
                        fetch.silent();
                        ended = Some(Outcome::GaveWay);
                    }
                }
                Arrived::Offer => ended = Some(Outcome::Done),
                Arrived::Chunk(length) => {
                    self.slot.write(fetch.offset(), &buffer[..length]).await.map_err(flash)?;
                    fetch.kept(Instant::now().as_millis());
                }
            }
        }
        self.wait_ms = fetch.wait_ms();
        self.device.exchange(|exchange| exchange.expect(None));
        Ok(ended)
    }

    /// Bytes to ask for at once: whole words of the flash.
    fn chunk_bytes(&self) -> u16 {
        let room = self.device.exchange(|exchange| exchange.room()).min(CHUNK_BYTES);
        #[expect(clippy::cast_possible_truncation, reason = "at most 512")]
        let bytes = (room - room % F::WRITE_SIZE) as u16;
        bytes
    }

    /// Tells the gateway how far an image has come; whether it heard that in time.
    async fn tell(&self, image: [u8; 8], stage: Told, offset: u32, reason: &'static str) -> bool {
        let say = Say::Progress { image, stage, offset, reason };
        self.device.exchange(|exchange| exchange.say(say));
        self.device.change(|_| ());
        with_timeout(TELL, self.device.update_said()).await.is_ok()
    }
}

/// Longest chunk that is asked for: it lies on the stack of the task once.
const CHUNK_BYTES: usize = 512;
const _: () = assert!(CHUNK_BYTES <= CHUNK_MAX);

enum Arrived {
    /// Not yet: the question is due again.
    Nothing,
    Chunk(usize),
    /// Another image is offered.
    Offer,
}

/// Whoever asks for a restart has the turn until that comes: the other task begins nothing any more.
fn keeping<T>(turn: T, ended: Ended) -> Ended {
    core::mem::forget(turn);
    ended
}

const fn flash(error: SlotError) -> Ended {
    match error {
        SlotError::Flash | SlotError::Layout => Ended::Flash,
    }
}

impl Device<'_> {
    async fn offered(&self, kind: Kind) {
        self.bell.until(|| self.exchange(|exchange| exchange.has_offer(kind)).then_some(())).await;
    }

    async fn update_said(&self) {
        self.bell.until(|| self.exchange(|exchange| exchange.is_said()).then_some(())).await;
    }

    async fn chunk_or_offer(&self, kind: Kind, out: &mut [u8], due_ms: u64) -> Arrived {
        self.change(|_| ());
        let look = || {
            let is_there =
                self.exchange(|exchange| exchange.has_chunk() || exchange.has_offer(kind));
            let is_gone = !matches!(self.state(), State::Online { .. });
            (is_there || is_gone).then_some(())
        };
        let due = Timer::at(Instant::from_millis(due_ms));
        embassy_futures::select::select(self.bell.until(look), due).await;
        self.exchange(|exchange| match exchange.take_chunk(out) {
            Some(length) => Arrived::Chunk(length),
            None if exchange.has_offer(kind) => Arrived::Offer,
            None => Arrived::Nothing,
        })
    }
}

#[cfg(test)]
mod tests;
