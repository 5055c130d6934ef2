//! The record: a real agent at work on a disk that writes everything down.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::author::{Author, fixture};
use crate::gateway::{Gateway, Setup};
use crate::host::{self, Loop, Mount};
use crate::interrupt::Interrupt;
use crate::readings;

use super::card::{self, Card, Part};
use super::image::Image;
use super::load::{self, DEVICES, SUBSCRIBER, Scene, token};
use super::log::{Disk, Log};
use super::recorder::{EXPORT, Recorder};
use super::witness::{PAGE_BYTES, Pen};

/// Bytes of the file system.
pub(super) const DATA_BYTES: u64 = 160 << 20;
/// A page of notes for each client.
const NOTES_BYTES: u64 = ((DEVICES.len() + 1) * PAGE_BYTES) as u64;
/// Longest wait for the gateway to come to rest.
const PATIENCE: Duration = Duration::from_secs(120);

/// The disk, as it is after the record.
pub(super) const DISK: &str = "disk.img";
/// As it was before.
pub(super) const BASE: &str = "base.img";
/// What was done to it.
pub(super) const LOG: &str = "disk.log";
/// What was noted beside a card.
pub(super) const NOTES: &str = "notes.jsonl";
/// What the control plane has of the gateway on a card.
pub(super) const STORED: &str = "stored.json";
/// The record itself.
const RECORD: &str = "record.json";

/// A finished record, in its folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    dir: PathBuf,
    /// The gateway was on a card, in a machine.
    pub(super) card: Option<Card>,
    /// Messages of each device.
    pub(super) messages: u32,
    /// For the gateway that is brought up on what is left.
    author_key: String,
    /// How long the devices sent.
    pub(super) load_ms: u64,
}

/// What is recorded.
#[derive(Clone, Debug)]
pub(super) struct Plan<'a> {
    pub(super) dir: &'a Path,
    pub(super) messages: u32,
    pub(super) agent: &'a str,
    pub(super) plant: Option<&'a str>,
}

impl Record {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// That of a card.
    pub(super) fn of_card(dir: &Path, card: Card, messages: u32, load_ms: u64) -> Self {
        let (dir, card) = (dir.to_owned(), Some(card));
        Self { dir, card, messages, author_key: String::new(), load_ms }
    }

    /// The file system on the disk.
    pub(super) fn part(&self) -> Part {
        self.card.as_ref().map_or(Part { start: 0, bytes: DATA_BYTES }, |card| card.data)
    }

    /// A part of the disk before the agent.
    pub(super) fn base(&self, part: Part) -> Result<Vec<u8>> {
        self.read(BASE, part)
    }

    fn read(&self, name: &str, part: Part) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(part.bytes)?];
        let file = File::open(self.path(name)).context(name.to_owned())?;
        file.read_exact_at(&mut bytes, part.start).context(name.to_owned())?;
        Ok(bytes)
    }

    /// What was done to a part of the disk, and what was noted.
    pub(super) fn log(&self, part: Part) -> Result<Log> {
        let bytes = fs::read(self.path(LOG)).context(LOG)?;
        if self.card.is_none() {
            return Log::read(bytes, Disk::Noted(part.bytes));
        }
        Log::read(bytes, Disk::Card(part, &card::notes(&self.path(NOTES))?))
    }

    /// What the control plane has, by stream.
    pub(super) fn stored(&self) -> Result<Vec<Vec<serde_json::Value>>> {
        if self.card.is_none() {
            return Ok(Vec::new());
        }
        Ok(serde_json::from_slice(&fs::read(self.path(STORED)).context(STORED)?)?)
    }

    /// What was logged is what was done: rolled over the disk before, the log gives the disk after.
    fn check(&self) -> Result<()> {
        let part = self.part();
        let log = self.log(part)?;
        let mut image = Image::new(self.base(part)?);
        image.apply(&log, log.entries.len());
        let after = self.read(DISK, part)?;
        ensure!(image.bytes() == after, "the recorder's log and its disk differ");
        Ok(())
    }

    /// Finishes it.
    pub(super) fn keep(&self) -> Result<()> {
        self.check()?;
        Ok(fs::write(self.path(RECORD), serde_json::to_vec_pretty(self)?)?)
    }

    /// Reads one that was kept.
    pub(super) fn kept(dir: &Path) -> Result<Self> {
        let text = fs::read(dir.join(RECORD));
        let text = text.with_context(|| format!("no record was kept in {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), ..serde_json::from_slice(&text)? })
    }

    /// What it takes on the disk goes, but for logs of programs.
    pub(super) fn remove(&self) -> Result<()> {
        let beside: &[&str] = if self.card.is_some() { &[NOTES, STORED] } else { &[] };
        let mut names = [BASE, DISK, LOG, RECORD, EXPORT].iter().chain(beside);
        names.try_for_each(|name| fs::remove_file(self.path(name))).context("removing the record")
    }

    /// A gateway that takes the clients of the record.
    pub(super) fn gateway(&self, dir: &Path, agent: &str) -> Result<Gateway> {
        gateway(dir, agent, None, &self.author_key)
    }
}

fn gateway(dir: &Path, agent: &str, plant: Option<&str>, author_key: &str) -> Result<Gateway> {
    let names = DEVICES.iter().map(|device| device.name).chain([SUBSCRIBER]);
    let setup = Setup {
        name: "gw-replay".to_owned(),
        devices: names.map(|name| (name.to_owned(), token(name))).collect(),
        author_keys: vec![author_key.to_owned()],
        agent: agent.to_owned(),
        plant: plant.map(str::to_owned),
        ..Setup::default()
    };
    Gateway::new(dir, &setup)
}

/// Makes a record.
///
/// # Errors
/// Something does not come up, or the load does not come to its end.
pub(super) fn make(plan: &Plan, interrupt: &Interrupt) -> Result<Record> {
    ensure!(plan.messages <= load::MESSAGES_MAX, "{} messages of a device", plan.messages);
    let dir = plan.dir;
    for name in ["author", "gateway", "whole"] {
        remove_folder(&dir.join(name))?;
    }
    let author = Author::new(&dir.join("author"))?;
    let bundle = author.build(&fixture("apps/cold-chain"))?;
    let mut record = Record {
        dir: dir.to_owned(),
        card: None,
        messages: plan.messages,
        author_key: author.key()?,
        load_ms: 0,
    };
    let disk = record.path(DISK);
    File::create(&disk)?.set_len(DATA_BYTES + NOTES_BYTES)?;
    host::mkfs(&disk, DATA_BYTES)?;
    fs::copy(&disk, record.path(BASE))?;

    // Undone in the reverse order, whatever happens.
    let recorder = Recorder::start(dir, &disk, &record.path(LOG))?;
    let device = Loop::over(recorder.export(), DATA_BYTES)?;
    let mount = Mount::ext4(device.device(), &dir.join("gateway/data"))?;
    let mut gateway = gateway(&dir.join("gateway"), plan.agent, plan.plant, &record.author_key)?;
    gateway.start()?;
    gateway.deploy(&bundle)?;
    let begun = Instant::now();
    run_load(&gateway, plan.messages, recorder.export(), interrupt)?;
    record.load_ms = u64::try_from(begun.elapsed().as_millis())?;
    gateway.wait_idle(PATIENCE)?;
    gateway.stop()?;
    mount.unmount()?;
    drop(device);
    recorder.finish()?;
    record.keep()?;
    Ok(record)
}

/// A folder of a former run goes.
fn remove_folder(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// All clients from their first message to their last, each with a page of its own for its notes.
fn run_load(gateway: &Gateway, messages: u32, disk: &Path, interrupt: &Interrupt) -> Result<()> {
    let readings = readings::read(&readings::excerpt())?;
    let scene = Scene {
        address: gateway.address(),
        ca: None,
        readings: &readings,
        upto: messages,
        interrupt,
    };
    load::run(&scene, |place| Pen::open(disk, DATA_BYTES, place))
}
