//! Doctor, backup, restore and reset against real agents and a real control plane.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use system_tests::author::Author;
use system_tests::cloud::Cloud;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::{program, wait_for};

use crate::functions::rogue;
use crate::support::{
    PATIENCE, author, deploy_counter, managed_gateway_with, publish, records_of, wait_drained,
    wait_live,
};

/// What a command printed as JSON, whatever its exit code.
fn json(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What a command that must fail says.
fn refusal(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(!output.status.success(), "it was done: {}", String::from_utf8_lossy(&output.stdout));
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the path is not UTF-8")
}

fn restore(backup: &Path, data: &Path, more: &[&str]) -> Result<Command> {
    let mut command = Command::new(program("edge-agent")?);
    command.args(["restore", path(backup)?, "--json", "--data", path(data)?]).args(more);
    Ok(command)
}

fn counted(gateway: &Gateway) -> Result<String> {
    let state = gateway.ask(&["state", "counter/counter"])?;
    Ok(state[0]["value"]["text"].as_str().unwrap_or("0").to_owned())
}

fn alarms(cloud: &Cloud) -> Result<Vec<String>> {
    let page = cloud.get("/v1/alarms")?;
    let rows = page["rows"].as_array().into_iter().flatten();
    Ok(rows.filter_map(|row| row["code"].as_str()).map(str::to_owned).collect())
}

/// A backup is put on another machine after the old one worked on. The new one goes on behind what
/// is stored, under a process run of its own; the old one is not let in any more, and an alarm
/// names it.
#[test]
fn a_replacement_goes_on_and_the_old_machine_is_shut_out() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::open("phoenix");
    let (cloud, mut old) = managed_gateway_with(dir.path(), &setup)?;
    let backup = dir.path().join("backup");
    publish(&old, 1, 20)?;
    wait_drained(&old)?;
    let running = refusal(&mut old.agent(&["backup", path(&backup)?])?)?;
    assert!(running.contains("systemctl stop edge-agent"), "{running}");
    old.stop()?;
    let done = json(&old.agent(&["backup", path(&backup)?, "--json"])?.output()?)?;
    assert_eq!((&done["gateway"], &done["identity"]), (&"phoenix".into(), &true.into()));
    let listed = Command::new("tar").args(["-tzf", path(&backup)?]).output()?;
    let listed = (listed.status.success(), String::from_utf8(listed.stdout)?);
    assert!(listed.0 && listed.1.ends_with("manifest.json\n"), "{listed:?}");
    old.start()?;
    publish(&old, 2, 20)?;
    wait_drained(&old)?;
    let old_epoch = old.status()?["epoch"].clone();
    old.stop()?;

    let mut new = Gateway::new(&dir.path().join("new"), &setup)?;
    let replacement = ["--as-replacement"];
    let restored = json(&restore(&backup, &new.data_dir(), &replacement)?.output()?)?;
    assert_eq!(restored["identity"], false, "{restored}");
    let again = refusal(&mut restore(&backup, &new.data_dir(), &replacement)?)?;
    assert!(again.contains("--force"), "it is there: {again}");
    let author = Author::at(&dir.path().join("author"));
    new.enroll(author.holm(&["gateway", "add", "phoenix"])?.trim())?;
    new.start()?;
    wait_live(&new, "counter")?;
    publish(&new, 3, 5)?;
    wait_drained(&new)?;
    assert_eq!(counted(&new)?, "25", "from the backup, and what came here");

    let rows = cloud.stream("phoenix", 1)?;
    let seqs: Vec<_> = rows.iter().map(|row| row["seq"].as_u64().unwrap_or_default()).collect();
    assert_eq!(seqs, (1..=45).collect::<Vec<_>>(), "no position was used twice, and none is lost");
    let epoch = new.status()?["epoch"].clone();
    assert_ne!(epoch, old_epoch);
    let of = |rows: &[Value]| -> BTreeSet<String> {
        rows.iter().filter_map(|row| row["epoch"].as_str()).map(str::to_owned).collect()
    };
    assert_eq!(of(&rows[40..]), BTreeSet::from([epoch.as_str().context("no epoch")?.to_owned()]));
    assert!(!alarms(&cloud)?.contains(&"void-certificate".to_owned()));

    old.start()?;
    publish(&old, 4, 5)?;
    wait_for(PATIENCE, "the alarm", || {
        Ok(alarms(&cloud)?.contains(&"void-certificate".to_owned()).then_some(()))
    })?;
    assert_eq!(old.status()?["uplink"]["up"], false);
    old.wait_idle(PATIENCE)?;
    assert_eq!(records_of(&old.status()?, 1), 5, "it keeps what it took");
    publish(&new, 5, 5)?;
    wait_drained(&new)?;
    assert_eq!(cloud.stream("phoenix", 1)?.len(), 50, "of the new one only");
    old.stop()?;
    new.stop()
}

/// The same machine, its data put back: it is who it was, and no position is used twice.
#[test]
fn a_restored_gateway_is_who_it_was() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (cloud, mut gateway) = managed_gateway_with(dir.path(), &Setup::open("lazarus"))?;
    let backup = dir.path().join("backup");
    publish(&gateway, 1, 20)?;
    wait_drained(&gateway)?;
    gateway.stop()?;
    ensure!(gateway.agent(&["backup", path(&backup)?])?.status()?.success());
    gateway.start()?;
    publish(&gateway, 2, 7)?;
    wait_drained(&gateway)?;
    let data = gateway.data_dir();
    let running = refusal(&mut restore(&backup, &data, &["--force"])?)?;
    assert!(running.contains("stop it first"), "{running}");
    gateway.kill()?;

    let by_config = ["restore", path(&backup)?, "--json", "--force"];
    let restored = json(&gateway.agent(&by_config)?.output()?)?;
    let before = Path::new(restored["before"].as_str().context("no folder")?);
    assert!(before.join("store").is_dir(), "what was there is kept");
    let (well, report) = doctor(&gateway, &[])?;
    assert!(well && states(&report, "store") == ["ok"], "the reserve is made again: {report:#}");
    cloud.link.cut();
    gateway.start()?;
    publish(&gateway, 3, 5)?;
    gateway.wait_idle(PATIENCE)?;
    cloud.link.mend();
    wait_drained(&gateway)?;
    assert_eq!(counted(&gateway)?, "25");
    let rows = cloud.stream("lazarus", 1)?;
    let seqs: Vec<_> = rows.iter().map(|row| row["seq"].as_u64().unwrap_or_default()).collect();
    assert_eq!(seqs, (1..=32).collect::<Vec<_>>(), "20, 7 of the lost life, and 5");
    gateway.stop()
}

/// Whether there is no fault, and the report.
fn doctor(gateway: &Gateway, more: &[&str]) -> Result<(bool, Value)> {
    let output = gateway.agent(&[&["doctor", "--json"], more].concat())?.output()?;
    Ok((output.status.success(), json(&output)?))
}

/// Every line of the doctor's report on a check.
fn states(report: &Value, check: &str) -> Vec<String> {
    let all = report["findings"].as_array().into_iter().flatten();
    let of = all.filter(|finding| finding["check"] == check);
    of.filter_map(|finding| finding["state"].as_str()).map(str::to_owned).collect()
}

/// Texts of the files in a bundle.
fn unpack(bundle: &Path) -> Result<String> {
    let mut command = Command::new("tar");
    let output = command.args(["-xzOf", path(bundle)?]).output()?;
    ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn the_doctor_works_beside_an_agent_and_without_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let token = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let log = dir.path().join("agent-own.log");
    let setup = Setup {
        devices: vec![("press-0".to_owned(), token.to_owned())],
        more: format!("# the password is hunter2\n[log]\nfile = {log:?}\n"),
        ..Setup::open("patient")
    };
    let (_cloud, mut gateway) = managed_gateway_with(dir.path(), &setup)?;
    let bundle = dir.path().join("bundle.tar.gz");
    let (well, report) = doctor(&gateway, &["--bundle", path(&bundle)?])?;
    assert!(well, "{report:#}");
    let all = [
        "settings",
        "identity",
        "dns",
        "control-plane",
        "tls",
        "store",
        "permissions",
        "errors",
        "wear",
    ];
    for check in all {
        assert_eq!(states(&report, check), ["ok"], "{check}: {report:#}");
    }
    assert_eq!(states(&report, "ports"), ["ok"]);
    assert_eq!(states(&report, "agent")[0], "ok");
    let text = unpack(&bundle)?;
    let hash = system_tests::ledger::hash(token.as_bytes());
    for secret in [token, hash.as_str(), "hunter2", "PRIVATE KEY"] {
        assert!(!text.contains(secret), "{secret}");
    }
    for told in ["patient", "press-0", "uptime_s", "ready gateway="] {
        assert!(text.contains(told), "{told} is missing: {text}");
    }
    assert!(gateway.status()?["uptime_s"].is_u64(), "the agent did not notice");

    gateway.stop()?;
    let (well, report) = doctor(&gateway, &[])?;
    assert!(well, "a stopped agent is no fault: {report:#}");
    assert_eq!(states(&report, "agent"), ["warning"]);
    let taken = std::net::TcpListener::bind(gateway.address())?;
    let (well, report) = doctor(&gateway, &[])?;
    assert!(!well, "{report:#}");
    assert_eq!(states(&report, "ports"), ["fault"]);
    drop(taken);
    gateway.start()?;
    gateway.stop()
}

/// The log goes to no file here. What a function said as it died is told all the same, without the
/// secret in it, and whoever makes a bundle learns what is missing.
#[test]
fn the_last_errors_are_told_where_the_log_goes_to_no_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut gateway, mut device) = rogue(&dir.path().join("gateway"), "")?;
    device.publish("rogue-in/panic", "password=hunter2")?;
    let is_of = |row: &&Value, level: &str| {
        let text = row["text"].as_str().unwrap_or_default();
        row["level"] == level && text.contains("on purpose: password=<redacted>")
    };
    let rows = wait_for(PATIENCE, "the words of the function", || {
        let status = gateway.status()?;
        let rows = status["errors"].as_array().context("no errors")?;
        let is_told = |level: &str| rows.iter().any(|row| is_of(&row, level));
        Ok((is_told("error") && is_told("warn")).then(|| rows.clone()))
    })?;
    let error = rows.iter().find(|row| is_of(row, "error")).context("it was there")?;
    assert_eq!(error["target"], "function", "{error}");
    assert!(error["age_ms"].as_u64() < Some(60_000) && error["unix_ms"].is_u64(), "{error}");
    assert!(gateway.printed().contains("hunter2"), "the log itself is as it was said");

    let bundle = dir.path().join("help.tar.gz");
    let output = gateway.agent(&["doctor", "--json", "--bundle", path(&bundle)?])?.output()?;
    assert!(output.status.success(), "no fault: {output:?}");
    let report = json(&output)?;
    assert_eq!(states(&report, "errors"), ["warning"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the log is not in it") && said.contains("Send it too: "), "{said}");
    let text = unpack(&bundle)?;
    assert!(text.contains("on purpose") && !text.contains("hunter2"), "{text}");
    let output = gateway.agent(&["doctor"])?.output()?;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("warning  errors") && table.contains(" ago, error: "), "{table}");

    let output = gateway.agent(&["doctor", "--bundle", path(&bundle)?])?.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("is there already: name another file"), "{said}");
    assert!(!output.status.success() && output.stdout.is_empty(), "before it looks");
    gateway.stop()
}

#[test]
fn a_doctor_without_settings_says_how_to_name_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = Command::new(program("edge-agent")?);
    let output = command.args(["doctor", "--json", "--config"]).arg(dir.path().join("a.toml"));
    let report = json(&output.output()?)?;
    let finding = &report["findings"][0];
    let mend = finding["mend"].as_str().context("no mend")?;
    assert!(finding["state"] == "fault" && mend.contains("`--config FILE`"), "{report:#}");
    Ok(())
}

#[test]
fn a_reset_gateway_is_as_on_the_first_day() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup { author_keys: vec![author().key()?], ..Setup::open("amnesia") };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    deploy_counter(&gateway)?;
    publish(&gateway, 1, 10)?;
    gateway.wait_idle(PATIENCE)?;
    let running = refusal(&mut gateway.agent(&["reset", "--yes"])?)?;
    assert!(running.contains("stop it first"), "{running}");
    gateway.stop()?;
    let asked = refusal(&mut gateway.agent(&["reset"])?)?;
    assert!(asked.contains("--yes"), "{asked}");
    gateway.start()?;
    assert_eq!(counted(&gateway)?, "10", "nothing was deleted yet");
    gateway.kill()?;

    let done = json(&gateway.agent(&["reset", "--yes", "--json"])?.output()?)?;
    // A part of the data folder that reset and backup do not know of would show here. The socket of
    // an agent that was killed is no data.
    let left: Vec<_> = done["left"].as_array().into_iter().flatten().collect();
    assert!(left.iter().all(|name| **name == "control.sock"), "{done}");
    gateway.start()?;
    let status = gateway.status()?;
    assert_eq!(status["deployments"]["apps"].as_array().map(Vec::len), Some(0), "{status:#}");
    assert_eq!(status["outbox"]["records"].as_u64().filter(|n| *n > 1), None, "{status:#}");
    deploy_counter(&gateway)?;
    publish(&gateway, 1, 3)?;
    gateway.wait_idle(PATIENCE)?;
    assert_eq!(counted(&gateway)?, "3", "its devices are new to it as well");
    gateway.stop()
}

/// A power cut behind the first step of a reset: the next start goes on with it, as it was meant.
#[test]
fn a_reset_that_was_cut_off_is_finished_by_the_next_start() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (_cloud, mut gateway) = managed_gateway_with(dir.path(), &Setup::open("halved"))?;
    let data = gateway.data_dir();
    let cut_off = |name: &str| fs::rename(data.join("store"), data.join(name));
    publish(&gateway, 1, 5)?;
    wait_drained(&gateway)?;
    gateway.stop()?;
    cut_off("store.reset")?;
    let (well, report) = doctor(&gateway, &[])?;
    assert!(!well && states(&report, "store") == ["fault"], "{report:#}");
    assert!(report.to_string().contains("reset --yes --keep-identity"), "{report:#}");
    gateway.start()?;
    // It is enrolled still, and its control plane sends its app again.
    wait_live(&gateway, "counter")?;
    let (well, report) = doctor(&gateway, &[])?;
    assert!(well && states(&report, "store") == ["ok"], "{report:#}");
    publish(&gateway, 2, 3)?;
    wait_drained(&gateway)?;
    assert_eq!(counted(&gateway)?, "3", "the state of before is gone");

    gateway.stop()?;
    cut_off("store.reset-all")?;
    gateway.start()?;
    assert!(!data.join("identity").exists(), "it was to go as well");
    let (well, report) = doctor(&gateway, &[])?;
    assert!(well && states(&report, "store") == ["ok"], "{report:#}");
    let status = gateway.status()?;
    assert_eq!(status["deployments"]["apps"].as_array().map(Vec::len), Some(0), "{status:#}");
    gateway.stop()
}

#[test]
fn a_store_that_cannot_be_opened_is_told_and_becomes_no_backup() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &Setup::open("rotten"))?;
    gateway.start()?;
    gateway.stop()?;
    let backup = dir.path().join("backup");
    for file in ["checkpoint.redb", "journal-00.seg"] {
        let at = gateway.data_dir().join("store").join(file);
        let whole = fs::read(&at)?;
        fs::write(&at, vec![0x5A; whole.len()])?;
        let (well, report) = doctor(&gateway, &[])?;
        assert!(!well && states(&report, "store") == ["fault"], "{report:#}");
        let why = format!("{file} does not belong to this store");
        assert!(report.to_string().contains(&why), "{report:#}");
        let told = refusal(&mut gateway.agent(&["backup", path(&backup)?])?)?;
        assert!(told.contains(&why) && !backup.exists(), "{told}");
        let told = refusal(&mut gateway.agent(&["run"])?)?;
        assert!(told.contains(&why), "the start says the same: {told}");
        fs::write(&at, whole)?;
    }
    let (well, report) = doctor(&gateway, &[])?;
    assert!(well, "{report:#}");
    gateway.start()?;
    gateway.stop()
}

/// Only root can be somebody else.
#[test]
fn whoever_may_not_look_gets_warnings_only() -> Result<()> {
    const NOBODY: u32 = 65_534;
    let dir = tempfile::tempdir()?;
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &Setup::open("private"))?;
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    open(dir.path(), 0o755)?;
    if std::os::unix::fs::chown(dir.path(), Some(0), None).is_err() {
        eprintln!("skipped: only root can run the doctor as somebody else");
        return Ok(());
    }
    // Where it was built nobody may look.
    let (built, agent) = (program("edge-agent")?, dir.path().join("edge-agent"));
    fs::hard_link(&built, &agent).or_else(|_| fs::copy(&built, &agent).map(drop))?;
    gateway.start()?;
    open(&gateway.data_dir(), 0o700)?;
    let as_nobody = |gateway: &Gateway| -> Result<(bool, Value)> {
        let mut command = Command::new(&agent);
        command.args(["doctor", "--json", "--config", path(&gateway.config())?]);
        let output = command.uid(NOBODY).gid(NOBODY).current_dir("/").output()?;
        Ok((output.status.success(), json(&output)?))
    };
    let check = |report: &Value| {
        for check in ["store", "agent", "identity"] {
            assert_eq!(states(report, check), ["warning"], "{check}: {report:#}");
        }
        assert_eq!(states(report, "permissions"), ["warning"; 2], "{report:#}");
        assert_eq!(states(report, "ports"), [""; 0], "nobody knows who has them: {report:#}");
    };
    let (well, report) = as_nobody(&gateway)?;
    check(&report);
    assert!(well, "{report:#}");
    gateway.stop()?;
    let (well, report) = as_nobody(&gateway)?;
    check(&report);
    assert!(well, "{report:#}");
    Ok(())
}
