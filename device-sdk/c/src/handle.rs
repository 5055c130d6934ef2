//! A device as C holds it.

use core::cell::Cell;
use core::convert::Infallible;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use device_sdk::protocol::{Quality, SchemaId, Timestamp};
use device_sdk::{Device, PublishError};

use crate::abi::{self, Event, Figures, Outcome, Time};
use crate::border::waker;
use crate::clock::{self, Alarm};
use crate::hooks::Hooks;
use crate::wire::Wire;

/// Polls of the future in one `holm_device_poll`: what is left to do then is due at once.
pub(crate) const POLLS_MAX: u32 = 32;

/// What runs a device; it never ends.
pub(crate) type Runner = Pin<&'static mut dyn Future<Output = Infallible>>;

/// See the module. All but the future may be used while the future is polled: callbacks publish.
pub(crate) struct Handle {
    mark: u32,
    device: &'static Device<'static>,
    wire: &'static Wire,
    alarm: &'static Alarm,
    hooks: Hooks,
    /// Absent while it is polled.
    runner: Cell<Option<Runner>>,
    quality: Cell<Quality>,
}

/// Tells a device from memory that never was one.
const MARK: u32 = 0x484f_4c4d;

impl Handle {
    pub(crate) fn new(
        device: &'static Device<'static>,
        wire: &'static Wire,
        alarm: &'static Alarm,
        hooks: Hooks,
        runner: Runner,
    ) -> Self {
        let quality = Cell::new(Quality::Uptime);
        Self { mark: MARK, device, wire, alarm, hooks, runner: Cell::new(Some(runner)), quality }
    }

    pub(crate) const fn is_whole(&self) -> bool {
        self.mark == MARK
    }

    pub(crate) const fn wire(&self) -> &Wire {
        self.wire
    }

    /// Works until there is nothing to do; when there will be something, `u64::MAX` if time alone brings nothing.
    pub(crate) fn poll(&self, now_ms: u64) -> Result<u64, Outcome> {
        let mut runner = self.runner.take().ok_or(abi::ERROR_BUSY)?;
        let now_ms = clock::advance(now_ms);
        let waker = waker::of(self.alarm);
        let mut context = Context::from_waker(&waker);
        for _ in 0..POLLS_MAX {
            self.alarm.begin();
            match runner.as_mut().poll(&mut context) {
                Poll::Ready(never) => match never {},
                Poll::Pending if self.alarm.due_ms(now_ms) > now_ms => break,
                Poll::Pending => {}
            }
        }
        self.tell_time();
        self.runner.set(Some(runner));
        Ok(self.alarm.due_ms(now_ms))
    }

    fn tell_time(&self) {
        let Timestamp { quality, ms } = self.device.now();
        if self.quality.replace(quality) != quality {
            let (time_ms, quality) = (ms, quality_of(quality));
            let kind = abi::EVENT_TIME;
            self.hooks.tell(&Event { kind, time_ms, quality, ..Event::default() });
        }
    }

    /// The sequence that the message got.
    pub(crate) fn publish(&self, topic: &str, schema: u64, body: &[u8]) -> Result<u64, Outcome> {
        let published = self.device.try_publish_bytes(topic, SchemaId(schema), body);
        published.map(|number| number.sequence).map_err(|error| match error {
            PublishError::Full => abi::ERROR_FULL,
            PublishError::TooLong => abi::ERROR_TOO_LONG,
            PublishError::Invalid
            | PublishError::Overflow
            | PublishError::Storage
            | PublishError::Foreign => abi::ERROR_TOPIC,
        })
    }

    pub(crate) fn now(&self) -> Time {
        let Timestamp { quality, ms } = self.device.now();
        Time { ms, quality: quality_of(quality) }
    }

    pub(crate) fn figures(&self) -> Figures {
        let figures = self.device.figures();
        Figures {
            queued: figures.queued,
            published: figures.published,
            acked: figures.acked,
            overflowed: figures.overflowed,
            refused: figures.refused,
            connects: figures.connects,
            ignored: figures.ignored,
        }
    }
}

const fn quality_of(quality: Quality) -> u8 {
    match quality {
        Quality::Uptime => abi::QUALITY_UPTIME,
        Quality::Unsynced => abi::QUALITY_UNSYNCED,
        Quality::Synced => abi::QUALITY_SYNCED,
    }
}
