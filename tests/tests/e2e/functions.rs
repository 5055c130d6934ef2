//! Functions that misbehave in a running gateway: each is stopped within its limit, what is said
//! of it names the limit and the setting that raises it, and nobody else is held up.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use edge_broker::codec::{Packet, PacketId, Publish, Subscribe, SubscribeOptions};
use edge_core::message::QoS;
use edge_core::topic::Topic;
use serde_json::Value;
use system_tests::author::fixture;
use system_tests::connections::Latency;
use system_tests::gateway::{Gateway, Setup};
use system_tests::mqtt::{Client, Login};
use system_tests::process::wait_for;

use crate::support::{author, bundle};

const LONG: Duration = Duration::from_secs(30);
/// A small queue, of which any one function may fill a quarter.
const QUEUE_OF_80: &str = "queue_jobs = 80";
const SHARE: usize = 20;
/// Attempts that have to end well for a revision to be kept.
const PROBATION: usize = 100;

/// What the event asks for, and what has to be said of it. A word in backticks that follows
/// `raise` or `set` is a setting and has to stand in the reference.
struct Misbehaviour {
    topic: &'static str,
    payload: &'static str,
    /// From the message to its dead letter, beyond what any attempt costs.
    within: Duration,
    words: &'static [&'static str],
}

const fn case(
    topic: &'static str,
    payload: &'static str,
    within_ms: u64,
    words: &'static [&'static str],
) -> Misbehaviour {
    Misbehaviour { topic, payload, within: Duration::from_millis(within_ms), words }
}

const HOLM: &str = "in [functions.rogue] of holm.toml";

const CASES: &[Misbehaviour] = &[
    case("rogue-in/loop", "", 500, &["time limit 500 ms reached: raise `time`", HOLM, "rogue::"]),
    case(
        "rogue-in/recurse",
        "",
        500,
        &["stack limit 64 KiB reached: raise `stack`", HOLM, "recurse"],
    ),
    case("rogue-in/recurse-lean", "", 500, &["raise `call_stack` in [limits]", "recurse_lean"]),
    case(
        "rogue-in/allocate",
        "",
        500,
        &["memory limit 16 MiB reached: raise `memory`", HOLM, "allocate"],
    ),
    case(
        "rogue-in/log",
        "",
        500,
        &["log text per attempt 64 KiB reached: raise `log_bytes`", HOLM],
    ),
    case("rogue-in/log-empty", "", 500, &["raise `log_bytes`", HOLM]),
    case(
        "rogue-in/publish",
        "",
        500,
        &["publishes per attempt 64 reached: raise `publishes`", HOLM],
    ),
    case("rogue-in/publish-bytes", "", 500, &["256 KiB reached: raise `publish_bytes`", HOLM]),
    case(
        "rogue-in/publish-huge",
        "",
        500,
        &["one call hands over 1088 KiB reached: raise `publish_bytes`", HOLM],
    ),
    case(
        "rogue-in/record",
        "",
        500,
        &["telemetry records per attempt 64 reached: raise `records`", HOLM],
    ),
    case("rogue-in/state-flood", "", 500, &["1 MiB reached: raise `state_write_bytes`", HOLM]),
    case(
        "small-in/state-flood",
        "",
        500,
        &["state kept 64 KiB reached: raise `state_bytes` in [functions.small]"],
    ),
    case(
        "rogue-in/denied-publish",
        "",
        500,
        &["publishing to `secret/door` is not granted: add \"secret/door\" to `publish`", HOLM],
    ),
    case(
        "rogue-in/denied-record",
        "",
        500,
        &["recording `secret` is not granted: add \"secret\" to `record`", HOLM],
    ),
    case("rogue-in/wildcard", "", 500, &["`rogue/+` cannot be published to"]),
    case(
        "stateless-in/state",
        "",
        500,
        &["set `state` to \"device\", \"function\" or \"lane\" in [functions.stateless]"],
    ),
    case("rogue-in/panic", "boom", 500, &["on purpose: boom", "rogue.rs", "0: rogue::rogue"]),
    case(
        "rogue-in/index",
        "boom",
        500,
        &["index out of bounds: the len is 4 but the index is 10000", "rogue::"],
    ),
    case("rogue-in/divide", "", 500, &["attempt to divide by zero", "rogue::"]),
    case("rogue-in/big-frame", "", 500, &["raise `stack`", "big_frame"]),
];

/// An MQTT client that publishes with QoS 1.
pub(crate) struct Device {
    pub(crate) client: Client,
    next_id: u16,
}

impl Device {
    pub(crate) fn new(gateway: &Gateway, name: &str) -> Result<Self> {
        let client = Client::connect(&Login::anonymous(gateway.address(), name))?;
        Ok(Self { client, next_id: 0 })
    }

    pub(crate) fn send(&mut self, topic: &str, payload: &str) -> Result<u16> {
        self.next_id = self.next_id % 60_000 + 1;
        self.client.queue(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Topic::new(topic)?,
            packet_id: PacketId::new(self.next_id),
            expiry_s: None,
            subscription_ids: Vec::new(),
            properties: Default::default(),
            payload: Bytes::from(payload.to_owned()),
        }));
        self.client.flush()?;
        Ok(self.next_id)
    }

    /// The acks of everything that was sent, at most `within` after now.
    pub(crate) fn acks(&mut self, count: usize, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        for n in 0..count {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.client.next(left)? {
                Some(Packet::PubAck(ack)) if !ack.reason.is_error() => {}
                other => bail!("{n} of {count} acks, then {other:?}"),
            }
        }
        Ok(())
    }

    pub(crate) fn publish(&mut self, topic: &str, payload: &str) -> Result<()> {
        self.send(topic, payload)?;
        self.acks(1, LONG)
    }

    pub(crate) fn subscribe(&mut self, filter: &str) -> Result<()> {
        let options = SubscribeOptions { qos: QoS::AtMostOnce, ..SubscribeOptions::default() };
        self.client.queue(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(1).context("1 is a packet id")?,
            subscription_id: None,
            filters: vec![(filter.parse()?, options)],
        }));
        self.client.flush()?;
        match self.client.next(LONG)? {
            Some(Packet::SubAck(_)) => Ok(()),
            other => bail!("not a SUBACK: {other:?}"),
        }
    }
}

/// A gateway whose app `rogue` is past its probation, and a device.
pub(crate) fn rogue(dir: &Path, limits: &str) -> Result<(Gateway, Device)> {
    let setup = Setup {
        author_keys: vec![author().key()?],
        more: format!("[limits]\n{limits}"),
        ..Setup::open("barn")
    };
    let mut gateway = Gateway::new(dir, &setup)?;
    gateway.start()?;
    gateway.deploy(&bundle("rogue"))?;
    let mut device = Device::new(&gateway, "device")?;
    for _ in 0..PROBATION {
        device.publish("quiet-in/proof", "")?;
    }
    wait_for(LONG, "the end of the probation", || {
        let status = gateway.status()?;
        Ok((status["deployments"]["apps"][0]["phase"] == "live").then_some(()))
    })?;
    Ok((gateway, device))
}

/// The error of the newest dead letter, once there is one of this topic.
fn error_of(gateway: &Gateway, topic: &str, within: Duration) -> Result<String> {
    wait_for(within, &format!("the dead letter of {topic}"), || {
        let letters = gateway.ask(&["dead-letters", "--limit", "1"])?;
        let newest = letters.get(0).filter(|letter| letter["topic"] == topic);
        Ok(newest.and_then(|letter| letter["error"].as_str().map(str::to_owned)))
    })
}

/// The settings that a message tells to raise or set.
fn settings(message: &str) -> Vec<&str> {
    let told = message.split("raise `").skip(1).chain(message.split("set `").skip(1));
    told.chain(message.split("\" to `").skip(1)).filter_map(|rest| rest.split('`').next()).collect()
}

/// Whether the log has a line of a fault with these words. It has the kind as a field of its own,
/// and escapes quotes.
fn is_logged(log: &str, error: &str) -> bool {
    let first_line = error.lines().next().unwrap_or_default();
    let words = first_line.split_once(": ").map_or(first_line, |(_, words)| words);
    let faults = log.lines().filter(|line| line.contains("attempt faulted"));
    faults.into_iter().any(|line| line.replace("\\\"", "\"").contains(words))
}

#[test]
fn misbehaviour_ends_within_its_limit_and_the_words_name_the_setting() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut gateway, mut device) = rogue(dir.path(), "")?;
    let docs = fixture("../docs");
    let reference = std::fs::read_to_string(docs.join("holm-toml.md"))?;
    let gateway_reference = std::fs::read_to_string(docs.join("agent-toml.md"))?;
    for Misbehaviour { topic, payload, within, words } in CASES {
        device.publish(topic, payload)?;
        let error = error_of(&gateway, topic, *within + Duration::from_secs(5))?;
        for word in *words {
            assert!(error.contains(word), "{topic}: no `{word}` in: {error}");
        }
        for setting in settings(&error) {
            let row = format!("| `{setting}` |");
            let known = reference.contains(&row) || gateway_reference.contains(&row);
            assert!(known, "{topic}: `{setting}` is not in the reference: {error}");
        }
        assert!(is_logged(&gateway.printed(), &error), "{topic}: not in the log: {error}");
        // The next attempt finds a sound sandbox; and faults in a row would pause the function.
        let fine = format!("{}/fine", topic.split('/').next().unwrap_or_default());
        device.publish(&fine, "")?;
        gateway.wait_idle(LONG)?;
    }
    let status = gateway.status()?;
    assert_eq!(status["core"]["dead_letters"], CASES.len(), "only what misbehaved");
    gateway.stop()
}

/// Latency of a quiet function end to end: from the publish of a device to the arrival of what
/// the function publishes.
fn quiet_latency(device: &mut Device, listener: &mut Device, count: usize) -> Result<Latency> {
    let mut took = Vec::with_capacity(count);
    for n in 0..count {
        let text = n.to_string();
        let begin = Instant::now();
        device.send("quiet-in/x", &text)?;
        match listener.client.next(LONG)? {
            Some(Packet::Publish(publish)) if publish.payload == text.as_bytes() => {}
            other => bail!("not the echo of {n}: {other:?}"),
        }
        took.push(begin.elapsed());
        device.acks(1, LONG)?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Latency::of(took))
}

#[test]
fn a_quiet_function_is_quick_beside_three_that_loop() -> Result<()> {
    const LOOPS: usize = 3;
    let dir = tempfile::tempdir()?;
    let (mut gateway, mut device) = rogue(dir.path(), "")?;
    let mut listener = Device::new(&gateway, "listener")?;
    listener.subscribe("echo/quiet-in/x")?;
    let alone = quiet_latency(&mut device, &mut listener, 100)?;
    // Each of the three functions loops for 3 s, three times in a row.
    for n in 0..3 * LOOPS {
        device.publish(&format!("looping-{}-in/loop", n % 3 + 1), "")?;
    }
    let beside = quiet_latency(&mut device, &mut listener, 200)?;
    println!("quiet function, publish to its own publish: alone {alone}; beside 3 loops {beside}");
    let status = gateway.status()?;
    let running = |name: &str| {
        let functions = status["core"]["functions"].as_array().into_iter().flatten();
        functions.filter(|f| f["function"] == name).all(|f| f["running"] == 1)
    };
    for name in ["rogue/looping-1", "rogue/looping-2", "rogue/looping-3"] {
        assert!(running(name), "{name} still loops: {}", status["core"]["functions"]);
    }
    // 100 ms are promised; what the disk and other tests cost at the moment is known from before.
    assert!(beside.p99_ms < 100.0 + alone.p99_ms, "alone {alone}; beside 3 loops {beside}");
    gateway.wait_idle(LONG)?;
    let letters = gateway.ask(&["dead-letters"])?;
    assert_eq!(letters.as_array().map(Vec::len), Some(3 * LOOPS));
    gateway.stop()
}

pub(crate) fn function<'a>(status: &'a Value, name: &str) -> &'a Value {
    let functions = status["core"]["functions"].as_array().into_iter().flatten();
    functions.into_iter().find(|f| f["function"] == name).unwrap_or(&Value::Null)
}

/// Its share of the queue is full, it is paused: its own events are shed and acked, visibly, and
/// nobody else waits.
#[test]
fn the_backlog_of_a_paused_function_takes_no_acks_from_others() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut gateway, mut device) = rogue(dir.path(), QUEUE_OF_80)?;
    let mut listener = Device::new(&gateway, "listener")?;
    listener.subscribe("echo/quiet-in/x")?;
    for _ in 0..SHARE {
        device.publish("broken-in/panic", "")?;
    }
    let status = wait_for(LONG, "the pause", || {
        let status = gateway.status()?;
        let paused = !function(&status, "rogue/broken")["paused_ms"].is_null();
        Ok(paused.then_some(status))
    })?;
    assert_eq!(function(&status, "rogue/broken")["jobs"], SHARE);
    // What has no room is not held: the function may be paused for long.
    let begin = Instant::now();
    for n in 0..SHARE {
        device.send("broken-in/panic", &format!("late {n}"))?;
    }
    let beside = quiet_beside(&gateway, &mut listener)?;
    device.acks(SHARE, Duration::from_secs(5))?;
    println!("beside the backlog of a paused function: {beside}; its own {:?}", begin.elapsed());
    assert!(beside.max_ms < 1_000.0, "{beside}");
    let status = gateway.status()?;
    assert_eq!(status["core"]["counters"]["shed_newest"], SHARE, "{}", status["core"]);
    let letters = gateway.ask(&["dead-letters"])?;
    let shed = letters.as_array().into_iter().flatten().filter(|letter| {
        let payload = letter["payload"]["text"].as_str().unwrap_or_default();
        payload.starts_with("late") && letter["topic"] == "broken-in/panic"
    });
    assert_eq!(shed.count(), SHARE, "{letters:#}");
    gateway.stop()
}

fn quiet_beside(gateway: &Gateway, listener: &mut Device) -> Result<Latency> {
    quiet_latency(&mut Device::new(gateway, "quiet device")?, listener, 50)
}

/// `when_full = "hold"` of a function that works, but slowly: the acks of its own events wait for
/// room, and those of others do not.
#[test]
fn a_full_share_holds_its_own_acks_only() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut gateway, mut device) = rogue(dir.path(), QUEUE_OF_80)?;
    let mut listener = Device::new(&gateway, "listener")?;
    listener.subscribe("echo/quiet-in/x")?;
    // The first one takes 3 s; then there is room for one more.
    for _ in 0..=SHARE {
        device.send("looping-1-in/loop", "")?;
    }
    device.acks(SHARE, Duration::from_secs(2))?;
    let beside = quiet_beside(&gateway, &mut listener)?;
    assert!(beside.max_ms < 1_000.0, "{beside}");
    assert!(
        device.client.next(Duration::from_millis(1))?.is_none(),
        "the third ack waits for room"
    );
    let status = gateway.status()?;
    assert_eq!(status["core"]["held"], 1, "{}", status["core"]);
    device.acks(1, Duration::from_secs(10))?;
    gateway.stop()
}
