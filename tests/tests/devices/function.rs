//! A function on an emulated device with network and TLS: it comes by an ordinary deployment, does what the model of it
//! computes, survives power cuts with its state, is taken back where it does not prove itself, and is ended where it does
//! not end by itself.

use anyhow::{Result, ensure};
use cold_chain_model::{Moving, Reading, SmoothedMessage};
use device_protocol::Envelope;
use serde_json::Value;
use system_tests::author::fixture;
use system_tests::process::{Process, wait_for};
use system_tests::qemu::{Device, firmware};
use system_tests::sensors::PATIENCE;
use system_tests::sensors::edge::{FOLDER, Farm, MACHINE, UPDATE, packed, smooth};

use super::skipped;

/// How it is started.
const WORDS: &[&str] = &["period_ms=250", "backoff_ms_max=2000"];

fn example(name: &str, more: &str) -> String {
    format!("path = {:?}\nexample = \"{name}\"\n{more}", fixture("functions"))
}

/// Readings whose outcome is known to be kept in flash: a publish of it was handed over, in this life or at the beginning
/// of the next one.
fn committed(console: &str) -> Result<Vec<Reading>> {
    let (mut all, mut done, mut event) = (Vec::new(), None, None);
    for line in console.lines() {
        let said = line.split_once("] ").map_or(line, |(_, said)| said);
        if let Some(payload) = said.strip_prefix("event sensors/press-1 ") {
            (event, done) = (serde_json::from_str::<Reading>(payload).ok(), None);
        } else if said.starts_with("outcome done ") {
            done = event.take();
        } else if said.starts_with("outcome ") {
            event = None;
        } else if said.starts_with("kept ") && said.contains(" smooth/press-1") {
            all.extend(done.take());
        }
    }
    Ok(all)
}

/// What a subscriber was given: each message once, and how many came more than once.
fn seen(log: &str) -> Result<(Vec<SmoothedMessage>, usize)> {
    let (mut all, mut repeats) = (Vec::<SmoothedMessage>::new(), 0);
    for line in log.lines() {
        let Ok(row) = serde_json::from_str::<Value>(line) else { continue };
        let Some(hex) = row["payload_hex"].as_str() else { continue };
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16))
            .collect::<Result<_, _>>()?;
        let envelope = Envelope::decode(&bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
        let message: SmoothedMessage = serde_json::from_slice(envelope.body)?;
        if all.last() == Some(&message) {
            repeats += 1;
        } else {
            all.push(message);
        }
    }
    Ok((all, repeats))
}

#[test]
fn a_function_is_deployed_to_a_device_runs_there_and_is_taken_back_where_it_is_bad() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let firmware = firmware(FOLDER, &[])?;
    eprintln!("{:?}", firmware.sizes);
    let dir = tempfile::tempdir()?;
    let mut farm = Farm::start(dir.path())?;
    let words = ["sub", "smooth/#", "--json", "--broker", &farm.broker];
    let log = dir.path().join("sub.log");
    let mut subscriber = Process::start("sub", farm.author.command(&words)?, &log)?;

    let mut device = farm.boot(&firmware, MACHINE, WORDS, &[])?;
    device.console_line("no function runs: this is no device image", PATIENCE)?;
    farm.deploy("1.0.0", "smooth", &smooth("\"smooth/+\""))?;
    device.console_line("function edge/smooth sequence 4294967296 loaded", UPDATE)?;
    farm.wait_stage([1, 0, 0], "confirmed")?;
    let until = |device: &Device, count: usize| {
        wait_for(PATIENCE, &format!("{count} readings"), || {
            Ok((committed(&device.console())?.len() >= count).then_some(()))
        })
    };
    let mut count = 0;
    for milli_c in [21_000, 23_500, -4_250, 80_125, 22_000] {
        device.set_temperature(milli_c)?;
        count = committed(&device.console())?.len() + 5;
        until(&device, count)?;
    }
    // In one life an instruction takes a nanosecond of the device's time: its times count instructions.
    for more in [&[][..], &["-icount", "shift=0,sleep=on"], &[]] {
        device.kill()?;
        device = farm.boot(&firmware, MACHINE, WORDS, more)?;
        eprintln!("{more:?}: {}", device.console_line("verified in", PATIENCE)?);
        count += 6;
        until(&device, count)?;
        eprintln!("{}", device.console_line("outcome done", PATIENCE)?);
    }

    // It may not publish: every event ends as a fault.
    farm.deploy("1.1.0", "smooth", &smooth(""))?;
    device.console_line("is taken back: the function failed several events in a row", UPDATE)?;
    farm.wait_stage([1, 1, 0], "declined")?;
    // It is granted what this firmware does not have.
    farm.deploy("1.2.0", "counter", &example("counter", "record = [\"count\"]"))?;
    device.console_line("is taken back: the function does not load here", UPDATE)?;
    farm.wait_stage([1, 2, 0], "declined")?;
    count = committed(&device.console())?.len() + 10;
    until(&device, count)?;

    // One that misbehaves only when it is told to stays. What it does then ends, and the device goes on.
    farm.deploy("1.3.0", "rogue", &example("rogue", "publish = [\"rogue/#\"]"))?;
    farm.wait_stage([1, 3, 0], "confirmed")?;
    for (how, outcome) in [("loop", "timeout"), ("allocate", "memory"), ("fine", "done")] {
        farm.command("event", &["--text", &format!("rogues/{how} -")], 60)?;
        device.console_line(&format!("event rogues/{how} -"), PATIENCE)?;
        let line = device.console_line("outcome ", PATIENCE)?;
        ensure!(line.contains(&format!("outcome {outcome} ")), "{how}: {line}");
    }
    eprintln!("{}", farm.command("function", &[], 60)?);

    let console = device.console();
    ensure!(!console.contains("panic: ") && !console.contains("hard fault: "), "{console}");
    let expected: Vec<SmoothedMessage> = {
        let mut model = Moving::default();
        let observed = committed(&console)?;
        observed
            .iter()
            .map(|it| SmoothedMessage { smoothed: model.observe(it), attempt: 1 })
            .collect()
    };
    let (messages, repeats) = wait_for(PATIENCE, "all messages", || {
        let (messages, repeats) = seen(&subscriber.output())?;
        Ok((messages.len() >= expected.len()).then_some((messages, repeats)))
    })?;
    assert_eq!(messages, expected, "to the last bit, in order, none lost");
    let starts = console.matches("device press-1 boot ").count();
    ensure!(repeats < starts, "{repeats} repeats in {starts} lives");
    eprintln!("{} messages, {repeats} of them twice", messages.len());
    subscriber.kill()?;
    let (stages, reason) = farm.stages()?;
    let (first, second) = (packed([1, 0, 0])?, packed([1, 1, 0])?);
    let expected = [
        (first, "fetching"),
        (first, "verified"),
        (first, "confirmed"),
        (second, "fetching"),
        (second, "verified"),
        (second, "taken-back"),
        (second, "declined"),
    ];
    let told: Vec<(u64, &str)> = stages.iter().map(|(of, stage)| (*of, stage.as_str())).collect();
    ensure!(told.starts_with(&expected), "{told:?}");
    assert_eq!(reason, "the function failed several events in a row");

    // The flash in another machine, a Cortex-M7.
    device.kill()?;
    let mut device = farm.boot(&firmware, "mps2-an500", WORDS, &[])?;
    device.console_line("function edge/rogue sequence 4295163904 loaded", PATIENCE)?;
    // Commands are lost while a device starts: who sends one repeats it.
    wait_for(PATIENCE, "the device to answer", || Ok(farm.command("function", &[], 3).ok()))?;
    farm.command("event", &["--text", "rogues/fine -"], 60)?;
    device.console_line("outcome done ", PATIENCE)?;
    farm.gateway.stop()
}
