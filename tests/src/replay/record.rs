//! The record: a real agent at work on a disk that writes everything down.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::author::{Author, fixture};
use crate::gateway::{Gateway, Setup};
use crate::interrupt::Interrupt;
use crate::readings;

use super::host::{self, Loop, Mount};
use super::image::Image;
use super::load::{self, DEVICES, SUBSCRIBER, Scene, token};
use super::log::Log;
use super::recorder::Recorder;
use super::witness::{PAGE_BYTES, Pen, Seen};

/// Bytes of the file system.
pub(super) const DATA_BYTES: u64 = 160 << 20;
/// A page of notes for each client.
const NOTES_BYTES: u64 = ((DEVICES.len() + 1) * PAGE_BYTES) as u64;
/// Longest wait for the gateway to come to rest.
const PATIENCE: Duration = Duration::from_secs(120);

/// A finished record, in its folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    dir: PathBuf,
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

    /// The disk before the agent, of the file system alone.
    pub(super) fn base(&self) -> Result<Vec<u8>> {
        let mut bytes = fs::read(self.path("base.img")).context("base.img")?;
        bytes.truncate(usize::try_from(DATA_BYTES)?);
        Ok(bytes)
    }

    /// What was done to the disk.
    pub(super) fn log(&self) -> Result<Vec<u8>> {
        fs::read(self.path("disk.log")).context("disk.log")
    }

    /// What was logged is what was done: rolled over the disk before, the log gives the disk after.
    fn check(&self) -> Result<()> {
        let log = Log::read(self.log()?, DATA_BYTES)?;
        let mut after = fs::read(self.path("disk.img"))?;
        after.truncate(usize::try_from(DATA_BYTES)?);
        let mut image = Image::new(self.base()?);
        image.apply(&log, log.entries.len());
        ensure!(image.bytes() == after, "the recorder's log and its disk differ");
        Ok(())
    }

    /// Reads one that was kept.
    pub(super) fn kept(dir: &Path) -> Result<Self> {
        let text = fs::read(dir.join("record.json"));
        let text = text.with_context(|| format!("no record was kept in {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), ..serde_json::from_slice(&text)? })
    }

    /// What it takes on the disk goes, but for logs of programs.
    pub(super) fn remove(&self) -> Result<()> {
        ["base.img", "disk.img", "disk.log", "record.json", "export"]
            .iter()
            .try_for_each(|name| fs::remove_file(self.path(name)))
            .context("removing the record")
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
        messages: plan.messages,
        author_key: author.key()?,
        load_ms: 0,
    };
    let disk = record.path("disk.img");
    File::create(&disk)?.set_len(DATA_BYTES + NOTES_BYTES)?;
    host::mkfs(&disk, DATA_BYTES)?;
    fs::copy(&disk, record.path("base.img"))?;

    // Undone in the reverse order, whatever happens.
    let recorder = Recorder::start(dir, &disk, &record.path("disk.log"))?;
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
    record.check()?;
    fs::write(record.path("record.json"), serde_json::to_vec_pretty(&record)?)?;
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
    let scene =
        Scene { address: gateway.address(), readings: &readings, upto: messages, interrupt };
    let subscriber = load::subscribe(&scene)?;
    let pen = |place| Pen::open(disk, DATA_BYTES, place);
    std::thread::scope(|scope| {
        let scene = &scene;
        let mut clients = Vec::new();
        for place in 0..DEVICES.len() {
            let mut pen = pen(place)?;
            clients.push(scope.spawn(move || load::send(scene, place, Seen::default(), &mut pen)));
        }
        let mut pen = pen(DEVICES.len())?;
        let mut heard = [Seen::default(); DEVICES.len()];
        clients.push(scope.spawn(move || load::listen(scene, subscriber, &mut heard, &mut pen)));
        let ends = clients.into_iter().map(|client| client.join().expect("a client panicked"));
        // All of them have ended before any failure is told.
        ends.collect::<Vec<_>>().into_iter().collect()
    })
}
