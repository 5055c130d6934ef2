//! Virtual devices as tasks of this process: the client that runs on microcontrollers, or one that knows nothing of Holm.
//!
//! # Invariants
//! - A power cut drops the client where it stands; what its queue held is there after it, if the profile says so.
//! - Once the storm is over nothing is measured, and nothing happens to a device any more.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use device_sdk::protocol::{DeviceName, Message, Schema, SchemaId, message};
use device_sdk::{App, BackoffConfig, ClockError, Config, Device, Login, Memory, State};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::credentials;
use super::link::{LinkState, proxy};
use super::plan::{Event, Faults};
use super::profile::{FaultKind, MessageKind, TEMPERATURE};
use super::queue::VirtualQueue;
use super::random::Random;
use super::shared::{Handle, Phase, Set, Shared, Standing};
use super::waveform::Sensor;

mod dial;
mod plain;

use dial::{LinkDial, Trouble};
use plain::Plain;

/// A dead connection is found within this time and half of it.
const KEEP_ALIVE_S: u16 = 10;
/// Longest time for an answer; a link of a few bytes a second needs it.
const ANSWER_MS_MAX: u32 = 8_000;
/// Shortest wait between two attempts to connect.
const BACKOFF_MS_MIN: u32 = 500;
/// Readings up to about this fit, with their topic.
const RECORD_BYTES: usize = 1_024;

/// What the example firmware publishes.
#[derive(Debug, Serialize, Deserialize, Schema)]
struct Reading {
    /// Temperature, in thousandths of a degree Celsius.
    milli_celsius: i32,
}
message!(Reading, "reading", 0xbcbc_55d1_5301_02e5);

/// Runs a virtual device until everything ends.
pub(super) async fn run(shared: &Shared, device: usize, mut sets: mpsc::Receiver<Set>) {
    let handle = &shared.handles[device];
    if !shared.until(handle.plan.joins_ms, Phase::Settling).await {
        return;
    }
    let link = match shared.profile.message {
        MessageKind::Plain => match proxy(shared.gateway.clone(), handle.link.subscribe()).await {
            Ok(address) => Some(address.to_string()),
            Err(error) => {
                shared.ledger().account(device).failures.push(format!("no port: {error}"));
                return;
            }
        },
        MessageKind::Reading | MessageKind::Json => None,
    };
    let mut queue = VirtualQueue::new(shared, device);
    let mut faults = handle.plan.faults();
    let mut sensors = Sensors::new(shared, device);
    let mut random = Random::of(credentials::fresh_seed(), "boot", device as u64);
    loop {
        let life = Life { shared, handle, device, boot: random.bits() };
        queue.start(life.boot);
        let (queue_now, sets) = (&mut queue, &mut sets);
        let cut = match &link {
            None => life.run(queue_now, &mut faults, &mut sensors, sets).await,
            Some(link) => life.run_plain(link, queue_now, &mut faults, &mut sensors, sets).await,
        };
        let Some(cut) = cut else { return };
        if !shared.profile.queue_survives {
            queue.lose();
        }
        off(handle);
        shared.until(cut.until_ms, Phase::Settling).await;
        handle.view().fault = None;
    }
}

fn off(handle: &Handle) {
    let mut view = handle.view();
    view.standing = Standing::Off;
    view.power_cuts += 1;
}

/// From a start of the device to its power cut.
struct Life<'s> {
    shared: &'s Shared,
    handle: &'s Handle,
    device: usize,
    boot: u64,
}

impl<'s> Life<'s> {
    /// The power cut that ended it; none: everything ended.
    async fn run_plain(
        &self,
        link: &str,
        queue: &mut VirtualQueue<'s>,
        faults: &mut Faults,
        sensors: &mut Sensors<'_>,
        sets: &mut mpsc::Receiver<Set>,
    ) -> Option<Event> {
        let client = Plain::new(self.shared, self.device, link, queue);
        let mut random = Random::of(self.boot, "backoff", 0);
        self.shared.ledger().account(self.device).starts += 1;
        let cut = tokio::select! {
            ended = client.run(&mut random) => {
                let words = format!("the client cannot be configured: {ended:?}");
                self.shared.ledger().account(self.device).failures.push(words);
                None
            }
            () = self.measure(&client, sensors, sets) => None,
            cut = self.suffer(faults) => cut,
        };
        self.shared.ledger().account(self.device).refused += client.refused();
        cut
    }

    /// As [`Self::run_plain`], with the client of the SDK.
    async fn run(
        &self,
        queue: &mut VirtualQueue<'s>,
        faults: &mut Faults,
        sensors: &mut Sensors<'_>,
        sets: &mut mpsc::Receiver<Set>,
    ) -> Option<Event> {
        let Ok(name) = DeviceName::new(&self.handle.plan.name) else { return None };
        let token = self.shared.credentials.token(&self.handle.plan.name);
        let mut config = Config::new(name);
        config.login =
            token.map(|token| Login { user: &self.handle.plan.name, password: token.as_bytes() });
        config.session_expiry_s = 0;
        config.keep_alive_s = KEEP_ALIVE_S;
        config.answer_timeout_ms = ANSWER_MS_MAX;
        let max_ms = self.shared.profile.backoff_max_ms;
        config.backoff = BackoffConfig { min_ms: max_ms.min(BACKOFF_MS_MIN), max_ms };
        let clock = self.handle.plan.clock;
        config.clock_error = ClockError { drift_ppm: clock.drift_ppm, offset_ms: clock.offset_ms };
        let mut memory = Memory::<RECORD_BYTES, 1024, 2048, 256>::new();
        let (client, link) = Device::new(config, self.boot, &mut memory);
        let (now, trouble) = (|| client.now().unix_ms().map(|ms| ms / 1_000), Trouble::default());
        let dial = LinkDial::new(self.shared, self.device, &now, &trouble);
        let mut dial = match dial {
            Ok(dial) => dial,
            Err(failure) => {
                self.shared.ledger().account(self.device).failures.push(failure.to_string());
                return None;
            }
        };
        let mut told = Told { handle: self.handle, was_online: false };
        self.shared.ledger().account(self.device).starts += 1;
        let cut = tokio::select! {
            ended = client.run(link, queue, &mut dial, &mut told) => {
                let words = format!("the client cannot be configured: {ended:?}");
                self.shared.ledger().account(self.device).failures.push(words);
                None
            }
            () = self.measure(&client, sensors, sets) => None,
            cut = self.suffer(faults) => cut,
        };
        let mut ledger = self.shared.ledger();
        let account = ledger.account(self.device);
        account.refused += u64::from(client.figures().refused);
        if let Some(error) = trouble.last().filter(|_| !told.was_online) {
            account.failures.push(format!("no TLS: {error}"));
        }
        cut
    }

    /// Publishes readings as long as the storm lasts, and then waits.
    async fn measure(
        &self,
        client: &impl Publish,
        sensors: &mut Sensors<'_>,
        sets: &mut mpsc::Receiver<Set>,
    ) {
        let period = Duration::from_millis(self.shared.profile.period_ms);
        // Devices that were switched on together do not measure at the same moment.
        let mut random = Random::of(self.boot, "phase", 0);
        let mut ticks = tokio::time::interval_at(
            tokio::time::Instant::now() + period.mul_f64(random.fraction()),
            period,
        );
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Some(set) = sets.recv() => {
                    sensors.set(set, self.shared.now_ms());
                    continue;
                }
                () = self.shared.reached(Phase::Settling) => pending().await,
            }
            let is_away = self.handle.view().fault == Some(FaultKind::Leave.word());
            if !is_away {
                self.publish(client, sensors).await;
            }
        }
    }

    async fn publish(&self, client: &impl Publish, sensors: &mut Sensors<'_>) {
        let values = sensors.read(self.shared.now_ms());
        let topic = self.shared.profile.topic_of(&self.handle.plan.name);
        let kept = client.publish(&topic, self.shared.profile.message, &values).await;
        self.handle.view().values = values;
        if let Err(error) = kept {
            let words = format!("a reading was not taken: {error}");
            self.shared.ledger().account(self.device).failures.push(words);
            pending::<()>().await;
        }
    }

    /// Lets happen what happens to it, until its power is cut or everything ends.
    async fn suffer(&self, faults: &mut Faults) -> Option<Event> {
        let handle = self.handle;
        // What came due while it was without power is passed over.
        let now_ms = self.shared.now_ms();
        for event in faults.by_ref().skip_while(|event| event.at_ms < now_ms) {
            if !self.shared.until(event.at_ms, Phase::Settling).await {
                break;
            }
            handle.view().fault = Some(event.kind.word());
            if event.kind == FaultKind::PowerCut {
                return Some(event);
            }
            handle.link.send_replace(LinkState::of(event.kind));
            self.shared.until(event.until_ms, Phase::Settling).await;
            handle.view().fault = None;
            handle.link.send_replace(LinkState::Open);
        }
        self.shared.reached(Phase::Stopped).await;
        None
    }
}

/// A client that keeps a reading for the gateway.
trait Publish {
    async fn publish(&self, topic: &str, kind: MessageKind, values: &Values) -> Result<(), String>;
}

impl Publish for Device<'_> {
    async fn publish(&self, topic: &str, kind: MessageKind, values: &Values) -> Result<(), String> {
        let (schema, body) = encoded(kind, values);
        let kept = self.publish_bytes(topic, schema, &body).await;
        kept.map(drop).map_err(|error| format!("{error:?}"))
    }
}

impl Publish for Plain<'_, '_> {
    async fn publish(&self, _: &str, kind: MessageKind, values: &Values) -> Result<(), String> {
        self.keep(&encoded(kind, values).1).map_err(|error| format!("{error:?}"))
    }
}

/// What sensors measure, by their names.
type Values = BTreeMap<String, f64>;

/// A reading as bytes.
fn encoded(kind: MessageKind, values: &Values) -> (SchemaId, Vec<u8>) {
    match kind {
        MessageKind::Reading => {
            let celsius = values.get(TEMPERATURE).copied().unwrap_or_default();
            #[expect(clippy::cast_possible_truncation, reason = "a float is cut to the bounds")]
            let reading = Reading { milli_celsius: (celsius * 1_000.0).round() as i32 };
            let mut body = vec![0; 16];
            let length = reading.encode(&mut body).unwrap_or(0);
            body.truncate(length);
            (Reading::ID, body)
        }
        MessageKind::Json | MessageKind::Plain => {
            let rounded = |value: &f64| (value * 1_000.0).round() / 1_000.0;
            let object: BTreeMap<_, _> =
                values.iter().map(|(name, value)| (name, rounded(value))).collect();
            (SchemaId::RAW, serde_json::to_vec(&object).unwrap_or_default())
        }
    }
}

/// What a device measures.
struct Sensors<'s> {
    sensors: Vec<(&'s str, Sensor)>,
    set: BTreeMap<String, f64>,
}

impl<'s> Sensors<'s> {
    fn new(shared: &'s Shared, device: usize) -> Self {
        let sensors = shared.profile.sensors.iter();
        let sensors = sensors.map(|(name, waveform)| {
            (name.as_str(), Sensor::new(waveform, shared.seed, name, device as u64))
        });
        Self { sensors: sensors.collect(), set: BTreeMap::new() }
    }

    fn read(&mut self, at_ms: u64) -> Values {
        let set = &self.set;
        let read = |(name, sensor): &mut (&str, Sensor)| {
            let value = sensor.read(at_ms);
            ((*name).to_owned(), set.get(*name).copied().unwrap_or(value))
        };
        self.sensors.iter_mut().map(read).collect()
    }

    fn set(&mut self, Set { sensor, value, answer }: Set, at_ms: u64) {
        let before = self.read(at_ms);
        let result = match before.get(&sensor) {
            None => {
                let known: Vec<_> = before.keys().map(String::as_str).collect();
                Err(format!("it has no sensor `{sensor}`, but: {}", known.join(", ")))
            }
            Some(before) => {
                match value {
                    Some(value) => self.set.insert(sensor.clone(), value),
                    None => self.set.remove(&sensor),
                };
                Ok((*before, self.read(at_ms).get(&sensor).copied().unwrap_or_default()))
            }
        };
        // Whoever asked may have gone.
        let _ = answer.send(result);
    }
}

/// Follows the state of the connection.
struct Told<'s> {
    handle: &'s Handle,
    was_online: bool,
}

impl App for Told<'_> {
    fn state(&mut self, state: State) {
        let mut view = self.handle.view();
        if matches!(state, State::Online { .. }) {
            self.was_online = true;
            view.connects += 1;
            view.standing = Standing::Online;
        } else {
            view.standing = Standing::Offline;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_what_functions_expect() {
        let values = BTreeMap::from([(TEMPERATURE.to_owned(), 21.53), ("x".to_owned(), -1.00049)]);
        let (schema, body) = encoded(MessageKind::Reading, &values);
        assert_eq!(Reading::decode(schema, &body).unwrap().milli_celsius, 21_530);
        for kind in [MessageKind::Json, MessageKind::Plain] {
            let (schema, body) = encoded(kind, &values);
            let expected = br#"{"temperature":21.53,"x":-1.0}"#.as_slice();
            assert_eq!((schema, body.as_slice()), (SchemaId::RAW, expected));
        }
    }
}
