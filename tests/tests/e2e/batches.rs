//! Triggers with `batch`, seen from outside: what is in a batch, which of its events are done, and
//! that nothing is lost or done twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use edge_broker::codec::Packet;
use serde_json::{Value, json};
use system_tests::author::fixture;
use system_tests::device::{self, Plan};
use system_tests::gateway::{Gateway, Setup};
use system_tests::ledger::Ledger;
use system_tests::mqtt::Login;
use system_tests::process::wait_for;
use system_tests::readings;

use crate::functions::{Device, function};
use crate::support::{PATIENCE, author, bundle, planted_agent, records_of};

/// Attempts that end the probation.
const PROBATION: usize = 100;

/// A gateway whose app `batches` is past its probation, and a subscriber of all it publishes.
fn batches(dir: &Path, setup: Setup) -> Result<(Gateway, Device)> {
    let setup = Setup { author_keys: vec![author().key()?], ..setup };
    let mut gateway = Gateway::new(dir, &setup)?;
    gateway.start()?;
    gateway.deploy(&bundle("batches"))?;
    let mut device = Device::new(&gateway, "prover")?;
    for _ in 0..PROBATION {
        device.publish("alone/proof", "proof")?;
    }
    wait_for(PATIENCE, "the end of the probation", || {
        let status = gateway.status()?;
        Ok((status["deployments"]["apps"][0]["phase"] == "live").then_some(()))
    })?;
    gateway.wait_idle(PATIENCE)?;
    let mut heard = Device::new(&gateway, "heard")?;
    heard.subscribe("batch/#")?;
    Ok((gateway, heard))
}

/// Sends all, then waits for the acks.
fn send(device: &mut Device, topic: &str, payloads: &[&str]) -> Result<()> {
    for payload in payloads {
        device.send(topic, payload)?;
    }
    device.acks(payloads.len(), PATIENCE)
}

/// The next messages of the function, as `TOPIC PAYLOAD` without what all topics begin with.
fn next(heard: &mut Device, count: usize) -> Result<Vec<String>> {
    let mut messages = Vec::new();
    while messages.len() < count {
        match heard.client.next(PATIENCE)? {
            Some(Packet::Publish(message)) => {
                let topic = message.topic.as_str().trim_start_matches("batch/");
                messages.push(format!("{topic} {}", String::from_utf8_lossy(&message.payload)));
            }
            other => bail!("{messages:?} of {count}, then {other:?}"),
        }
    }
    Ok(messages)
}

/// Reason, attempts and payload of all dead letters.
fn letters(gateway: &Gateway) -> Result<Vec<Value>> {
    let list = gateway.ask(&["dead-letters", "list"])?;
    let events = list.as_array().context("a list")?.iter().map(|letter| letter["event"].clone());
    events
        .map(|event| {
            let event = event.as_str().context("an event")?;
            let shown = gateway.ask(&["dead-letters", "show", event])?;
            Ok(json!([shown["reason"], shown["attempts"], shown["payload"]["text"]]))
        })
        .collect()
}

/// Events that a function has done, by its own count for each device.
fn counted(gateway: &Gateway, function: &str) -> Result<BTreeMap<String, u64>> {
    let rows = gateway.ask(&["state", function])?;
    let rows = rows.as_array().context("a list")?.iter();
    rows.map(|row| {
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        Ok((text(&row["device"])?, text(&row["value"]["text"])?.parse()?))
    })
    .collect()
}

/// The count where all clients are anonymous: they are one device.
fn nameless(count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([("anonymous".to_owned(), count)])
}

#[test]
fn a_batch_starts_when_it_is_full_or_its_window_is_over() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (gateway, mut heard) = batches(dir.path(), Setup::open("barn"))?;
    let mut press = Device::new(&gateway, "press")?;
    let texts: Vec<String> = (0..12).map(|n| n.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();

    send(&mut press, "ordered/press", &texts[..5])?;
    let status = gateway.status()?;
    assert_eq!(status["queue"]["jobs"], 5, "acked, and waiting for the sixth: {}", status["core"]);
    send(&mut press, "ordered/press", &texts[5..])?;
    let done: Vec<String> = (0..12).map(|n| format!("done/6 {n}")).collect();
    let expected =
        [&done[..6], &["whole 6".to_owned()], &done[6..], &["whole 6".to_owned()]].concat();
    assert_eq!(next(&mut heard, 14)?, expected);

    send(&mut press, "window/press", &["a", "b", "c"])?;
    assert_eq!(next(&mut heard, 4)?, ["done/3 a", "done/3 b", "done/3 c", "whole 3"]);
    gateway.wait_idle(PATIENCE)?;
    assert_eq!(counted(&gateway, "batches/ordered")?, nameless(15));
    let status = gateway.status()?;
    assert_eq!(function(&status, "batches/ordered")["batches"], 3);
    Ok(())
}

/// In order nothing behind a failure is done before it; without order the others are.
#[test]
fn events_fail_by_index() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (gateway, mut heard) = batches(dir.path(), Setup::open("barn"))?;
    let mut press = Device::new(&gateway, "press")?;
    let payloads = ["a", "b", "fail-once c", "d", "reject e", "f"];

    send(&mut press, "ordered/press", &payloads)?;
    let heard_in_order = next(&mut heard, 8)?;
    let words = |messages: &[String]| -> Vec<String> {
        let rest = messages.iter().map(|text| text.split_once(' ').map_or("", |(_, rest)| rest));
        rest.map(str::to_owned).collect()
    };
    assert_eq!(words(&heard_in_order), ["a", "b", "2", "fail-once c", "d", "2", "f", "1"]);
    assert_eq!(heard_in_order[..3], ["done/6 a", "done/6 b", "whole 2"]);
    gateway.wait_idle(PATIENCE)?;
    assert_eq!(counted(&gateway, "batches/ordered")?, nameless(5));
    assert_eq!(letters(&gateway)?, [json!(["rejected", 1, "reject e"])]);

    send(&mut press, "loose/press", &payloads)?;
    let expected = ["done/6 a", "done/6 b", "done/6 d", "done/6 f", "whole 4"];
    assert_eq!(next(&mut heard, 5)?, expected);
    assert_eq!(next(&mut heard, 2)?, ["done/1 fail-once c", "whole 1"]);
    let status = gateway.wait_idle(PATIENCE)?;
    assert_eq!(letters(&gateway)?.len(), 2);
    assert_eq!(records_of(&status, 1), json!(10), "one record for each that is done");
    Ok(())
}

/// A batch that traps is halved until the culprit stands alone; all others are done once.
#[test]
fn a_poisoned_event_is_found_and_given_up_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (gateway, mut heard) = batches(dir.path(), Setup::open("barn"))?;
    let mut press = Device::new(&gateway, "press")?;
    for (n, topic) in ["ordered/press", "loose/press"].into_iter().enumerate() {
        send(&mut press, topic, &["a", "b", "c", "trap d", "e", "f"])?;
        gateway.wait_idle(PATIENCE)?;
        // Halves of six: three and three, of which one is done at once.
        let mut done = Vec::new();
        while done.len() < 5 {
            let message = next(&mut heard, 1)?.remove(0);
            if message.starts_with("done/") {
                done.push(message.split_once(' ').context("a payload")?.1.to_owned());
            }
        }
        if topic.starts_with("loose") {
            done.sort();
        }
        assert_eq!(done, ["a", "b", "c", "e", "f"], "{topic}");
        let letters = letters(&gateway)?;
        assert_eq!(letters.len(), n + 1, "{letters:?}");
        let letter = &letters[0];
        assert_eq!((&letter[1], &letter[2]), (&json!(2), &json!("trap d")), "tried alone twice");
    }
    assert_eq!(counted(&gateway, "batches/ordered")?, nameless(5));
    let status = gateway.status()?;
    let of = |name: &str, field: &str| function(&status, name)[field].as_u64().unwrap_or(0);
    assert!(of("batches/ordered", "bisected") >= 2, "{}", status["core"]);
    assert!(of("batches/loose", "bisected") >= 2, "{}", status["core"]);
    assert!(gateway.printed().contains("BatchHalved"));
    Ok(())
}

/// Devices send again what was not acked, with message ids: each event is done once, whatever was
/// in work when the process died.
#[test]
fn sigkill_in_the_middle_of_batches_loses_and_doubles_nothing() -> Result<()> {
    const READINGS: usize = 400;
    const KILLS: usize = 4;
    let dir = tempfile::tempdir()?;
    let names = ["press-1", "press-2", "door"].map(str::to_owned);
    let devices = names.iter().map(|name| (name.clone(), name.clone())).collect();
    let setup = Setup { devices, ..Setup::open("barn") };
    let (mut gateway, heard) = batches(&dir.path().join("gateway"), setup)?;
    drop(heard);
    let before = records_of(&gateway.status()?, 1).as_u64().unwrap_or(0);
    let readings = &readings::read(&readings::excerpt())?[..READINGS];
    let address = gateway.address();
    thread::scope(|scope| -> Result<()> {
        let run = |name: &'static str, topic: &'static str| {
            let plan = Plan {
                login: Login { password: Some(name.to_owned()), ..Login::anonymous(address, name) },
                topic: format!("sensors/{topic}/{name}"),
                window: 32,
                rate_per_s: Some(50.0),
                ids: true,
                patience: PATIENCE,
                stop: None,
            };
            let path = dir.path().join(format!("{name}.jsonl"));
            scope.spawn(move || device::run(&plan, readings, 7, &mut Ledger::create(&path)?))
        };
        let devices = [run("press-1", "flow"), run("press-2", "flow"), run("door", "loose-flow")];
        for _ in 0..KILLS {
            // Time for some batches, and for what the last life left to be tried alone.
            thread::sleep(Duration::from_millis(900));
            // Where none is seen in work there are batches on their way all the same.
            let seen = wait_for(Duration::from_secs(2), "an attempt in work", || {
                Ok(gateway.status()?["queue"]["running"].as_u64().filter(|running| *running > 0))
            });
            eprintln!("killed with {} in work", seen.unwrap_or(0));
            gateway.kill()?;
            gateway.start()?;
        }
        for device in devices {
            device.join().expect("no panic")?;
        }
        Ok(())
    })?;
    let status = gateway.wait_idle(PATIENCE)?;
    assert_eq!(letters(&gateway)?, [] as [Value; 0]);
    let each = ["press-1", "press-2"].map(|name| (name.to_owned(), READINGS as u64));
    assert_eq!(counted(&gateway, "batches/slow")?, BTreeMap::from(each));
    let records = records_of(&status, 1).as_u64().unwrap_or(0);
    assert_eq!(records - before, 3 * READINGS as u64, "each is recorded once, in order or not");
    gateway.stop()
}

/// `holm invoke` makes the batch that a gateway would make of events that all wait; `holm build`
/// refuses a function that takes none.
#[test]
fn batches_are_tried_and_mistakes_found_before_deployment() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let events = dir.path().join("events");
    std::fs::write(&events, "loose/a first\nloose/b second\nloose/c reject third\n")?;
    let app = fixture("apps").join("batches");
    let words = ["invoke", "loose", "--json", "--app", path(&app)?, "--event", path(&events)?];
    let output = author().command(&words)?.output()?;
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    let ran: Value = serde_json::from_slice(&output.stdout)?;
    let ends: Vec<&Value> = ran["batch"].as_array().context("a batch")?.iter().collect();
    assert_eq!(ends.iter().map(|end| &end["end"]).collect::<Vec<_>>(), ["done", "done", "reject"]);
    assert_eq!(ends[1]["publishes"][0]["topic"], "batch/done/3");
    assert_eq!(ends[2]["publishes"], json!([]), "what was done for it never happened");
    assert_eq!(ran["publishes"][0]["payload"], 2, "{ran:#}");

    let own = dir.path().join("single");
    std::fs::create_dir_all(&own)?;
    let functions = fixture("functions");
    let functions = path(&functions)?;
    let text = format!(
        "[app]\nname = \"single\"\nversion = \"1.0.0\"\n\
         [functions.echo]\npath = \"{functions}\"\nexample = \"echo\"\n\
         [[triggers]]\nfunction = \"echo\"\nmqtt = [\"in/#\"]\nbatch = {{}}\n"
    );
    std::fs::write(own.join("holm.toml"), text)?;
    let refused = author().build(&own).expect_err("it takes single events only").to_string();
    assert!(refused.contains("function `echo` is woken by a trigger with `batch`"), "{refused}");
    Ok(())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("UTF-8")
}

/// The process dies in a batch, and nobody knows by which event: in the next life each runs by
/// itself, and the culprit is named; it kills once more, alone. Nobody else is given up.
#[test]
fn an_event_that_aborts_the_process_is_found_in_its_batch() -> Result<()> {
    let Some(agent) = planted_agent() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let plant = Some("abort:poison".to_owned());
    let (mut gateway, heard) = batches(dir.path(), Setup { agent, plant, ..Setup::open("barn") })?;
    drop(heard);
    let mut press = Device::new(&gateway, "press")?;
    for payload in ["a", "b", "c", "poison", "e"] {
        press.publish("window/press", payload)?;
    }
    press.send("window/press", "f")?;
    for _ in 0..3 {
        gateway.wait_end(PATIENCE)?;
        gateway.spawn()?;
    }
    wait_for(PATIENCE, "the agent to answer", || Ok(gateway.status().ok()))?;
    gateway.wait_idle(PATIENCE)?;
    assert_eq!(letters(&gateway)?.len(), 1);
    assert_eq!(letters(&gateway)?[0][2], "poison");
    assert_eq!(counted(&gateway, "batches/ordered")?, nameless(5));
    gateway.stop()
}
