//! `holm simulate`: fleets at real gateways. What it says in the end is what is looked at; that a loss would be found is
//! shown by the tests of its judge.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use system_tests::author::{Author, fixture};
use system_tests::cloud::Cloud;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::{Process, program, wait_for};
use system_tests::qemu;
use system_tests::sensors::FOLDER;

use crate::support::{PATIENCE, wait_live};

/// Time for what builds an app and starts QEMU on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// Everything happens to many of them, often.
const STORM: &str = "\
period = \"500 ms\"
join = \"3 s\"
backoff_max = \"2 s\"
[faults.leave]
devices = 0.2
every = \"8 s\"
lasts = \"2 s\"
[faults.cut]
devices = 0.4
every = \"6 s\"
lasts = \"2 s\"
[faults.slow]
devices = 0.2
every = \"8 s\"
lasts = \"2 s\"
[faults.half_open]
devices = 0.2
every = \"8 s\"
lasts = \"2 s\"
[faults.power_cut]
devices = 0.3
every = \"6 s\"
lasts = \"1 s\"
[clock]
devices = 0.5
drift_ppm = 500
offset = \"2 s\"
[hostile]
devices = 0.1
every = \"1 s\"
";

/// `holm WORDS` in a folder, as who has this home.
fn holm(dir: &Path, words: &[&str]) -> Result<Command> {
    let mut command = Command::new(program("holm")?);
    command.args(words).current_dir(dir).env("HOLM_CONFIG", dir.join("author/config.toml"));
    command.env("NO_COLOR", "1").stdin(std::process::Stdio::null());
    Ok(command)
}

/// The summary: the last line of JSON.
fn summary(text: &str) -> Result<Value> {
    let last = text.lines().rfind(|line| line.contains("\"summary\"")).context("no summary")?;
    Ok(serde_json::from_str(last)?)
}

fn holds(output: &Output) -> Result<Value> {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}: {err}\n{out}", output.status);
    let summary = summary(&out)?;
    eprintln!("{summary}");
    assert_eq!(summary["holds"], true, "{summary}");
    Ok(summary)
}

/// How the devices of a site reach their gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
}

/// `holm WORDS`, which succeeds; what it says to standard error.
fn done(dir: &Path, words: &[&str]) -> Result<String> {
    let output = holm(dir, words)?.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{words:?}: {said}");
    Ok(said)
}

/// A gateway of a control plane that knows so many simulated devices, with an app that records every reading.
fn site(dir: &Path, devices: &str, way: Way) -> Result<(Cloud, Gateway)> {
    let author = Author::new(&dir.join("author"))?;
    let cloud = Cloud::start(&dir.join("cloud"), &author)?;
    let mut setup = Setup { name: "barn".to_owned(), ..Setup::default() };
    if way == Way::Tls {
        done(dir, &["device", "ca"])?;
        done(dir, &["device", "listener", "barn", "--host", "barn.local"])?;
        setup.tls = Some((dir.join("barn.pem"), dir.join("barn.key")));
        setup.client_ca = Some(dir.join("device-ca.pem"));
    }
    let mut gateway = Gateway::new(&dir.join("gateway"), &setup)?;
    let agent_toml = gateway.config();
    let agent_toml = agent_toml.to_str().context("UTF-8")?;
    let address = gateway.address().to_string();
    let words = ["simulate", "prepare", "--devices", devices, "--gateway", &address];
    let words = [&words[..], &["--agent-toml", agent_toml]].concat();
    match way {
        Way::Plain => done(dir, &words)?,
        Way::Tls => done(dir, &[&words[..], &["--tls", "--server-name", "barn.local"]].concat())?,
    };
    gateway.enroll(author.holm(&["gateway", "add", "barn"])?.trim())?;
    gateway.start()?;
    author.holm(&["deploy", fixture("apps/fleet").to_str().context("UTF-8")?, "--all"])?;
    wait_live(&gateway, "fleet")?;
    Ok((cloud, gateway))
}

#[test]
fn two_hundred_devices_lose_nothing_on_a_bad_day_with_a_gateway_that_dies() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (_cloud, mut gateway) = site(dir.path(), "200", Way::Plain)?;
    fs::write(dir.path().join("storm.toml"), STORM)?;
    let words = ["simulate", "--devices", "200", "--cloud", "barn", "--profile", "storm.toml"];
    let more = ["--for", "20", "--seed", "11", "--settle", "120", "--json", "--html", "day.html"];
    let log = dir.path().join("simulate.log");
    let mut running =
        Process::start("holm simulate", holm(dir.path(), &[&words[..], &more].concat())?, &log)?;
    wait_for(PATIENCE, "readings in the control plane", || {
        ensure!(running.is_running(), "{}", running.output());
        let lines = running.output();
        let mut progress =
            lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(progress.any(|line| line["at"]["cloud"].as_u64() > Some(100)).then_some(()))
    })?;
    gateway.kill()?;
    gateway.start()?;
    running.wait(LONG).with_context(|| running.output())?;
    let summary = summary(&running.output())?;
    eprintln!("{summary}");
    assert_eq!(summary["holds"], true, "{summary}");
    let at = &summary["at"];
    let count = |what: &str| at[what].as_u64().unwrap_or_default();
    assert_eq!((count("devices"), count("hostile"), count("attacks_taken")), (200, 20, 0));
    ensure!(count("acked") > 2_000 && count("acked") == count("cloud"), "{at}");
    ensure!(count("seen") >= count("acked") && count("kept") >= count("acked"), "{at}");
    ensure!(count("power_cuts") > 20 && count("attacks") > 100 && count("connects") > 300, "{at}");
    ensure!(fs::read_to_string(dir.path().join("day.html"))?.contains("<svg"));
    gateway.stop()
}

#[test]
fn one_command_shows_devices_functions_and_control_plane() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("author"))?;
    let port = free_port()?;
    let words = ["simulate", "--with-gateway", "--port", &port, "--devices", "20", "--for", "8"];
    let output = holm(dir.path(), &[&words[..], &["--seed", "3", "--json"]].concat())?.output()?;
    let summary = holds(&output)?;
    let rules: Vec<_> = summary["checks"].as_array().into_iter().flatten().collect();
    let is_judged = |part: &str| {
        rules.iter().any(|check| check["rule"].as_str().is_some_and(|it| it.contains(part)))
    };
    ensure!(is_judged("reached a function") && is_judged("reached the control plane"), "{summary}");
    ensure!(summary["at"]["functions"].as_u64() > Some(20), "{summary}");
    Ok(())
}

/// More devices than a gateway remembers without having been told of them, with links that break: what is sent again is known.
#[test]
fn two_thousand_devices_come_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("author"))?;
    let profile = "period = \"4 s\"\njoin = \"4 s\"\nbackoff_max = \"2 s\"\n\
                   [faults.half_open]\ndevices = 0.5\nevery = \"8 s\"\nlasts = \"1 s\"\n\
                   [faults.cut]\ndevices = 0.5\nevery = \"8 s\"\nlasts = \"1 s\"\n";
    fs::write(dir.path().join("breaks.toml"), profile)?;
    let port = free_port()?;
    let words = ["simulate", "--with-gateway", "--port", &port, "--devices", "2000"];
    let more =
        ["--profile", "breaks.toml", "--for", "25", "--seed", "5", "--settle", "150", "--json"];
    let summary = holds(&holm(dir.path(), &[&words[..], &more].concat())?.output()?)?;
    let at = &summary["at"];
    ensure!(at["acked"].as_u64() > Some(5_000) && at["connects"].as_u64() > Some(3_000), "{at}");
    Ok(())
}

#[test]
fn devices_with_certificates_lose_nothing_on_a_bad_day() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("author"))?;
    fs::write(dir.path().join("storm.toml"), STORM)?;
    let (port, tls_port) = (free_port()?, free_port()?);
    let words = ["simulate", "--with-gateway", "--port", &port, "--tls", "--tls-port", &tls_port];
    let more = ["--profile", "storm.toml", "--devices", "40", "--for", "20", "--seed", "8"];
    let words = [&words[..], &more, &["--settle", "120", "--json"]].concat();
    let summary = holds(&holm(dir.path(), &words)?.output()?)?;
    let at = &summary["at"];
    ensure!(at["acked"].as_u64() > Some(300) && at["functions"].as_u64() > Some(300), "{at}");
    ensure!(at["power_cuts"].as_u64() > Some(5) && at["attacks"].as_u64() > Some(20), "{at}");
    Ok(())
}

/// Without an envelope, with and without TLS, at a gateway that is given.
#[test]
fn devices_that_were_not_made_for_holm_lose_nothing_either() -> Result<()> {
    for way in [Way::Plain, Way::Tls] {
        let dir = tempfile::tempdir()?;
        let (_cloud, mut gateway) = site(dir.path(), "40", way)?;
        fs::write(dir.path().join("storm.toml"), format!("message = \"plain\"\n{STORM}"))?;
        let words = ["simulate", "--devices", "40", "--profile", "storm.toml", "--for", "15"];
        let more = ["--seed", "9", "--settle", "120", "--json"];
        let summary = holds(&holm(dir.path(), &[&words[..], &more].concat())?.output()?)?;
        let at = &summary["at"];
        ensure!(at["acked"].as_u64() > Some(200) && at["seen"] == at["acked"], "{at}");
        ensure!(at["attacks"].as_u64() > Some(10) && at["power_cuts"].as_u64() > Some(3), "{at}");
        gateway.stop()?;
    }
    Ok(())
}

/// Devices of another authority than the gateway's are told so.
#[test]
fn devices_of_another_authority_say_why_they_stay_away() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (_cloud, mut gateway) = site(dir.path(), "2", Way::Tls)?;
    let address = gateway.address().to_string();
    let other = ["--ca", "others", "--tls", "--server-name", "barn.local"];
    done(dir.path(), &["device", "ca", "--ca", "others"])?;
    let words =
        ["simulate", "prepare", "-n", "2", "--gateway", &address, "--credentials", "strangers"];
    done(dir.path(), &[&words[..], &other].concat())?;
    let words = ["simulate", "-n", "2", "--credentials", "strangers", "--for", "1"];
    let output = holm(dir.path(), &words)?.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("no trusted TLS connection"), "{said}");
    // One of each in a folder.
    fs::copy(
        dir.path().join("strangers/sim-0002.provision"),
        dir.path().join(".holm/simulate/devices/sim-0002.provision"),
    )?;
    let output = holm(dir.path(), &["simulate", "-n", "2", "--for", "1"])?.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("`sim-0002` and `sim-0001` were made for different gateways"), "{said}");
    gateway.stop()
}

/// Firmware with certificates from its flash, and with clocks that begin in 1970.
#[test]
fn emulated_devices_speak_tls_and_have_wrong_clocks() -> Result<()> {
    if !qemu::is_here() {
        eprintln!("skipped: {} is missing (`cargo xtask test --install`)", qemu::PROGRAM);
        return Ok(());
    }
    let firmware = qemu::firmware(FOLDER, &["full", "tls", "wrong-clock"])?;
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("author"))?;
    let profile =
        "period = \"300 ms\"\n[clock]\nin_1970 = 1\n[watch]\nfunctions = \"simulated/+\"\n";
    fs::write(dir.path().join("old.toml"), profile)?;
    let (port, tls_port) = (free_port()?, free_port()?);
    let elf = firmware.path.to_str().context("UTF-8")?;
    let words = ["simulate", "--with-gateway", "--port", &port, "--tls", "--tls-port", &tls_port];
    let more = ["--devices", "2", "--firmware", elf, "--profile", "old.toml", "--for", "30"];
    let log = dir.path().join("simulate.log");
    let words = [&words[..], &more, &["--settle", "120", "--json"]].concat();
    let mut running = Process::start("holm simulate", holm(dir.path(), &words)?, &log)?;
    let broker = format!("mqtt://127.0.0.1:{port}");
    let listening = format!("127.0.0.1:{port}");
    wait_for(LONG, "the gateway", || {
        ensure!(running.is_running(), "{}", running.output());
        Ok(std::net::TcpStream::connect(&listening).ok().map(drop))
    })?;
    let follows = ["sub", "simulated/+", "-b", &broker, "-n", "30", "--for", "60", "--json"];
    let output = holm(dir.path(), &follows)?.output()?;
    let heard = String::from_utf8_lossy(&output.stdout).into_owned();
    running.wait(LONG).with_context(|| running.output())?;
    let summary = summary(&running.output())?;
    eprintln!("{summary}");
    assert_eq!(summary["holds"], true, "{summary}");
    ensure!(summary["at"]["acked"].as_u64() >= Some(40), "{summary}");
    let measured = heard.lines().filter_map(|line| {
        serde_json::from_str::<Value>(line).ok()?["payload"]["measured_ms"].as_u64()
    });
    // Before the gateway has told them the time they have none; afterwards it is the first day of 1970.
    let measured: Vec<u64> = measured.collect();
    ensure!(measured.len() > 5 && measured.iter().all(|ms| *ms < 86_400_000), "{heard}");
    Ok(())
}

/// The temperature of an emulated sensor, from a command through firmware and function; power cuts meanwhile.
#[test]
fn a_value_set_in_an_emulated_device_reaches_the_function() -> Result<()> {
    if !qemu::is_here() {
        eprintln!("skipped: {} is missing (`cargo xtask test --install`)", qemu::PROGRAM);
        return Ok(());
    }
    let firmware = qemu::firmware(FOLDER, &["full"])?;
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("author"))?;
    let profile = "period = \"300 ms\"\n[sensors.temperature]\nwaveform = \"constant\"\nvalue = 21\n\
                   [faults.power_cut]\ndevices = 1\nevery = \"6 s\"\nlasts = \"1 s\"\n\
                   [watch]\nfunctions = \"simulated/+\"\n";
    fs::write(dir.path().join("power.toml"), profile)?;
    let port = free_port()?;
    let elf = firmware.path.to_str().context("UTF-8")?;
    let words =
        ["simulate", "--with-gateway", "--port", &port, "--devices", "2", "--firmware", elf];
    let more = ["--profile", "power.toml", "--for", "25", "--settle", "120", "--json"];
    let log = dir.path().join("simulate.log");
    let mut running =
        Process::start("holm simulate", holm(dir.path(), &[&words[..], &more].concat())?, &log)?;
    wait_for(LONG, "the function to hear of the devices", || {
        ensure!(running.is_running(), "{}", running.output());
        let lines = running.output();
        let mut progress =
            lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(progress.any(|line| line["at"]["functions"].as_u64() > Some(4)).then_some(()))
    })?;
    let set = ["simulate", "set", "sim-0001", "temperature", "42.5", "--json"];
    let output = holm(dir.path(), &set)?.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((answer["before"].as_f64(), answer["after"].as_f64()), (Some(21.0), Some(42.5)));
    let broker = format!("mqtt://127.0.0.1:{port}");
    let follows = ["sub", "simulated/sim-0001", "-b", &broker, "-n", "12", "--for", "40", "--json"];
    let output = holm(dir.path(), &follows)?.output()?;
    let heard = String::from_utf8_lossy(&output.stdout);
    let mut celsius = heard.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["payload"]["celsius"].as_f64()
    });
    assert_eq!(celsius.next_back(), Some(42.5), "{heard}");
    running.wait(LONG).with_context(|| running.output())?;
    let summary = summary(&running.output())?;
    eprintln!("{summary}");
    assert_eq!(summary["holds"], true, "{summary}");
    ensure!(summary["at"]["power_cuts"].as_u64() >= Some(2), "{summary}");
    ensure!(summary["at"]["acked"].as_u64() >= Some(40), "{summary}");
    Ok(())
}

#[test]
fn what_is_missing_is_told_with_what_to_do() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("author"))?;
    let fails = |words: &[&str]| -> Result<String> {
        let output = holm(dir.path(), &[&["simulate"], words].concat())?.output()?;
        ensure!(!output.status.success(), "{words:?}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    ensure!(fails(&[])?.contains("holm simulate prepare --devices 20"));
    ensure!(fails(&["set", "sim-0001", "temperature", "1"])?.contains("no simulation runs in"));
    fs::write(dir.path().join("bad.toml"), "perid = \"1 s\"\n")?;
    ensure!(fails(&["--profile", "bad.toml"])?.contains("did you mean `period`?"));
    let address = format!("127.0.0.1:{}", free_port()?);
    let output =
        holm(dir.path(), &["simulate", "prepare", "-n", "2", "--gateway", &address])?.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(fails(&["prepare", "-n", "3", "--tls"])?.contains("was made without TLS"));
    ensure!(fails(&["-n", "2"])?.contains("is a gateway running there?"));
    let run = dir.path().join("run");
    fs::create_dir(&run)?;
    let other = fs::File::create(run.join("lock"))?;
    other.lock()?;
    ensure!(fails(&["-n", "2", "--run", "run"])?.contains("another simulation runs in run"));
    drop(other);
    ensure!(
        fails(&["-n", "2", "--firmware", "none.elf"])?
            .contains("cargo build --release --features full")
    );
    // A gateway that does not know them.
    let mut gateway = Gateway::new(
        &dir.path().join("gateway"),
        &Setup { name: "barn".to_owned(), ..Setup::default() },
    )?;
    gateway.start()?;
    let address = gateway.address().to_string();
    let said = fails(&["-n", "2", "--gateway", &address])?;
    ensure!(said.contains("does not know `sim-watch`"), "{said}");
    gateway.stop()
}

fn free_port() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string())
}
