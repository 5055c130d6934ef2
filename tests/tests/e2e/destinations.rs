//! Where the end of an event is told, and what an operator of a lone gateway does with its dead
//! letters.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use edge_broker::codec::Packet;
use serde_json::{Value, json};
use system_tests::author::fixture;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::wait_for;

use crate::functions::Device;
use crate::support::{PATIENCE, author, records_of};

/// The function `counter`, whose ends are told to a topic, to the function `echo` and to the
/// control plane.
fn app(dir: &Path) -> Result<PathBuf> {
    let functions = fixture("functions");
    let path = functions.to_str().context("UTF-8")?;
    let own = dir.join("ends");
    std::fs::create_dir_all(&own)?;
    let text = format!(
        r#"[app]
name = "ends"
version = "1.0.0"

[functions.counter]
path = "{path}"
example = "counter"
publish = ["count/+", "ends/+"]
record = ["count"]

[functions.echo]
path = "{path}"
example = "echo"
state = "none"
publish = ["echo/#"]

[[triggers]]
name = "count"
function = "counter"
mqtt = ["sensors/+"]
on_success = {{ topic = "ends/done" }}
on_failure = {{ topic = "ends/failed", function = "echo", cloud = true }}
"#
    );
    std::fs::write(own.join("holm.toml"), text)?;
    author().build(&own)
}

fn gateway(dir: &Path) -> Result<Gateway> {
    let setup = Setup { author_keys: vec![author().key()?], ..Setup::open("barn") };
    let mut gateway = Gateway::new(&dir.join("gateway"), &setup)?;
    gateway.start()?;
    gateway.deploy(&app(dir)?)?;
    Ok(gateway)
}

/// The next message of a subscriber: its topic and its JSON.
fn next(device: &mut Device) -> Result<(String, Value)> {
    match device.client.next(PATIENCE)? {
        Some(Packet::Publish(message)) => {
            let payload = serde_json::from_slice(&message.payload)?;
            Ok((message.topic.as_str().to_owned(), payload))
        }
        other => bail!("no message: {other:?}"),
    }
}

#[test]
fn the_end_of_an_event_is_told_to_topic_function_and_control_plane() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let gateway = gateway(dir.path())?;
    let mut ends = Device::new(&gateway, "ends")?;
    ends.subscribe("ends/+")?;
    let mut echo = Device::new(&gateway, "echo")?;
    echo.subscribe("echo/#")?;
    let mut press = Device::new(&gateway, "press")?;

    press.publish("sensors/press", "reject")?;
    let (topic, record) = next(&mut ends)?;
    assert_eq!((topic.as_str(), &record["condition"]), ("ends/failed", &json!("Rejected")));
    assert_eq!(record["event"]["topic"], "sensors/press");
    assert_eq!(record["event"]["trigger"], "ends/count");
    assert_eq!(record["payload_text"], "reject");
    assert_eq!(record["attempts"], 1);
    assert!(record["error"].as_str().is_some_and(|error| error.contains("asked to")), "{record}");
    let (topic, echoed) = next(&mut echo)?;
    assert_eq!((topic.as_str(), &echoed), ("echo/", &record), "one record, everywhere the same");
    let status = gateway.wait_idle(PATIENCE)?;
    assert_eq!(
        (records_of(&status, 0), records_of(&status, 1)),
        (json!(1), json!(1)),
        "the letter and the record"
    );

    press.publish("sensors/press", "{\"n\": 1}")?;
    let (topic, record) = next(&mut ends)?;
    assert_eq!((topic.as_str(), &record["condition"]), ("ends/done", &json!("Success")));
    assert_eq!(record["outputs"], json!({ "publishes": 1, "records": 1, "state": 1 }));
    assert_eq!(record["payload"], json!({ "n": 1 }));
    Ok(())
}

#[test]
fn dead_letters_are_redriven_and_purged_without_a_control_plane() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    let mut press = Device::new(&gateway, "press")?;
    for _ in 0..3 {
        press.publish("sensors/press", "reject")?;
    }
    gateway.wait_idle(PATIENCE)?;
    let letters = |gateway: &Gateway, more: &[&str]| -> Result<Vec<Value>> {
        let words = [&["dead-letters", "list"], more].concat();
        Ok(gateway.ask(&words)?.as_array().context("a list")?.clone())
    };
    let all = letters(&gateway, &[])?;
    assert_eq!(all.len(), 3);
    assert_eq!(letters(&gateway, &["--function", "ends/echo"])?.len(), 0);
    assert_eq!(letters(&gateway, &["--older-than", "1h"])?.len(), 0);
    let event = all[0]["event"].as_str().context("an event")?;
    let shown = gateway.ask(&["dead-letters", "show", event])?;
    assert_eq!((&shown["reason"], &shown["attempts"]), (&json!("rejected"), &json!(1)));
    assert_eq!(shown["payload"]["text"], "reject");

    assert_eq!(gateway.ask(&["dead-letters", "purge", event])?["purged"], 1);
    let gone = gateway.ask(&["dead-letters", "redrive", event]).expect_err("it is gone");
    assert!(gone.to_string().contains("no such dead letter"), "{gone}");
    let unsure = gateway.ask(&["dead-letters", "redrive", "--all"]).expect_err("two of them");
    assert!(unsure.to_string().contains("redrive 2 dead letter(s): add --yes"), "{unsure}");

    // Once the answer is there the letters are jobs, whatever happens to the process.
    let answer = gateway.ask(&["dead-letters", "redrive", "--all", "--yes"])?;
    assert_eq!(answer, json!({ "redriven": 2, "refused": [] }));
    gateway.kill()?;
    gateway.start()?;
    let back = wait_for(PATIENCE, "what is redriven to be given up again", || {
        let letters = letters(&gateway, &[])?;
        Ok((letters.len() == 2).then_some(letters))
    })?;
    assert!(back.iter().all(|letter| letter["event"] != event), "{back:?}");
    assert_eq!(gateway.ask(&["dead-letters", "purge", "--all", "--yes"])?["purged"], 2);
    assert_eq!(letters(&gateway, &[])?.len(), 0);
    gateway.stop()
}
