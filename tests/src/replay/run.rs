//! Cuts a record at its points, one after the other.

use std::fs::{self, File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::gateway::Gateway;
use crate::host::{self, Mount};
use crate::interrupt::Interrupt;
use crate::readings::{self, Reading};

use super::image::{self, Image};
use super::inspect::{self, Found};
use super::load::DEVICES;
use super::log::{Entry, Log};
use super::on_card::OnCard;
use super::points::{self, Cut};
use super::record::{self, Record};
use super::report::{Point, Report, UNREADABLE};
use super::witness::Witness;
use super::{Options, judge, whole};

/// Room beside the disk of one point.
const MEMORY_BYTES: u64 = 64 << 20;
/// Flushes that a lying disk did not do, of those before a cut.
const FLUSHES_MISSED: usize = 8;

/// Records, cuts and judges; `tell` is given a line now and then.
///
/// # Errors
/// The host cannot do it, it is interrupted, or the record does not come to its end. What the points show is in the
/// report.
pub fn run(options: &Options, interrupt: &Interrupt, tell: &mut dyn FnMut(&str)) -> Result<Report> {
    fs::create_dir_all(&options.dir)?;
    let dir = options.dir.canonicalize()?;
    let _lock = lock(&dir)?;
    for left in host::clean(&dir)? {
        tell(&format!("left by a former run, ended now: {left}"));
    }
    let record = if options.again {
        Record::kept(&dir)?
    } else {
        tell("recording: an agent at work on a disk that writes everything down");
        let (agent, plant) = (&*options.agent, options.plant.as_deref());
        let plan = record::Plan { dir: &dir, messages: options.messages, agent, plant };
        record::make(&plan, interrupt)?
    };
    let report = replay(options, &dir, &record, interrupt, tell)?;
    if report.problems().is_empty() && !options.keep && !options.again {
        record.remove()?;
    } else {
        tell(&format!("the record stays in {}", dir.display()));
    }
    Ok(report)
}

/// Held while this run works in the folder.
fn lock(dir: &Path) -> Result<File> {
    let file = File::create(dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another run works in {}; wait for it or use another --dir", dir.display())
        }
        Err(TryLockError::Error(error)) => Err(error).context("locking"),
    }
}

/// Cuts a record at its points.
fn replay(
    options: &Options,
    dir: &Path,
    record: &Record,
    interrupt: &Interrupt,
    tell: &mut dyn FnMut(&str),
) -> Result<Report> {
    let part = record.part();
    let log = record.log(part)?;
    let mut report = Report::of(&log, record, options.seed)?;
    tell(&report.recorded());
    let memory = Mount::memory(&dir.join("points"), part.bytes + MEMORY_BYTES)?;
    let gateway = match &record.card {
        None => Some(record.gateway(&dir.join("whole"), &options.agent)?),
        Some(_) => None,
    };
    let mut bench = Bench {
        image: Image::new(record.base(part)?),
        witness: Witness::of(DEVICES.len()),
        read: 0,
        readings: readings::read(&readings::excerpt())?,
        file: memory.dir().join(record::DISK),
        mount: dir.join("cut"),
        gateway,
        on_card: record.card.as_ref().map(OnCard::new).transpose()?,
        stored: record.stored()?,
        log: &log,
        interrupt,
    };
    let begun = Instant::now();
    let mut cuts = points::choose(&log, options.points, options.seed);
    cuts.retain(|cut| options.only.is_none_or(|only| only == cut.number));
    ensure!(!cuts.is_empty(), "no point of the {} has that number", options.points);
    if options.disk_lies {
        cuts.iter_mut().for_each(|cut| cut.flushes_missed = FLUSHES_MISSED);
    }
    for (n, cut) in (1..).zip(&cuts) {
        interrupt.check()?;
        report.push(bench.point(cut, n % options.whole_every == 0)?);
        report.replay_ms = u64::try_from(begun.elapsed().as_millis())?;
        if n % 100 == 0 || n == cuts.len() {
            tell(&report.progress(cuts.len()));
        }
    }
    drop(bench);
    memory.unmount()?;
    Ok(report)
}

/// What the points are judged on, one after the other.
struct Bench<'a> {
    log: &'a Log,
    image: Image,
    witness: Witness,
    /// Entries of the log whose notes are taken.
    read: usize,
    readings: Vec<Reading>,
    /// The disk of the current point.
    file: PathBuf,
    mount: PathBuf,
    /// Brought up on what is left; not where it was on a card.
    gateway: Option<Gateway>,
    on_card: Option<OnCard>,
    stored: Vec<Vec<serde_json::Value>>,
    interrupt: &'a Interrupt,
}

impl Bench<'_> {
    /// Judges a cut. What goes wrong with it is a finding, not an error.
    fn point(&mut self, cut: &Cut, whole: bool) -> Result<Point> {
        self.take_notes(cut.at.min(self.log.entries.len()))?;
        self.image.advance(self.log, cut);
        let pieces = image::survivors(self.log, cut);
        let mut point = Point::of(cut, self.witness.acks(), pieces.len());
        self.image.write(&self.file, &pieces)?;
        match self.inspect(&mut point) {
            Ok(found) => {
                let problems = judge::judge(&found, &self.witness, &self.readings);
                point.found(&found, problems);
            }
            Err(error) => point.problems.push(format!("{UNREADABLE}: {error:#}")),
        }
        // Before the subscriber has its session there is nothing to come back to.
        if let Some(gateway) = self.gateway.as_mut().filter(|_| whole && self.witness.acks() > 0) {
            self.image.write(&self.file, &pieces)?;
            let (witness, readings) = (&self.witness, &self.readings);
            let end = whole::run(gateway, &self.file, witness, readings, self.interrupt);
            self.interrupt.check()?;
            point.whole = true;
            let problems = end.unwrap_or_else(|error| vec![format!("{error:#}")]);
            point.problems.extend(problems.into_iter().map(|text| format!("whole agent: {text}")));
        }
        Ok(point)
    }

    fn take_notes(&mut self, upto: usize) -> Result<()> {
        for entry in &self.log.entries[self.read..upto] {
            match entry {
                Entry::Witness(marks) => {
                    marks.iter().try_for_each(|mark| self.witness.take(*mark))?;
                }
                Entry::Reached(milestone) => {
                    self.on_card.iter_mut().for_each(|card| card.reached(*milestone));
                }
                Entry::Write { .. } | Entry::Flush => {}
            }
        }
        self.read = upto;
        Ok(())
    }

    /// Mounts the disk of the point and reads the store on it. A panic of the store is a finding.
    fn inspect(&self, point: &mut Point) -> Result<Found> {
        if self.on_card.is_some() {
            point.mended = host::fsck(&self.file)?;
        }
        let mount = Mount::ext4(&self.file, &self.mount)?;
        let data = match &self.on_card {
            Some(card) => {
                point.problems = card.judge(mount.dir())?;
                OnCard::agent_data(mount.dir())
            }
            None => mount.dir().to_owned(),
        };
        let found = catch_unwind(AssertUnwindSafe(|| inspect::read(&data, &self.stored)));
        let found = found.unwrap_or_else(|_| bail!("the store panics"))?;
        mount.unmount()?;
        Ok(found)
    }
}
