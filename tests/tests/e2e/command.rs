//! The `holm` command as an operator uses it, against a real control plane and gateway.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use system_tests::author::{Author, fixture};
use system_tests::gateway::{Gateway, Setup};
use system_tests::pki::{device_identity, server_identity};
use system_tests::process::wait_for;

use crate::fleet::{Fleet, GATEWAY, PATIENCE};

/// A command that goes on until it is dropped, and its output line by line.
struct Going {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Going {
    fn start(author: &Author, words: &[&str]) -> Result<Self> {
        let mut command = author.command(words)?;
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        anyhow::ensure!(self.lines.read_line(&mut line)? > 0, "the command ended");
        Ok(line)
    }

    fn json(&mut self) -> Result<Value> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| line)
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that must fail: its exit code and the failure it prints.
fn refused(author: &Author, words: &[&str]) -> Result<(i32, Value)> {
    let output = author.command(words)?.arg("--json").output()?;
    let error = String::from_utf8(output.stderr)?;
    anyhow::ensure!(output.stdout.is_empty(), "an answer and a failure: {words:?}");
    let mut failure: Value = serde_json::from_str(&error).with_context(|| error)?;
    Ok((output.status.code().context("a signal ended it")?, failure["error"].take()))
}

fn open(setup: Setup) -> Result<Setup> {
    Ok(Setup { anonymous: true, ..setup })
}

fn publish(fleet: &Fleet, topic: &str, payload: &str) -> Result<()> {
    let broker = format!("mqtt://{}", fleet.gateway.address());
    fleet.author.holm(&["pub", topic, payload, "--broker", &broker])?;
    Ok(())
}

/// On a second machine: nothing but the address, the certificate and the token.
#[test]
fn login_lets_another_operator_in() -> Result<()> {
    let fleet = Fleet::start(open)?;
    let token = fleet.author.holm(&["context", "show", "--token"])?;
    let file = fleet.path("operator.token");
    std::fs::write(&file, token)?;
    let other = Author::at(&fleet.path("elsewhere"));
    let (url, ca) = (fleet.cloud.url(), fleet.path("cloud/tls/gateway-ca.pem"));
    let (ca, file) = (ca.to_str().expect("UTF-8"), file.to_str().expect("UTF-8"));
    let login = |url: &str, ca: &str, token: &str| {
        refused(&other, &["login", url, "--ca", ca, "--token-file", token])
    };
    assert_eq!(refused(&other, &["status"])?.0, 5, "no control plane is known yet");
    let (code, failure) = login("https://localhost:1", ca, file)?;
    assert_eq!(code, 4, "{failure}");
    std::fs::write(fleet.path("wrong.token"), "holm-op-guessed")?;
    let wrong = fleet.path("wrong.token");
    let (code, failure) = login(&url, ca, wrong.to_str().expect("UTF-8"))?;
    assert_eq!(code, 6, "{failure}");
    let stranger = server_identity(&fleet.path("stranger"))?;
    let (code, failure) = login(&url, stranger.ca.to_str().expect("UTF-8"), file)?;
    assert_eq!(code, 4, "{failure}");
    assert!(failure["next"].as_str().is_some_and(|next| next.contains("authority")), "{failure}");
    other.holm(&["login", &url, "--ca", ca, "--token-file", file, "--name", "shared"])?;
    let status: Value = serde_json::from_str(&other.holm(&["status", "--json"])?)?;
    assert_eq!(status[0]["name"], GATEWAY);
    Ok(())
}

/// A token that a newer one replaced is refused at once, with the way out.
#[test]
fn a_replaced_token_is_told_at_once() -> Result<()> {
    let fleet = Fleet::start(open)?;
    let second = Gateway::new(
        &fleet.path("gw-2"),
        &Setup { name: "gw-2".to_owned(), anonymous: true, ..Setup::default() },
    )?;
    let old = fleet.author.holm(&["gateway", "add", "gw-2"])?;
    let new = fleet.author.holm(&["gateway", "add", "gw-2"])?;
    let begun = Instant::now();
    let error = second.enroll(old.trim()).expect_err("an old token").to_string();
    assert!(error.contains("holm gateway add gw-2"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    second.enroll(new.trim())
}

/// Lines of the function come while they are written, and go on after the gateway was away.
#[test]
fn logs_follow_a_gateway() -> Result<()> {
    let mut fleet = Fleet::start(open)?;
    fleet.deploy("counter")?;
    let words = ["logs", "-f", GATEWAY, "--function", "counter/counter", "--json"];
    let mut logs = Going::start(&fleet.author, &words)?;
    let counted = |fleet: &Fleet, logs: &mut Going, from: u64| -> Result<u64> {
        // Until somebody looks nothing is sent: the first lines may pass by.
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while is_done.recv_timeout(Duration::from_millis(200)).is_err() {
                    if publish(fleet, "sensors/press-1", "1").is_err() {
                        break;
                    }
                }
            });
            let line = loop {
                let line = logs.json()?;
                let n = line["text"].as_str().and_then(|text| text.strip_prefix("counted to "));
                if let Some(n) = n.and_then(|n| n.parse::<u64>().ok()).filter(|n| *n > from) {
                    assert_eq!(line["source"], "counter/counter");
                    break n;
                }
            };
            done.send(())?;
            Ok(line)
        })
    };
    let before = counted(&fleet, &mut logs, 0)?;
    fleet.gateway.kill()?;
    fleet.gateway.start()?;
    fleet.wait_online()?;
    counted(&fleet, &mut logs, before)?;
    publish(&fleet, "sensors/press-1", "reject")?;
    let given_up = loop {
        let line = logs.json()?;
        if line["level"] == "error" {
            break line;
        }
    };
    let text = given_up["text"].as_str().unwrap_or_default();
    assert!(text.contains("given up") && text.contains("asked to"), "{given_up}");
    assert_eq!(refused(&fleet.author, &["logs", "-f", "nobody"])?.0, 5);
    Ok(())
}

/// A page comes again and again, also while the control plane is away.
#[test]
fn status_is_watched() -> Result<()> {
    let mut fleet = Fleet::start(open)?;
    let mut watch = Going::start(&fleet.author, &["status", "--watch", "--json"])?;
    assert_eq!(watch.json()?[0]["online"], true);
    let mut one = Going::start(&fleet.author, &["status", GATEWAY, "--watch", "--json"])?;
    // It told how it is when it connected, not half a minute later.
    wait_for(Duration::from_secs(20), "the gateway's health", || {
        let page = one.json()?;
        assert_eq!(page["name"], GATEWAY);
        Ok(page["health"].is_object().then_some(()))
    })?;
    fleet.cloud.kill()?;
    fleet.gateway.stop()?;
    fleet.cloud.serve()?;
    wait_for(PATIENCE, "the page to say that the gateway is offline", || {
        Ok((watch.json()?[0]["online"] == false).then_some(()))
    })?;
    Ok(())
}

/// A device with a certificate publishes and subscribes; without it, or with another one, not.
#[test]
fn devices_with_certificates_publish_and_subscribe() -> Result<()> {
    let pki = tempfile::tempdir()?;
    let device = device_identity(&pki.path().join("device"), "press-7")?;
    let server = server_identity(&pki.path().join("server"))?;
    let access = "[[devices]]\nname = \"press-7\"\ncertificate = true\n\
                  publish = [\"sensors/{device}\"]\nsubscribe = [\"sensors/#\"]";
    let fleet = Fleet::start(|setup| {
        let setup = Setup { client_ca: Some(device.ca.clone()), more: access.to_owned(), ..setup };
        Ok(setup.with_tls(&server))
    })?;
    let broker = format!("mqtts://localhost:{}", fleet.gateway.address().port());
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let (ca, cert, key) = (text(&server.ca), text(&device.certificate), text(&device.key));
    let trust = ["--broker", &broker, "--ca", &ca];
    let own = [&trust[..], &["--cert", &cert, "--key", &key]].concat();
    let words = [&["sub", "sensors/#", "--count", "1", "--json"], &own[..]].concat();
    let mut subscriber = fleet.author.command(&words)?;
    let mut subscriber = subscriber.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // With --json there is no word that it subscribed: a retained message waits for it.
    let words = ["pub", "sensors/press-7", "{\"celsius\": 21.5}", "--retain"];
    fleet.author.holm(&[&words[..], &own[..]].concat())?;
    let mut heard = String::new();
    subscriber.stdout.take().context("no output")?.read_to_string(&mut heard)?;
    assert!(subscriber.wait()?.success());
    let heard: Value = serde_json::from_str(&heard)?;
    assert_eq!(heard["payload"], json!({ "celsius": 21.5 }));
    let foreign = [&["pub", "sensors/press-8", "x"][..], &own[..]].concat();
    let (code, failure) = refused(&fleet.author, &foreign)?;
    assert_eq!(code, 6, "{failure}");
    let (code, failure) =
        refused(&fleet.author, &[&["pub", "sensors/press-7", "x"][..], &trust[..]].concat())?;
    assert_eq!(code, 6, "without a certificate: {failure}");
    let stranger = device_identity(&pki.path().join("stranger"), "press-7")?;
    let (cert, key) = (text(&stranger.certificate), text(&stranger.key));
    let theirs = [&trust[..], &["--cert", &cert, "--key", &key]].concat();
    let (code, failure) =
        refused(&fleet.author, &[&["pub", "sensors/press-7", "x"][..], &theirs[..]].concat())?;
    assert_eq!(code, 6, "another authority's certificate: {failure}");
    Ok(())
}

/// Thousands of keys and values longer than a message come whole, and back.
#[test]
fn state_of_any_size_is_listed_exported_and_reset() -> Result<()> {
    const KEYS: usize = 2_300;
    const BYTES: usize = 300_000;
    let devices = ["large", "small"].map(|name| (name.to_owned(), format!("token-of-{name}")));
    let fleet = Fleet::start(|setup| Ok(Setup { devices: devices.to_vec(), ..setup }))?;
    fleet.deploy("hoard")?;
    let broker = format!("mqtt://{}", fleet.gateway.address());
    for (device, keys, bytes) in [("large", KEYS, BYTES), ("small", 3, 0)] {
        let file = fleet.path(device);
        std::fs::write(&file, format!("token-of-{device}"))?;
        let order = json!({ "keys": keys, "bytes": bytes }).to_string();
        let login = ["--user", device, "--password-file", file.to_str().expect("UTF-8")];
        let words = ["pub", "sensors/x", &order, "--broker", &broker];
        fleet.author.holm(&[&words[..], &login].concat())?;
    }
    fleet.gateway.wait_idle(PATIENCE)?;
    let holm = |words: &[&str]| fleet.author.holm(words);
    let list = |more: &[&str]| -> Result<Vec<Value>> {
        let words = ["state", "list", "hoard/hoard", "-g", GATEWAY, "--json"];
        Ok(serde_json::from_str(&holm(&[&words[..], more].concat())?)?)
    };
    let all = list(&[])?;
    assert_eq!(all.len(), KEYS + 1 + 3);
    // The small lane stands behind all pages of the large one.
    assert_eq!(list(&["--device", "large"])?.len(), KEYS + 1);
    assert_eq!(list(&["--device", "small"])?.len(), 3);
    assert_eq!(list(&["--prefix", "b"])?.len(), 1);
    let big = fleet
        .author
        .command(&["state", "get", "hoard/hoard", "big", "-g", GATEWAY, "-d", "large"])?
        .output()?;
    let wanted: Vec<u8> = (0..BYTES).map(|n| (n % 251).to_le_bytes()[0]).collect();
    assert!(big.stdout == wanted, "{} bytes came", big.stdout.len());
    let file = fleet.path("state.json");
    let file = file.to_str().expect("UTF-8");
    holm(&["state", "export", "hoard/hoard", "-g", GATEWAY, "--out", file])?;
    let exported: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    assert_eq!(exported["devices"]["large"].as_object().map(serde_json::Map::len), Some(KEYS + 1));
    // What `holm invoke` read and wrote is what it was.
    let app = fixture("apps/hoard");
    let app = app.to_str().expect("UTF-8");
    let event = "{\"keys\": 0, \"bytes\": 0}";
    let words = ["invoke", "hoard", "--app", app, "--state", file, "-d", "c", "-t", "sensors/c"];
    holm(&[&words[..], &["-p", event, "--quiet"]].concat())?;
    let again: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    assert!(again == exported, "the state file changed on its way");
    holm(&["state", "reset", "hoard/hoard", "-g", GATEWAY, "-d", "small", "--yes"])?;
    assert_eq!(list(&[])?.len(), KEYS + 1);
    holm(&["state", "reset", "hoard/hoard", "-g", GATEWAY, "--yes"])?;
    assert_eq!(list(&[])?.len(), 0);
    Ok(())
}

/// More dead letters than a message holds are listed, and a long payload is shown whole.
#[test]
fn dead_letters_of_any_size_are_listed() -> Result<()> {
    const LETTERS: usize = 40;
    let fleet = Fleet::start(open)?;
    fleet.deploy("hoard")?;
    let junk = format!("{{\"no\": \"{}\"}}", "x".repeat(20_000));
    let file = fleet.path("lines");
    std::fs::write(&file, format!("{junk}\n").repeat(LETTERS))?;
    let broker = format!("mqtt://{}", fleet.gateway.address());
    let mut many = fleet.author.command(&["pub", "sensors/a", "-", "--broker", &broker])?;
    assert!(many.stdin(std::fs::File::open(&file)?).status()?.success());
    let long = format!("no JSON {}", "y".repeat(100_000));
    std::fs::write(&file, &long)?;
    let path = file.to_str().expect("UTF-8");
    fleet.author.holm(&["pub", "sensors/a", "--file", path, "--broker", &broker])?;
    let words = ["dead-letters", "list", "-g", GATEWAY, "--json"];
    let letters = wait_for(PATIENCE, "the dead letters", || {
        let letters: Vec<Value> = serde_json::from_str(&fleet.author.holm(&words)?)?;
        Ok((letters.len() == LETTERS + 1).then_some(letters))
    })?;
    // Each publisher has a lane of its own: the long one is not always the last to die.
    let long_one = letters.iter().find(|letter| letter["payload_bytes"] == long.len());
    let event = long_one.and_then(|letter| letter["event"].as_str()).context("no long letter")?;
    let shown = fleet.author.holm(&["dead-letters", "show", event, "-g", GATEWAY, "--json"])?;
    let shown: Value = serde_json::from_str(&shown)?;
    assert!(shown["payload_text"] == long.as_str(), "the payload is cut");
    letters_are_chosen(&fleet, event)?;
    let none: Vec<Value> = serde_json::from_str(&fleet.author.holm(&words)?)?;
    assert_eq!(none, Vec::<Value>::new());
    Ok(())
}

/// One letter, those of a function, old ones, all: each is done once, and more than one only with
/// `--yes`. At the end none is left.
fn letters_are_chosen(fleet: &Fleet, event: &str) -> Result<()> {
    let holm = |words: &[&str]| -> Result<Value> {
        let words = [&["dead-letters"], words, &["-g", GATEWAY, "--json"]].concat();
        Ok(serde_json::from_str(&fleet.author.holm(&words)?)?)
    };
    let count =
        |words: &[&str]| -> Result<usize> { Ok(holm(words)?.as_array().context("a list")?.len()) };
    assert_eq!(count(&["list", "--limit", "7"])?, 7);
    assert_eq!(count(&["list", "--function", "hoard/hoard"])?, 41);
    assert_eq!(count(&["list", "--function", "hoard/other"])?, 0);
    assert_eq!(count(&["list", "--older-than", "1d"])?, 0);
    let (code, failure) =
        refused(&fleet.author, &["dead-letters", "purge", "--all", "-g", GATEWAY])?;
    assert_eq!(code, 2);
    assert!(failure["problems"][0].as_str().is_some_and(|text| text.contains("41")), "{failure}");
    assert_eq!(holm(&["purge", event])?["purged"], 1);
    let (code, _) = refused(&fleet.author, &["dead-letters", "redrive", event, "-g", GATEWAY])?;
    assert_eq!(code, 5, "it is gone");
    // What is redriven is no better the second time: it comes back.
    assert_eq!(holm(&["redrive", "--function", "hoard/hoard", "--yes"])?["redriven"], 40);
    wait_for(PATIENCE, "the dead letters to come back", || {
        Ok((count(&["list"])? == 40).then_some(()))
    })?;
    assert_eq!(holm(&["purge", "--all", "--yes"])?["purged"], 40);
    Ok(())
}
