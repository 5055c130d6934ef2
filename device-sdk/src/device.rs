//! The device as its tasks see it: what they share, and how they publish.
//!
//! # Invariants
//! - A message gets its number when it enters the inbox, so numbers go up in the order of the queue.
//! - The guard of the inbox is never held across an await.
//! - At most one task waits for the outcome of its message at a time (it has the *turn*); the others wait for the turn.

use core::cell::RefCell;
use core::fmt;

use device_protocol::limits::{TOPIC_LEVELS_MAX, TOPIC_MAX};
use device_protocol::{DeviceName, Envelope, Error, Message, SchemaId, Timestamp, Topic};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::{blocking_mutex, mutex};
use embassy_time::Instant;
use heapless::String;

use crate::bell::Bell;
#[cfg(feature = "time")]
use crate::clock::Clock;
use crate::config::{Config, Memory};
#[cfg(feature = "logs")]
use crate::notes::Notes;
use crate::record;
use crate::ring::{Ring, RingError, Written};
use crate::run::Link;
use crate::state::{Figures, State, Trouble};
#[cfg(feature = "update")]
use crate::update::Exchange;

/// Number of a message: `boot` is random, `sequence` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Number {
    /// Number of the start of the device.
    pub boot: u64,
    /// Number of the message within it.
    pub sequence: u64,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PublishError {
    /// There is no room now: try again, or wait with [`Device::publish`].
    Full,
    /// It is longer than the memory given for a record.
    TooLong,
    /// The topic is too long or begins with `$`, or the message cannot be written.
    Invalid,
    /// The queue is full and its policy is to refuse.
    Overflow,
    /// The memory of the queue failed.
    Storage,
    /// The memory of the queue belongs to another firmware or layout: see [`Device::format_queue`].
    Foreign,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no room now, try again",
            Self::TooLong => "longer than the memory for a record",
            Self::Invalid => "a topic or message that cannot be sent",
            Self::Overflow => "the queue is full",
            Self::Storage => "the memory of the queue failed",
            Self::Foreign => "the queue's memory is of another firmware: format it",
        })
    }
}

impl core::error::Error for PublishError {}

/// A device: its tasks publish through it, and one task runs it ([`Device::run`]).
#[derive(Debug)]
pub struct Device<'a> {
    name: DeviceName,
    boot: u64,
    inbox: mutex::Mutex<CriticalSectionRawMutex, Inbox<'a>>,
    facts: blocking_mutex::Mutex<CriticalSectionRawMutex, RefCell<Facts>>,
    #[cfg(feature = "logs")]
    notes: blocking_mutex::Mutex<CriticalSectionRawMutex, RefCell<Notes<'a>>>,
    #[cfg(feature = "update")]
    exchange: blocking_mutex::Mutex<CriticalSectionRawMutex, RefCell<Exchange<'a>>>,
    /// Of the tasks that update firmware and function: one at a time speaks with the gateway.
    #[cfg(feature = "update")]
    pub(crate) update_turn: mutex::Mutex<CriticalSectionRawMutex, ()>,
    #[cfg(feature = "wrong-clock")]
    clock_error: crate::ClockError,
    pub(crate) bell: Bell,
}

/// Messages that are published and not in the queue yet.
#[derive(Debug)]
pub(crate) struct Inbox<'a> {
    pub(crate) ring: Ring<'a>,
    sequence: u64,
    record_max: usize,
}

/// What the tasks and the runner tell each other.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) state: State,
    pub(crate) figures: Figures,
    #[cfg(feature = "time")]
    pub(crate) clock: Clock,
    /// Somebody said that the reported shadow has changed.
    #[cfg(feature = "shadow")]
    pub(crate) must_report: bool,
    /// The foreign memory of the queue was given to it.
    pub(crate) is_memory_given: bool,
    /// Counts everything that the runner may have to act on.
    changes: u32,
    /// Whether somebody has the turn.
    is_turn_taken: bool,
    /// Sequence of the message whose task has the turn, and how it ended.
    awaited: Option<(u64, Option<Result<(), PublishError>>)>,
}

impl<'a> Device<'a> {
    /// A device, and what the task that runs it needs.
    ///
    /// `boot`: 64 bits from the board's source of entropy, other ones at each start. The gateway tells repeats by it: a
    /// device that starts with a number that it had before loses messages as repeats.
    #[must_use]
    pub fn new<const RECORD: usize, const RX: usize, const TX: usize, const NOTES: usize>(
        config: Config<'a>,
        boot: u64,
        memory: &'a mut Memory<RECORD, RX, TX, NOTES>,
    ) -> (Self, Link<'a>) {
        let facts = Facts {
            state: State::Offline { trouble: Trouble::NotStarted, retry_ms: 0 },
            figures: Figures::default(),
            #[cfg(feature = "time")]
            clock: Clock::new(config.clock),
            #[cfg(feature = "shadow")]
            must_report: false,
            is_memory_given: false,
            changes: 0,
            is_turn_taken: false,
            awaited: None,
        };
        #[cfg(feature = "update")]
        let exchange = Exchange::new(&mut memory.chunk);
        let Memory { inbox, staging, scratch, rx, tx, notes, .. } = memory;
        #[cfg(not(feature = "logs"))]
        let _ = notes;
        let device = Self {
            name: config.name.clone(),
            boot,
            inbox: mutex::Mutex::new(Inbox {
                ring: Ring::new(inbox.as_flattened_mut()),
                sequence: 0,
                record_max: RECORD,
            }),
            facts: blocking_mutex::Mutex::new(RefCell::new(facts)),
            #[cfg(feature = "logs")]
            notes: blocking_mutex::Mutex::new(RefCell::new(Notes::new(notes))),
            #[cfg(feature = "update")]
            exchange: blocking_mutex::Mutex::new(RefCell::new(exchange)),
            #[cfg(feature = "update")]
            update_turn: mutex::Mutex::new(()),
            #[cfg(feature = "wrong-clock")]
            clock_error: config.clock_error,
            bell: Bell::new(),
        };
        (device, Link { config, staging, scratch, rx, tx })
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &DeviceName {
        &self.name
    }

    /// Number of this start.
    #[must_use]
    pub const fn boot(&self) -> u64 {
        self.boot
    }

    /// Where the connection stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.facts(|facts| facts.state)
    }

    /// What was counted so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.facts(|facts| facts.figures)
    }

    /// Waits until the figures are others than these; returns them. May be dropped at any time.
    pub async fn figures_after(&self, known: &Figures) -> Figures {
        self.bell.until(|| Some(self.figures()).filter(|figures| figures != known)).await
    }

    /// Waits until the connection stands. May be dropped at any time.
    pub async fn online(&self) {
        self.bell.until(|| matches!(self.state(), State::Online { .. }).then_some(())).await;
    }

    /// Waits until the queue is empty: everything published so far was acknowledged, dropped or refused. May be dropped
    /// at any time.
    pub async fn drained(&self) {
        let is_drained = || {
            let is_inbox_empty = self.inbox.try_lock().is_ok_and(|inbox| inbox.ring.is_empty());
            (is_inbox_empty && self.figures().queued == 0).then_some(())
        };
        self.bell.until(is_drained).await;
    }

    /// The time, as good as the device knows it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let uptime_ms = self.uptime_ms();
        #[cfg(feature = "time")]
        let stamp = self.facts(|facts| facts.clock.stamp(uptime_ms));
        #[cfg(not(feature = "time"))]
        let stamp = Timestamp::uptime(uptime_ms);
        #[cfg(feature = "wrong-clock")]
        return self.clock_error.stamp(stamp);
        #[cfg(not(feature = "wrong-clock"))]
        stamp
    }

    /// Since its start, in milliseconds, by its own clock.
    pub(crate) fn uptime_ms(&self) -> u64 {
        let uptime_ms = Instant::now().as_millis();
        #[cfg(feature = "wrong-clock")]
        return self.clock_error.uptime_ms(uptime_ms);
        #[cfg(not(feature = "wrong-clock"))]
        uptime_ms
    }

    /// Says that the reported shadow has changed: [`crate::App::reported`] is asked for it.
    #[cfg(feature = "shadow")]
    pub fn report(&self) {
        self.change(|facts| facts.must_report = true);
    }

    /// Has the queue erase its memory and take it, if that belongs to another firmware or layout
    /// ([`Figures::is_queue_foreign`]). Messages of that firmware which no gateway has yet are lost by it: to save them, run
    /// that firmware until its queue is empty. `false`: it is not known to be foreign
    /// (before the first look, and while it is being erased, too), and nothing more is erased.
    pub fn format_queue(&self) -> bool {
        self.change(|facts| {
            facts.is_memory_given = facts.figures.is_queue_foreign;
            facts.is_memory_given
        })
    }

    /// Publishes a message; returns once it is in the queue, so as safe as the queue is.
    ///
    /// If it is dropped before, the message may have been published or not, and nothing else is harmed.
    ///
    /// # Errors
    /// [`PublishError`], but never [`PublishError::Full`]: it waits for room in the inbox.
    pub async fn publish<T: Message>(
        &self,
        topic: Topic<T>,
        message: &T,
    ) -> Result<Number, PublishError> {
        let topic = topic.of(&self.name).map_err(|_| PublishError::Invalid)?;
        self.publish_dyn(&topic, T::ID, &mut |out| message.encode(out)).await
    }

    /// Publishes a message if there is room for it now; it is in the queue soon after.
    ///
    /// # Errors
    /// [`PublishError::Full`], [`PublishError::TooLong`] and [`PublishError::Invalid`].
    pub fn try_publish<T: Message>(
        &self,
        topic: Topic<T>,
        message: &T,
    ) -> Result<Number, PublishError> {
        let topic = topic.of(&self.name).map_err(|_| PublishError::Invalid)?;
        self.enter(&topic, T::ID, &mut |out| message.encode(out), false)
    }

    /// [`Device::publish`] of bytes that are encoded already.
    ///
    /// # Errors
    /// As there.
    pub async fn publish_bytes(
        &self,
        topic: &str,
        schema: SchemaId,
        body: &[u8],
    ) -> Result<Number, PublishError> {
        check_topic(topic)?;
        self.publish_dyn(topic, schema, &mut |out| copy(body, out)).await
    }

    /// [`Device::try_publish`] of bytes that are encoded already.
    ///
    /// # Errors
    /// As there.
    pub fn try_publish_bytes(
        &self,
        topic: &str,
        schema: SchemaId,
        body: &[u8],
    ) -> Result<Number, PublishError> {
        check_topic(topic)?;
        self.enter(topic, schema, &mut |out| copy(body, out), false)
    }

    async fn publish_dyn(
        &self,
        topic: &str,
        schema: SchemaId,
        body: &mut dyn FnMut(&mut [u8]) -> Result<usize, Error>,
    ) -> Result<Number, PublishError> {
        let _turn = Turn::take(self).await;
        let look = || match self.enter(topic, schema, body, true) {
            Err(PublishError::Full) => None,
            entered => Some(entered),
        };
        let number = self.bell.until(look).await?;
        let outcome = || self.facts(|facts| facts.awaited.and_then(|(_, outcome)| outcome));
        self.bell.until(outcome).await.map(|()| number)
    }

    /// Puts a message into the inbox.
    fn enter(
        &self,
        topic: &str,
        schema: SchemaId,
        body: &mut dyn FnMut(&mut [u8]) -> Result<usize, Error>,
        is_awaited: bool,
    ) -> Result<Number, PublishError> {
        let time = self.now();
        // Another task holds it only while it writes a message of its own.
        let mut inbox = self.inbox.try_lock().map_err(|_| PublishError::Full)?;
        let Inbox { sequence, record_max, .. } = *inbox;
        let envelope =
            Envelope { device: &self.name, boot: self.boot, sequence, schema, time, body: &[] };
        let written = inbox.ring.push_with(&mut |out| {
            let longest = out.len().min(record_max);
            record::write(&mut out[..longest], topic, &envelope, body).map_err(
                |error| match error {
                    Error::NoRoom => Written::NoRoom,
                    other => Written::Failed(other),
                },
            )
        });
        match written {
            Ok(()) => {}
            Err(RingError::Full) => return Err(PublishError::Full),
            Err(RingError::TooLong | RingError::Write(Error::TooLong)) => {
                return Err(PublishError::TooLong);
            }
            Err(RingError::Write(_)) => return Err(PublishError::Invalid),
        }
        inbox.sequence += 1;
        if is_awaited {
            self.facts(|facts| facts.awaited = Some((sequence, None)));
        }
        drop(inbox);
        self.change(|_| ());
        Ok(Number { boot: self.boot, sequence })
    }

    /// Looks at, or changes, what tasks and runner share.
    pub(crate) fn facts<T>(&self, with: impl FnOnce(&mut Facts) -> T) -> T {
        self.facts.lock(|facts| with(&mut facts.borrow_mut()))
    }

    /// Changes it, and wakes those who may be waiting for that.
    pub(crate) fn change<T>(&self, with: impl FnOnce(&mut Facts) -> T) -> T {
        let result = self.facts(|facts| {
            facts.changes = facts.changes.wrapping_add(1);
            with(facts)
        });
        self.bell.ring();
        result
    }

    /// Grows with every change.
    pub(crate) fn changes(&self) -> u32 {
        self.facts(|facts| facts.changes)
    }

    pub(crate) const fn inbox(&self) -> &mutex::Mutex<CriticalSectionRawMutex, Inbox<'a>> {
        &self.inbox
    }

    #[cfg(feature = "logs")]
    pub(crate) fn notes<T>(&self, with: impl FnOnce(&mut Notes<'a>) -> T) -> T {
        self.notes.lock(|notes| with(&mut notes.borrow_mut()))
    }
}

#[cfg(feature = "update")]
impl<'a> Device<'a> {
    pub(crate) fn exchange<T>(&self, with: impl FnOnce(&mut Exchange<'a>) -> T) -> T {
        self.exchange.lock(|exchange| with(&mut exchange.borrow_mut()))
    }
}

impl Facts {
    /// The message with this sequence has reached the queue, or not.
    pub(crate) fn ended(&mut self, sequence: u64, outcome: Result<(), PublishError>) {
        if let Some((awaited, place)) = &mut self.awaited
            && *awaited == sequence
        {
            *place = Some(outcome);
        }
    }
}

impl Inbox<'_> {
    /// Sequence of the oldest message of the inbox.
    pub(crate) fn oldest_sequence(&self) -> u64 {
        self.sequence - u64::from(self.ring.len())
    }
}

/// Right to wait for an outcome; given back when it is dropped.
struct Turn<'d, 'a>(&'d Device<'a>);

impl<'d, 'a> Turn<'d, 'a> {
    async fn take(device: &'d Device<'a>) -> Self {
        let look = || {
            device.facts(|facts| {
                let is_free = !facts.is_turn_taken;
                facts.is_turn_taken = true;
                is_free.then_some(())
            })
        };
        device.bell.until(look).await;
        Self(device)
    }
}

impl Drop for Turn<'_, '_> {
    fn drop(&mut self) {
        self.0.facts(|facts| {
            facts.is_turn_taken = false;
            facts.awaited = None;
        });
        self.0.bell.ring();
    }
}

fn check_topic(topic: &str) -> Result<(), PublishError> {
    let is_sound = !topic.is_empty()
        && topic.len() <= TOPIC_MAX
        && topic.split('/').count() <= TOPIC_LEVELS_MAX
        && !topic.starts_with('$')
        && !topic.contains(['+', '#', '\0']);
    if is_sound { Ok(()) } else { Err(PublishError::Invalid) }
}

fn copy(body: &[u8], out: &mut [u8]) -> Result<usize, Error> {
    out.get_mut(..body.len()).ok_or(Error::NoRoom)?.copy_from_slice(body);
    Ok(body.len())
}

/// A topic with room for the longest.
pub(crate) type TopicString = String<TOPIC_MAX>;
