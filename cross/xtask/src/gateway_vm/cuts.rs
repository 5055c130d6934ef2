//! Power cuts of the card: a gateway in QEMU works on a card that records every block write, and the
//! record is cut at many points. `system_tests::replay` says why a cut may judge.
//!
//! The other slot is on trial at the start, so that the boot loader and the keeper write the boot
//! record within the record. The link is cut at half of the messages: before it, what is done leaves the
//! store by receipts; behind it, everything stays.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use edge_core::boot::card::BootRecord;
use serde_json::{Value, json};
use system_tests::host;
use system_tests::replay::card::{Card, Milestone, Part, Recording, clients_toml};
use system_tests::replay::part;
use system_tests::replay_options;

use super::Basis;
use super::gate::Gate;
use super::machine::{Hardware, PATIENCE};
use super::site::{GATEWAY, Site};
use super::slots;
use crate::command::built;
use crate::image::layout::{MIB, PARTITIONS, RECORD_SECTORS, SECTOR};

/// What is recorded and cut.
#[derive(Debug)]
pub(crate) struct Options {
    /// What it is made of.
    pub(super) basis: Basis,
    /// Messages of each device.
    pub(crate) messages: u32,
    /// How the record is cut.
    pub(crate) cuts: Cuts,
}

/// How a record is cut.
#[derive(Debug)]
pub(crate) struct Cuts {
    /// Points.
    pub(crate) points: u32,
    /// Chooses them.
    pub(crate) seed: u64,
    /// Only the one with this number.
    pub(crate) only: Option<usize>,
    /// The record stays.
    pub(crate) keep: bool,
    /// The report is printed as JSON.
    pub(crate) json: bool,
}

/// Cuts of a card that does not do its last flushes.
const LYING_POINTS: usize = 20;
/// The part of the card with the boot record, and room before it.
const RECORD_PART: Part = Part { start: 2 * MIB, bytes: 10 * MIB };
/// Time for the gateway to work on what was acked last.
const REST: Duration = Duration::from_secs(2);

/// Folder of the record below that of the task.
fn folder(dir: &Path) -> PathBuf {
    dir.join("card")
}

/// Says why a card could not be recorded here, and ends what a run that was killed left in the folder.
pub(crate) fn check_host(dir: &Path) -> Result<()> {
    if let Some(why) = host::why_not() {
        bail!("the power of a card cannot be cut here: {why}");
    }
    for left in host::clean(dir)? {
        eprintln!("left by a former run, ended now: {left}");
    }
    Ok(())
}

/// Records and cuts.
pub(crate) fn record_and_cut(options: &Options) -> Result<()> {
    let begun = Instant::now();
    record(options)?;
    eprintln!("recorded in {:.0} s", begun.elapsed().as_secs_f64());
    cut(&options.basis.dir, &options.cuts)
}

/// A gateway from its first boot to its last message, on a card that writes everything down.
fn record(options: &Options) -> Result<()> {
    eprintln!("starting the control plane, building the image");
    let site = Site::start(&options.basis.dir)?;
    let gate = Gate::new(GATEWAY, &clients_toml());
    let token = site.token(&gate)?;
    let built = site.image_of(&gate, &token, &options.basis.agent, &options.basis.parts)?;
    let dir = folder(&options.basis.dir);
    std::fs::create_dir_all(&dir)?;
    let image = dir.join("disk.img");
    std::fs::rename(&built.image, &image).context("the card")?;
    slots::good_on_trial(&image)?;
    let data = &PARTITIONS[3];
    let recording = Recording::begin(
        &dir,
        Card {
            gateway: GATEWAY.to_owned(),
            token,
            config: site.config(&gate),
            data: Part { start: data.start, bytes: data.bytes },
        },
    )?;
    let hardware = site.hardware(&built, options.basis.memory_mib)?;
    let image = recording.image().to_owned();
    let hardware = Hardware { image, is_recorded: true, ..hardware };
    let load = life(options, &site, &hardware, &recording)?;
    recording.finish(options.messages, load, &site.streams_of(GATEWAY)?)
}

/// One life of the machine; how long the clients took.
fn life(
    options: &Options,
    site: &Site,
    hardware: &Hardware,
    recording: &Recording,
) -> Result<Duration> {
    eprintln!("first boot, with the other slot on trial; every block write is recorded");
    let mut machine = hardware.start()?;
    machine.expect("trial 1, tries left", PATIENCE)?;
    machine.expect("taken from the boot partition", PATIENCE)?;
    recording.reached(Milestone::Seeded)?;
    let line = machine.expect("enrolled as", PATIENCE)?;
    recording.reached(Milestone::Enrolled)?;
    eprintln!("  {}", line.trim());
    machine.expect("is kept", PATIENCE)?;
    site.deploy_app("cold-chain", &[GATEWAY.to_owned()])?;
    eprintln!("{} messages of each of five devices; the link is cut at half", options.messages);
    let begun = Instant::now();
    let (ca, interrupt) = (&site.identity.ca, &site.interrupt);
    let at_half = || site.cloud.link.cut();
    recording.load(hardware.address(), ca, options.messages, interrupt, at_half)?;
    let load = begun.elapsed();
    machine.pause(REST)?;
    machine.stop()?;
    Ok(load)
}

/// Cuts the record in the folder, and judges.
pub(crate) fn cut(dir: &Path, cuts: &Cuts) -> Result<()> {
    let dir = folder(dir);
    let found = replay(&dir, cuts, false)?;
    if cuts.only.is_some() {
        return finish(&found, &Value::Null, &[], cuts.json);
    }
    let record = part::cut(&dir, RECORD_PART, cuts.seed, &mut judge_boot_record)?;
    let mut problems = record.problems;
    if record.writes == 0 {
        problems.push("the boot record was never written: it proves nothing".to_owned());
    }
    eprintln!(
        "boot record: {} writes, {} cuts around them, {} with problems",
        record.writes,
        record.cuts,
        problems.len()
    );
    eprintln!("a card that does not do its last flushes, to see that the judge can fail");
    let lies = Cuts { points: u32::try_from(LYING_POINTS)?, json: true, ..*cuts };
    let lying = replay(&dir, &lies, true)?;
    let more = json!({
        "boot_record": { "writes": record.writes, "cuts": record.cuts, "problems": problems },
        "lying_card": { "cuts": LYING_POINTS, "found_out": found_out(&lying) },
    });
    finish(&found, &more, &problems, cuts.json)?;
    if !cuts.keep {
        std::fs::remove_dir_all(&dir).context("removing the record")?;
    }
    Ok(())
}

/// The cuts themselves, in the program that has the agent's store.
fn replay(dir: &Path, cuts: &Cuts, disk_lies: bool) -> Result<Value> {
    let options = replay_options::Options {
        dir: dir.to_owned(),
        seed: cuts.seed,
        points: usize::try_from(cuts.points)?,
        whole_every: usize::MAX,
        messages: 0,
        only: cuts.only,
        disk_lies,
        agent: String::new(),
        plant: None,
        again: true,
        keep: true,
        json: cuts.json,
    };
    let file = dir.join("cuts.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&options)?)?;
    let mut command = Command::new(built("crash-replay")?);
    command.arg(file).stdin(std::process::Stdio::null());
    command.stderr(std::process::Stdio::inherit());
    if !cuts.json {
        command.stdout(std::process::Stdio::inherit());
    }
    let output = command.output().context("crash-replay")?;
    let seed = cuts.seed;
    if !output.status.success() {
        print!("{}", String::from_utf8_lossy(&output.stdout));
        bail!(
            "the cuts have problems, listed above; the record is kept: one cut once more with \
             --replay {} --again --seed {seed} --dir {} --point N",
            cuts.points,
            dir.parent().unwrap_or(dir).display()
        );
    }
    if !cuts.json {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output.stdout).context("the report of crash-replay")
}

/// Cuts of a report that have problems.
fn found_out(report: &Value) -> usize {
    let points = report["points"].as_array().into_iter().flatten();
    points.filter(|point| point["problems"].as_array().is_some_and(|all| !all.is_empty())).count()
}

fn finish(found: &Value, more: &Value, problems: &[String], json: bool) -> Result<()> {
    if json {
        println!("{:#}", json!({ "cuts": found, "beside": more }));
    } else if !more.is_null() {
        let lying = &more["lying_card"];
        println!(
            "  of {} cuts of a lying card {} were found out",
            lying["cuts"], lying["found_out"]
        );
    }
    for problem in problems {
        eprintln!("  PROBLEM boot record: {problem}");
    }
    ensure!(problems.is_empty(), "{} problem(s) of the boot record, listed above", problems.len());
    eprintln!(
        "OK: whatever the power cut left, what was acked is there, once, and the gateway boots"
    );
    Ok(())
}

/// What must not be of the boot record, by the bytes of [`RECORD_PART`]: one copy is whole, and none is
/// older than what was durable.
fn judge_boot_record(durable: &[u8], after: &[u8]) -> Vec<String> {
    let Some(found) = newest(after) else {
        return vec!["both copies of the boot record are torn".to_owned()];
    };
    match newest(durable) {
        Some(before) if found.generation < before.generation => {
            vec![format!("the boot record went back: {found:?} after {before:?}")]
        }
        _ => Vec::new(),
    }
}

fn newest(bytes: &[u8]) -> Option<BootRecord> {
    let mut copies = [[0; 512]; 2];
    for (copy, sector) in copies.iter_mut().zip(RECORD_SECTORS) {
        let begin = usize::try_from(sector * SECTOR - RECORD_PART.start).ok()?;
        *copy = *bytes.get(begin..)?.first_chunk()?;
    }
    BootRecord::newest(&copies).map(|(record, _)| record)
}

#[cfg(test)]
mod tests {
    use super::{RECORD_PART, judge_boot_record};
    use edge_core::boot::card::BootRecord;

    use crate::image::layout::{RECORD_SECTORS, SECTOR};

    fn card(copies: [&[u8]; 2]) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(RECORD_PART.bytes).unwrap()];
        for (copy, sector) in copies.into_iter().zip(RECORD_SECTORS) {
            let begin = usize::try_from(sector * SECTOR - RECORD_PART.start).unwrap();
            bytes[begin..begin + copy.len()].copy_from_slice(copy);
        }
        bytes
    }

    #[test]
    fn two_torn_copies_and_a_record_that_went_back_are_told() {
        let old = BootRecord::FRESH.encode();
        let new = BootRecord { generation: 2, trial: Some(1), ..BootRecord::FRESH }.encode();
        let mut torn = new;
        torn[100..].fill(7);
        let judge = |durable, after| judge_boot_record(&card(durable), &card(after)).join("; ");
        assert_eq!(judge([&old, &new], [&torn, &new]), "");
        assert_eq!(judge([&old, &old], [&torn, &old]), "");
        assert!(judge([&old, &new], [&torn, &torn]).contains("torn"));
        assert!(judge([&old, &new], [&old, &torn]).contains("went back"));
    }
}
