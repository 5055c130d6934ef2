//! Runs the function of the active slot on the device's events, and sees to what it did.
//!
//! # What holds
//! - State and publishes of an event are kept in flash together, before anything of them leaves.
//! - Each publish reaches the gateway at least once, unless an outage is so long that the queue overflows and drops its oldest,
//!   counted: it stays owed until the client's queue, in flash too, has it. After a power cut in between, those of one event
//!   are sent a second time, under new numbers.
//! - The event itself is in memory only: a power cut before its outcome is kept is as if it had not been measured.

use alloc::string::{String, ToString};
use core::cell::Cell;
use core::fmt::{self, Display};

use board_mps2::flash::Flash;
use board_mps2::i2c::I2c;
use board_mps2::{log, stack};
use device_function::{
    Event, Fault, FaultKind, Function, Image, Keeper, LogLevel, Outcome, Publication, Report,
    Store, StoreError,
};
use device_sdk::limits::RECORD_OVERHEAD_MAX;
use device_sdk::protocol::SchemaId;
use device_sdk::protocol::limits::{TOPIC_LEVELS_MAX, TOPIC_MAX};
use device_sdk::protocol::system::Level;
use device_sdk::{Device, PublishError};
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_time::{Instant, Timer};

use crate::events::Events;
use crate::update::{self, Judgement, Version};
use crate::{RECORD_BYTES, heap};

/// Attempts at an event for which the function asks for another one.
const ATTEMPTS_MAX: u32 = 3;
/// From a failure of the flash to a new start of the device.
const RESTART_S: u64 = 30;
/// Wait before another attempt, of the function or at a queue that takes nothing.
const RETRY_MS: u64 = 1_000;

/// What the function did since the start.
#[derive(Clone, Copy, Debug)]
struct Counts {
    sequence: u64,
    done: u32,
    failed: u32,
    /// Longest time for an event, in microseconds.
    us_max: u64,
}

static COUNTS: Mutex<CriticalSectionRawMutex, Cell<Counts>> =
    Mutex::new(Cell::new(Counts { sequence: 0, done: 0, failed: 0, us_max: 0 }));

fn count(change: impl FnOnce(&mut Counts)) {
    COUNTS.lock(|cell| {
        let mut counts = cell.get();
        change(&mut counts);
        cell.set(counts);
    });
}

/// Which function runs, what it did, and what it took.
pub(crate) fn figures() -> impl Display {
    struct Line(Counts);
    impl Display for Line {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Counts { sequence, done, failed, us_max } = self.0;
            let (heap, stack) = (heap::peak_bytes(), stack::high_water_bytes());
            write!(
                f,
                "sequence {sequence} done {done} failed {failed} us {us_max} heap {heap} stack {stack}"
            )
        }
    }
    Line(COUNTS.lock(Cell::get))
}

/// See the module.
pub(crate) struct Runner {
    device: &'static Device<'static>,
    running: Version,
    /// None: there is none in the slot, or it does not load.
    work: Option<Work>,
}

/// A function and what it keeps.
struct Work {
    function: Function,
    keeper: Keeper<Flash>,
}

impl Runner {
    /// Verifies and loads the image in the active slot, and opens what the function kept.
    pub(crate) async fn new(
        device: &'static Device<'static>,
        slot: &'static [u8],
        author: [u8; 32],
        state: Flash,
    ) -> Self {
        let mut running = Version::default();
        let work = match load(slot, author) {
            Ok((function, version)) => {
                let header = function.header();
                running = version;
                log!("function {} sequence {} loaded", header.function, header.sequence);
                match Store::open(state, &header.function, function.spare_bytes()).await {
                    Ok(store) => Some(Work { function, keeper: Keeper::new(store) }),
                    Err(error) => {
                        log!("no function runs: {error}");
                        None
                    }
                }
            }
            Err(why) => {
                log!("no function runs: {why}");
                None
            }
        };
        count(|counts| {
            counts.sequence = work.as_ref().map_or(0, |work| work.function.header().sequence);
        });
        if work.is_none() {
            update::judge(Judgement::DoesNotLoad);
        }
        Self { device, running, work }
    }

    /// Version and floor of the function.
    pub(crate) fn running(&self) -> Version {
        self.running
    }

    /// Works on events for ever.
    pub(crate) async fn run(self, bus: I2c, burst: u32) {
        let Self { device, work, .. } = self;
        // Without a function nothing is measured: the device waits for one to be offered.
        let Some(mut work) = work else { return };
        let mut events = Events::new(device, bus, burst);
        loop {
            let event = events.next().await;
            update::working(true);
            let ended = work.event(device, event).await;
            update::working(false);
            if let Err(error) = ended {
                // Flash and memory may differ now: only a start brings them together.
                log!("the function stops, and the device starts anew: {error}");
                device.log(Level::Error, format_args!("the function stops: {error}"));
                Timer::after_secs(RESTART_S).await;
                board_mps2::reset();
            }
        }
    }
}

impl Work {
    async fn event(
        &mut self,
        device: &Device<'static>,
        mut event: Event,
    ) -> Result<(), StoreError> {
        let take = async |publication: &Publication| hand_over(device, publication).await;
        // What a power cut left.
        self.keeper.hand_over(take).await?;
        loop {
            let begun = Instant::now();
            let report = self.function.process(&event, self.keeper.state_mut());
            let us = begun.elapsed().as_micros();
            tell(device, &event, &report, us);
            let is_retried =
                matches!(report.outcome, Outcome::Retry(_)) && event.attempt < ATTEMPTS_MAX;
            if is_retried {
                event.attempt += 1;
                Timer::after_millis(RETRY_MS).await;
                continue;
            }
            let is_done = matches!(report.outcome, Outcome::Done(_));
            let verdict = self.keeper.settle(report.outcome, take).await?;
            count(|counts| {
                counts.us_max = counts.us_max.max(us);
                let count = if is_done { &mut counts.done } else { &mut counts.failed };
                *count += 1;
            });
            if let Some(verdict) = verdict {
                update::judge(Judgement::Of(verdict));
            }
            return Ok(());
        }
    }
}

/// Gives a publish to the client, whose queue keeps it until the gateway has it.
async fn hand_over(device: &Device<'static>, publication: &Publication) -> Result<(), StoreError> {
    let (topic, payload) = (&publication.topic, &publication.payload);
    loop {
        match device.publish_bytes(topic, SchemaId::RAW, payload).await {
            Ok(number) => log!("kept {:016x} {} {topic}", number.boot, number.sequence),
            // `may_send` has looked at it.
            Err(error @ (PublishError::TooLong | PublishError::Invalid)) => {
                log!("a publish to {topic} is lost: {error:?}");
            }
            // It is owed until the queue has flash: a new start would not change that.
            Err(error @ PublishError::Foreign) => {
                log!(
                    "the function waits, command `format-queue` or run the former firmware: {error}"
                );
                Timer::after_millis(RETRY_MS).await;
                continue;
            }
            Err(PublishError::Full | PublishError::Overflow | PublishError::Storage) => {
                return Err(StoreError::Flash);
            }
        }
        return Ok(());
    }
}

fn load(slot: &'static [u8], author: [u8; 32]) -> Result<(Function, Version), String> {
    let started = Instant::now();
    let image = Image::verify(slot, &[author], None).map_err(|error| error.to_string())?;
    let verified = Instant::now();
    if !image.header.grants.record.is_empty() {
        return Err("it is granted to record, and this firmware carries publishes only".to_string());
    }
    let function = Function::load(&image, heap::BYTES as u64).map_err(|error| error.to_string())?;
    log!(
        "verified in {} us, loaded in {} us, {} bytes of code, {} bytes of heap",
        (verified - started).as_micros(),
        verified.elapsed().as_micros(),
        image.code().len(),
        heap::used_bytes()
    );
    Ok((function.sending(may_send), Version::of(&image)))
}

/// What the client takes: envelopes on topics of bounded length.
fn may_send(topic: &str, payload_bytes: usize) -> Result<(), &'static str> {
    if topic.len() > TOPIC_MAX || topic.split('/').count() > TOPIC_LEVELS_MAX {
        return Err("this device publishes to topics of at most 128 bytes and 32 levels");
    }
    if topic.starts_with('$') {
        return Err("this device does not publish to topics that begin with $");
    }
    if payload_bytes > RECORD_BYTES - RECORD_OVERHEAD_MAX {
        return Err("this device publishes at most 789 bytes at once");
    }
    Ok(())
}

const _: () = assert!(RECORD_BYTES - RECORD_OVERHEAD_MAX == 789, "the text above says so");

fn tell(device: &Device<'static>, event: &Event, report: &Report, us: u64) {
    let Report { outcome, logs, fuel, memory_bytes } = report;
    for line in logs {
        device.log(level(line.level), format_args!("{}", line.text));
    }
    let payload = core::str::from_utf8(&event.payload).unwrap_or("-");
    log!("event {} {payload}", event.topic);
    let (what, why) = match outcome {
        Outcome::Done(_) => ("done", ""),
        Outcome::Retry(reason) => ("retry", reason.as_str()),
        Outcome::Reject(reason) => ("reject", reason.as_str()),
        Outcome::Fault(Fault { kind, message }) => (word(*kind), message.as_str()),
    };
    log!("outcome {what} fuel {fuel} memory {memory_bytes} us {us} {why}");
    if !matches!(outcome, Outcome::Done(_)) {
        device.log(Level::Error, format_args!("function: {what}: {why}"));
    }
}

const fn word(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Trap => "trap",
        FaultKind::Timeout => "timeout",
        FaultKind::Memory => "memory",
        FaultKind::Stack => "stack",
        FaultKind::Denied => "denied",
        FaultKind::Outputs => "outputs",
        FaultKind::Host => "host",
    }
}

const fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Trace => Level::Trace,
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warn => Level::Warn,
        LogLevel::Error | LogLevel::Panic => Level::Error,
    }
}
