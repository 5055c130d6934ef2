//! Events of the function: readings of the sensor, and what the command `event` brings.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use board_mps2::i2c::I2c;
use board_mps2::log;
use device_function::{Event, Timestamp};
use device_sdk::Device;
use device_sdk::protocol::Quality;
use embassy_futures::select::{Either, select};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::channel::Channel;
use embassy_time::{Duration, Ticker};
use tmp105::Tmp105;

use crate::sensor;

/// Topic and payload of an event that a command brought.
const COMMAND_BYTES_MAX: usize = 320;
/// Such events that wait.
const WAITING_MAX: usize = 4;

static COMMANDED: Channel<
    CriticalSectionRawMutex,
    heapless::Vec<u8, COMMAND_BYTES_MAX>,
    WAITING_MAX,
> = Channel::new();

/// Why an event that a command brought is not taken.
pub(crate) enum Refused {
    Busy,
    Malformed,
}

/// Takes `TOPIC PAYLOAD`.
pub(crate) fn command(body: &[u8]) -> Result<(), Refused> {
    parts(body).ok_or(Refused::Malformed)?;
    let body = heapless::Vec::from_slice(body).map_err(|_| Refused::Malformed)?;
    COMMANDED.try_send(body).map_err(|_| Refused::Busy)
}

fn parts(body: &[u8]) -> Option<(&str, &[u8])> {
    let blank = body.iter().position(|byte| *byte == b' ')?;
    let topic = core::str::from_utf8(&body[..blank]).ok().filter(|topic| !topic.is_empty())?;
    Some((topic, &body[blank + 1..]))
}

/// See the module.
pub(crate) struct Events {
    device: &'static Device<'static>,
    sensor: Tmp105<I2c>,
    ticker: Ticker,
    period_ms: u32,
    /// Readings to take as fast as they are asked for.
    burst: u32,
    count: u64,
}

impl Events {
    pub(crate) fn new(device: &'static Device<'static>, bus: I2c, burst: u32) -> Self {
        let mut sensor = Tmp105::new(bus, tmp105::ADDRESS);
        sensor.configure().expect("a TMP105 is on the bus");
        let period_ms = sensor::period_ms();
        let ticker = Ticker::every(Duration::from_millis(period_ms.into()));
        Self { device, sensor, ticker, period_ms, burst, count: 0 }
    }

    /// The next one. What is not asked for in time is not measured: a device that is busy skips readings.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            if self.burst > 0 {
                self.burst -= 1;
            } else if let Some(event) = self.commanded_or_due().await {
                return event;
            }
            if let Some(event) = self.reading() {
                return event;
            }
        }
    }

    /// An event that a command brought; none when a reading is due.
    async fn commanded_or_due(&mut self) -> Option<Event> {
        if self.period_ms != sensor::period_ms() {
            self.period_ms = sensor::period_ms();
            self.ticker = Ticker::every(Duration::from_millis(self.period_ms.into()));
        }
        match select(COMMANDED.receive(), sensor::tick(&mut self.ticker)).await {
            Either::First(body) => {
                let (topic, payload) = parts(&body).expect("invariant: looked at when it came");
                Some(self.event("command", topic.into(), payload.into()))
            }
            Either::Second(()) => None,
        }
    }

    fn reading(&mut self) -> Option<Event> {
        match self.sensor.read_milli_c() {
            Ok(milli_celsius) => {
                let (sign, size) =
                    (if milli_celsius < 0 { "-" } else { "" }, milli_celsius.unsigned_abs());
                let (device, number) = (self.device.name(), self.count + 1);
                let (whole, thousandths) = (size / 1000, size % 1000);
                let payload = format!(
                    "{{\"device\":\"{device}\",\"seq\":{number},\"value\":{sign}{whole}.{thousandths:03}}}"
                );
                Some(self.event("sensor", format!("sensors/{device}"), payload.into_bytes()))
            }
            Err(error) => {
                log!("the sensor does not answer: {error:?}");
                None
            }
        }
    }

    fn event(&mut self, trigger: &str, topic: String, payload: Vec<u8>) -> Event {
        self.count += 1;
        let now = self.device.now();
        let time = Timestamp {
            unix_ms: now.unix_ms().unwrap_or(0),
            synced: now.quality == Quality::Synced,
        };
        Event {
            id: format!("{:016x}-{}", self.device.boot(), self.count),
            trigger: trigger.into(),
            topic,
            payload,
            device: Some(String::from(&**self.device.name())),
            time,
            attempt: 1,
            ..Event::default()
        }
    }
}
