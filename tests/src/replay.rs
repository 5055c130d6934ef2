//! Crash replay: a real agent works on a disk that records every block write; then the power is cut
//! at many points of that record, and what is left is mounted, opened and judged.
//!
//! # Why the order proves an ack
//! Everything lies on one recorded disk: the file system of the agent, and behind it a page for each
//! client. A client that has a PUBACK (or PUBREC, or a message as a subscriber) writes so into its
//! page, directly and unsynced, before it does anything more. The recorder logs a write or a flush
//! when it is completed, before the host is told. So if the agent syncs, then acks, the log has the
//! flush, then the client's note. A cut behind the note takes the flush with it: what was acked must
//! be there. If the agent acks first, there are cuts between the note and the flush, and what was
//! acked may be gone: the judge says LOST.
//!
//! # Invariants
//! - The notes of a client are never synced: that would flush the agent's writes too
//!   ([`witness`]).
//! - What was flushed is there; everything later is there, not there, or there in part, by the
//!   seed ([`image`]).
//! - A note is a lower bound of what the client knew at the cut.
//! - Mounts, loop devices and the daemon end with this process, also by a panic or Ctrl-C; what a
//!   SIGKILL left is ended and named by the next run in the same folder ([`host`]).
//!
//! # Limits
//! The recorder handles one request at a time, so that a write which races a flush is taken for
//! covered by it where it was completed first. The agent orders nothing by such a race: it waits for
//! each write before it syncs.

mod image;
mod inspect;
mod judge;
mod load;
mod log;
mod points;
mod record;
mod recorder;
mod report;
mod whole;
mod witness;

use std::fs::{self, File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::gateway::Gateway;
use crate::host;
use crate::interrupt::Interrupt;
use crate::readings::{self, Reading};

use host::Mount;
use image::Image;
use inspect::Found;
use log::{Entry, Log};
use points::Cut;
use record::Record;
use witness::Witness;

pub use crate::replay_options::Options;
pub use report::{Point, Report};

/// Room for the disk of one point.
const MEMORY_BYTES: u64 = record::DATA_BYTES + (64 << 20);

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
    let log = Log::read(record.log()?, record::DATA_BYTES)?;
    let mut report = Report::of(&log, record, options.seed)?;
    tell(&report.recorded());
    let memory = Mount::memory(&dir.join("points"), MEMORY_BYTES)?;
    let mut bench = Bench {
        image: Image::new(record.base()?),
        witness: Witness::of(load::DEVICES.len()),
        witnessed: 0,
        readings: readings::read(&readings::excerpt())?,
        file: memory.dir().join("disk.img"),
        mount: dir.join("cut"),
        gateway: record.gateway(&dir.join("whole"), &options.agent)?,
        log: &log,
        interrupt,
    };
    let begun = Instant::now();
    let cuts = points::choose(&log, options.points, options.seed);
    for (n, cut) in (1..).zip(&cuts) {
        interrupt.check()?;
        report.points.push(bench.point(cut, n % options.whole_every == 0)?);
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
    /// Entries of the log that are in the witness.
    witnessed: usize,
    readings: Vec<Reading>,
    /// The disk of the current point.
    file: PathBuf,
    mount: PathBuf,
    gateway: Gateway,
    interrupt: &'a Interrupt,
}

impl Bench<'_> {
    /// Judges a cut. What goes wrong with it is a finding, not an error.
    fn point(&mut self, cut: &Cut, whole: bool) -> Result<Point> {
        let end = cut.at.min(self.log.entries.len());
        for entry in &self.log.entries[self.witnessed..end] {
            let Entry::Witness(marks) = entry else { continue };
            marks.iter().try_for_each(|mark| self.witness.take(*mark))?;
        }
        self.witnessed = end;
        self.image.advance(self.log, cut);
        let pieces = image::survivors(self.log, cut);
        let mut point = Point::of(cut, self.witness.acks(), pieces.len());
        self.image.write(&self.file, &pieces)?;
        match self.inspect() {
            Ok(found) => point.found(&found, judge::judge(&found, &self.witness, &self.readings)),
            Err(error) => point.problems.push(format!("{error:#}")),
        }
        // Before the subscriber has its session there is nothing to come back to.
        if whole && self.witness.acks() > 0 {
            self.image.write(&self.file, &pieces)?;
            let (witness, readings) = (&self.witness, &self.readings);
            let end = whole::run(&mut self.gateway, &self.file, witness, readings, self.interrupt);
            self.interrupt.check()?;
            point.whole = true;
            let problems = end.unwrap_or_else(|error| vec![format!("{error:#}")]);
            point.problems.extend(problems.into_iter().map(|text| format!("whole agent: {text}")));
        }
        Ok(point)
    }

    /// Mounts the disk of the point and reads the store on it. A panic of the store is a finding.
    fn inspect(&self) -> Result<Found> {
        let mount = Mount::ext4(&self.file, &self.mount)?;
        let found = catch_unwind(AssertUnwindSafe(|| inspect::read(mount.dir())));
        let found = found.unwrap_or_else(|_| bail!("the store panics"))?;
        mount.unmount()?;
        Ok(found)
    }
}
