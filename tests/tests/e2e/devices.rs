//! Devices that speak the device protocol with a gateway: typed messages, what is refused, the
//! gateway's own services, commands and shadows.

use std::process::Output;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use device_protocol::system::{
    Command, Level, LogLine, Metric, Response, Shadow, Status, TimeRequest,
};
use device_protocol::{Down, Message, Quality, Schema, SchemaId, Timestamp, Up, message};
use edge_broker::codec::ReasonCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use system_tests::gateway::Gateway;
use system_tests::process::wait_for;
use typed_messages::{Blink, READINGS, Reading};

use crate::support::{author, bundle};

mod peer;

use peer::{BOSS, DEVICE, LONG, Peer, as_boss, enveloped, gateway};

/// The reading of a firmware that was built from a newer definition.
#[derive(Serialize, Deserialize, Schema)]
struct NewerReading {
    milli_celsius: i32,
    humidity_percent: u8,
}
message!(NewerReading, "reading");

/// What the gateway shows of a device.
fn shown(gateway: &Gateway, device: &str) -> Result<Value> {
    let rows = gateway.ask(&["devices", "--json"])?;
    let mut rows = rows.as_array().into_iter().flatten();
    Ok(rows.find(|row| row["device"] == device).cloned().unwrap_or_default())
}

fn readings() -> Result<String> {
    let device = device_protocol::DeviceName::new(DEVICE).map_err(anyhow::Error::msg)?;
    Ok(READINGS.of(&device).map_err(anyhow::Error::msg)?.as_str().to_owned())
}

/// `holm device WORDS` as the operator.
fn holm(gateway: &Gateway, dir: &std::path::Path, words: &[&str]) -> Result<Output> {
    let broker = format!("mqtt://{}", gateway.address());
    let token = dir.join("token");
    let words = as_boss(&broker, token.to_str().context("UTF-8")?, words);
    author().command(&words)?.output().context("holm")
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn a_function_gets_messages_typed_and_once_and_another_shape_is_a_dead_letter() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    gateway.deploy(&bundle("typed"))?;
    let mut listener = Peer::anonymous(&gateway, "listener")?;
    listener.subscribe("typed/+")?;
    let mut device = Peer::connect(&gateway, DEVICE)?;
    let topic = readings()?;
    let first = device.say(&topic, &Reading { milli_celsius: 21_500 })?;
    assert_eq!(listener.next_text()?, format!("{} 1 21500", 0xb007));
    // The ack was lost, or the device came back after a power cut: the same bytes again.
    assert_eq!(device.envelope(&topic, &first)?, ReasonCode::Success);
    device.say(&topic, &Reading { milli_celsius: 21_600 })?;
    assert_eq!(listener.next_text()?, format!("{} 2 21600", 0xb007), "the repeat did not run");

    device.say(&topic, &NewerReading { milli_celsius: 1, humidity_percent: 2 })?;
    let letter =
        wait_for(LONG, "the dead letter", || Ok(gateway.ask(&["dead-letters"])?.get(0).cloned()))?;
    let error = letter["error"].as_str().unwrap_or_default();
    for id in [Reading::ID, NewerReading::ID] {
        assert!(error.contains(&id.to_string()), "{id} in: {error}");
    }
    assert_eq!(letter["attempts"], 1, "another attempt could not help: {letter}");

    let row = shown(&gateway, DEVICE)?;
    assert_eq!(row["boot"], format!("{:016x}", 0xb007), "{row}");
    assert_eq!((&row["sequence"], &row["repeats"]), (&3.into(), &1.into()), "{row}");
    assert_eq!(row["connected"], true);
    gateway.stop()
}

#[test]
fn what_is_no_envelope_or_of_another_device_reaches_nobody() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    gateway.deploy(&bundle("typed"))?;
    let mut listener = Peer::anonymous(&gateway, "listener")?;
    listener.subscribe("#")?;
    let mut device = Peer::connect(&gateway, DEVICE)?;
    let topic = readings()?;
    let reading = Reading { milli_celsius: 1 };
    let good = enveloped(DEVICE, 1, 1, &reading)?;
    let (mut trailing, mut newer) = (good.clone(), good.clone());
    trailing.push(0);
    newer[0] = 2;
    for (payload, reason) in [
        (&b"{}"[..], ReasonCode::PayloadFormatInvalid),
        (&good[..good.len() - 1], ReasonCode::PayloadFormatInvalid),
        (&trailing, ReasonCode::PayloadFormatInvalid),
        (&newer, ReasonCode::PayloadFormatInvalid),
        (&enveloped(BOSS, 1, 1, &reading)?, ReasonCode::NotAuthorized),
    ] {
        assert_eq!(device.envelope(&topic, payload)?, reason, "{payload:?}");
    }
    // The reason in words, as a client shows it.
    let file = dir.path().join("payload");
    std::fs::write(&file, &trailing)?;
    let broker = format!("mqtt://{}", gateway.address());
    let words =
        ["pub", "sensors/x", "-b", &broker, "--content-type", device_protocol::CONTENT_TYPE];
    let file = file.to_str().context("UTF-8")?;
    let output = author().command(&[&words[..], &["--file", file]].concat())?.output()?;
    assert!(text(&output).contains("envelope: bytes behind its end"), "{}", text(&output));

    assert_eq!(device.envelope(&topic, &good)?, ReasonCode::Success);
    let heard = [listener.next(LONG)?, listener.next(LONG)?].map(|it| it.map(|it| it.payload));
    assert!(heard.contains(&Some(good.into())), "the good one is the first that came: {heard:?}");
    let row = shown(&gateway, DEVICE)?;
    assert_eq!((&row["refused"], &row["messages"]), (&5.into(), &1.into()), "{row}");
    let status = gateway.status()?;
    assert_eq!(status["devices"]["false_claims"], 6);
    assert_eq!(status["core"]["dead_letters"], 0);
    assert_eq!(gateway.printed().matches("message refused").count(), 2, "told once a device");
    gateway.stop()
}

#[test]
fn the_gateway_tells_the_time_and_keeps_logs_and_figures() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    let mut device = Peer::connect(&gateway, DEVICE)?;
    device.listen()?;
    let unix_ms = || SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_millis());
    let before = unix_ms()?;
    device.up_at_most_once(&Up::TimeRequest(TimeRequest { uptime_ms: 77 }))?;
    let (asked, now) = device.told(|_, down| match down {
        Down::Time(reply) => (reply.uptime_ms, reply.now),
        other => panic!("not the time: {other:?}"),
    })?;
    let now_ms = u128::from(now.unix_ms().context("a wall time")?);
    assert_eq!(asked, 77);
    // The gateway's clock runs on monotonic time beside the system's.
    assert!((before - 1_000..=unix_ms()? + 1_000).contains(&now_ms), "{before} {now_ms}");
    assert!(now.quality != Quality::Uptime);

    let time = Timestamp::uptime(5);
    let line = LogLine { level: Level::Warn, time, dropped: 2, text: "sensor does not answer" };
    let metric = Metric { name: "heap_free_bytes", time, value: 4_096 };
    assert_eq!(device.up(&Up::Log(line))?, ReasonCode::Success);
    assert_eq!(device.up(&Up::Metric(metric))?, ReasonCode::Success);
    let logs = gateway.ask(&["device-logs", DEVICE, "--json"])?;
    assert_eq!((&logs[0]["text"], &logs[0]["dropped"]), (&line.text.into(), &2.into()), "{logs}");
    assert!(gateway.printed().contains(line.text), "it is in the gateway's log too");
    let row = shown(&gateway, DEVICE)?;
    assert_eq!(row["metrics"][0]["name"], "heap_free_bytes", "{row}");
    assert_eq!(row["metrics"][0]["value"], 4_096);

    // Of no use, but acked: the device would send it for ever.
    let mut listener = Peer::connect(&gateway, BOSS)?;
    listener.subscribe("$holm/v1/up/+/+")?;
    for payload in [&b"hello"[..], b"", b"\x01\xff"] {
        let answer = device.publish("$holm/v1/up/press-7/log", payload, false, None)?;
        assert_eq!(answer, ReasonCode::Success);
    }
    device.up(&Up::Log(line))?;
    let heard = listener.next(LONG)?.context("the good one")?;
    assert!(Up::decode(&heard.payload).is_ok(), "what cannot be read reaches nobody");
    assert_eq!(shown(&gateway, DEVICE)?["undecodable"], 3);
    assert_eq!(gateway.status()?["devices"]["undecodable"], 3);
    gateway.stop()
}

#[test]
fn a_device_speaks_for_itself_and_nobody_else_tells_the_time() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    let mut device = Peer::connect(&gateway, DEVICE)?;
    for topic in ["$holm/v1/up/press-8/log", "$holm/v1/down/press-7/command", "$holm/v1/x"] {
        assert_eq!(device.publish(topic, b"", false, None)?, ReasonCode::NotAuthorized, "{topic}");
    }
    for filter in ["$holm/v1/down/+/+", "$holm/v1/down/press-8/+", "$holm/#"] {
        assert_eq!(device.subscribe(filter)?, ReasonCode::NotAuthorized, "{filter}");
    }
    device.listen()?;
    let mut boss = Peer::connect(&gateway, BOSS)?;
    let time = "$holm/v1/down/press-7/time";
    assert_eq!(boss.publish(time, b"", false, None)?, ReasonCode::NotAuthorized);
    assert!(device.next(Duration::from_millis(200))?.is_none());
    gateway.stop()
}

/// Answers the next command.
fn answer(device: &mut Peer, status: Status, said: &str) -> Result<(String, SchemaId, Vec<u8>)> {
    let (id, name, schema, body) = device.told(|_, down| match down {
        Down::Command(Command { id, name, schema, body }) => {
            (id, name.to_owned(), schema, body.to_owned())
        }
        other => panic!("not a command: {other:?}"),
    })?;
    let response = Response { id, status, schema: SchemaId::RAW, body: said.as_bytes() };
    device.up(&Up::Response(response))?;
    Ok((name, schema, body))
}

#[test]
fn a_function_commands_a_device_and_hears_its_answer() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    gateway.deploy(&bundle("typed"))?;
    let mut listener = Peer::anonymous(&gateway, "listener")?;
    listener.subscribe("answers/+")?;
    let mut device = Peer::connect(&gateway, DEVICE)?;
    device.listen()?;
    device.say(&readings()?, &Reading { milli_celsius: 31_000 })?;
    let (name, schema, body) = answer(&mut device, Status::Done, "three times")?;
    assert_eq!(name, "blink");
    assert_eq!(Blink::decode(schema, &body), Ok(Blink { times: 3 }));
    assert_eq!(listener.next_text()?, "Done three times");
    gateway.stop()
}

#[test]
fn an_operator_commands_a_device_and_the_exit_code_is_its_answer() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    let mut device = Peer::connect(&gateway, DEVICE)?;
    device.listen()?;
    for (status, said, exit) in
        [(Status::Done, "5 s", 0), (Status::Failed, "no such rate", 1), (Status::Unknown, "", 1)]
    {
        let words = ["command", DEVICE, "set-rate", "--u32", "300", "--wait", "30"];
        let output = std::thread::scope(|scope| {
            let asked = scope.spawn(|| holm(&gateway, dir.path(), &words));
            let command = answer(&mut device, status, said)?;
            assert_eq!(command, ("set-rate".to_owned(), SchemaId::RAW, vec![0xac, 0x02]));
            asked.join().expect("the thread ends")
        })?;
        assert_eq!(output.status.code(), Some(exit), "{}", text(&output));
        assert!(text(&output).contains(said), "{}", text(&output));
    }
    drop(device);
    let output = holm(&gateway, dir.path(), &["command", DEVICE, "restart", "--wait", "1"])?;
    assert_eq!(output.status.code(), Some(8), "{}", text(&output));
    gateway.stop()
}

/// The command waits in the session of a device that is away, over the death of the gateway.
#[test]
fn a_command_for_a_device_that_is_away_survives_the_gateway() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    let mut device = Peer::resume(&gateway, DEVICE)?;
    device.listen()?;
    drop(device);
    let output = holm(&gateway, dir.path(), &["command", DEVICE, "restart", "--wait", "0"])?;
    assert!(output.status.success(), "{}", text(&output));
    gateway.kill()?;
    gateway.start()?;
    let mut device = Peer::resume(&gateway, DEVICE)?;
    assert_eq!(answer(&mut device, Status::Done, "")?.0, "restart");
    gateway.stop()
}

#[test]
fn both_sides_of_a_shadow_survive_the_gateway() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    let set = |gateway: &Gateway, rate: &str| -> Result<()> {
        let output = holm(gateway, dir.path(), &["desired", DEVICE, "--text", rate])?;
        anyhow::ensure!(output.status.success(), "{}", text(&output));
        Ok(())
    };
    set(&gateway, "rate = 4")?;
    set(&gateway, "rate = 5")?;
    gateway.kill()?;
    gateway.start()?;

    let mut device = Peer::connect(&gateway, DEVICE)?;
    device.listen()?;
    let version = device.told(|publish, down| match down {
        Down::Desired(Shadow { version, body: b"rate = 5", .. }) if publish.retain => version,
        other => panic!("not the last desired document: {other:?}"),
    })?;
    assert_eq!(version, 2);
    let schema = SchemaId(0xab);
    let reported = Shadow { version, schema, body: &[0xff, 5] };
    assert_eq!(device.up(&Up::Reported(reported))?, ReasonCode::Success);
    gateway.kill()?;
    gateway.start()?;

    let output = holm(&gateway, dir.path(), &["shadow", DEVICE, "--json"])?;
    let both: Value = serde_json::from_slice(&output.stdout).with_context(|| text(&output))?;
    assert_eq!((&both["desired"]["version"], &both["reported"]["version"]), (&2.into(), &2.into()));
    assert_eq!(both["desired"]["document_text"], "rate = 5");
    assert_eq!(both["reported"]["document_hex"], "ff05");
    assert_eq!(both["reported"]["schema"], schema.to_string());
    set(&gateway, "rate = 6")?;
    let output = holm(&gateway, dir.path(), &["shadow", DEVICE])?;
    assert!(text(&output).contains("version 3  rate = 6"), "{}", text(&output));
    gateway.stop()
}
