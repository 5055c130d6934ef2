//! What a crash replay found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use super::inspect::Found;
use super::log::{Entry, Log};
use super::points::{Aim, Cut};
use super::record::Record;
use super::witness::Witness;

/// Acks without which a record proves nothing.
const ACKS_MIN: u64 = 1_000;
/// Flushes without which a record proves nothing.
const FLUSHES_MIN: usize = 50;
/// What the judge says of a message that was acked and is gone.
const LOST: &str = "LOST (acked";
/// What is said of a store or a file that cannot be read.
pub(super) const UNREADABLE: &str = "UNREADABLE";
/// Points with problems that are listed.
const LISTED_MAX: usize = 20;

/// A cut and what it left.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Point {
    /// Its number among the points of the seed.
    pub number: usize,
    /// Entries of the log before it.
    pub at: usize,
    /// What it was aimed at.
    pub aim: &'static str,
    /// Acks that clients had before it.
    pub acks: u64,
    /// Pieces of unflushed writes that survived.
    pub pieces: usize,
    /// Batches that the store rolled forward from its journal.
    pub replayed_batches: u64,
    /// Bytes of a batch that was being written.
    pub torn_bytes: u64,
    /// Whether the whole agent was brought up on it as well.
    pub whole: bool,
    /// Whether the file system of a card needed more than its journal, as a start of the gateway does it.
    pub mended: bool,
    /// What must not be.
    pub problems: Vec<String>,
}

impl Point {
    pub(super) fn of(cut: &Cut, acks: u64, pieces: usize) -> Self {
        let aim = match cut.aim {
            Aim::Anywhere => "anywhere",
            Aim::Commit => "commit",
            Aim::Checkpoint => "checkpoint",
        };
        Self { number: cut.number, at: cut.at, aim, acks, pieces, ..Self::default() }
    }

    pub(super) fn found(&mut self, found: &Found, problems: Vec<String>) {
        self.replayed_batches = found.replayed_batches;
        self.torn_bytes = found.torn_bytes;
        self.problems.extend(problems);
    }

    fn says(&self, word: &str) -> bool {
        self.problems.iter().any(|problem| problem.contains(word))
    }
}

/// What was recorded and found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Chose the points.
    pub seed: u64,
    /// Writes of the file system in the log.
    pub writes: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Flushes in the log.
    pub flushes: usize,
    /// Notes of clients in the log.
    pub notes: usize,
    /// Acks that clients had at its end.
    pub acks: u64,
    /// How long the devices sent, in milliseconds.
    pub load_ms: u64,
    /// How long the points took, in milliseconds.
    pub replay_ms: u64,
    /// Points where an acked message is lost.
    pub lost: usize,
    /// Points where a message is there twice.
    pub twice: usize,
    /// Points where something cannot be read.
    pub unreadable: usize,
    /// The points, in order of their place.
    pub points: Vec<Point>,
}

impl Report {
    pub(super) fn of(log: &Log, record: &Record, seed: u64) -> Result<Self> {
        let mut report = Self {
            seed,
            writes: 0,
            bytes: 0,
            flushes: 0,
            notes: 0,
            acks: 0,
            load_ms: record.load_ms,
            replay_ms: 0,
            lost: 0,
            twice: 0,
            unreadable: 0,
            points: Vec::new(),
        };
        let mut witness = Witness::of(super::load::DEVICES.len());
        for entry in &log.entries {
            match entry {
                Entry::Reached(_) => {}
                Entry::Write { data, .. } => {
                    report.writes += 1;
                    report.bytes += data.len() as u64;
                }
                Entry::Flush => report.flushes += 1,
                Entry::Witness(marks) => {
                    report.notes += 1;
                    marks.iter().try_for_each(|mark| witness.take(*mark))?;
                }
            }
        }
        report.acks = witness.acks();
        Ok(report)
    }

    /// The record, in a line.
    pub(super) fn recorded(&self) -> String {
        let Self { writes, flushes, notes, acks, .. } = self;
        let (mib, load_s) = (self.bytes >> 20, self.load_ms / 1_000);
        format!(
            "recorded {writes} writes ({mib} MiB), {flushes} flushes, {acks} acks in {notes} notes; \
             the load took {load_s} s"
        )
    }

    /// Takes a point in.
    pub(super) fn push(&mut self, point: Point) {
        self.lost += usize::from(point.says(LOST));
        self.twice += usize::from(point.says("TWICE"));
        self.unreadable += usize::from(point.says(UNREADABLE));
        self.points.push(point);
    }

    /// How far it is, in a line.
    pub(super) fn progress(&self, points: usize) -> String {
        let bad = self.bad().count();
        let (done, s) = (self.points.len(), self.replay_ms / 1_000);
        format!("  point {done:>5} of {points}   {s:>4} s   {bad} with problems")
    }

    fn bad(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| !point.problems.is_empty())
    }

    /// Whether a cut shows that something acked is gone.
    #[must_use]
    pub fn lost(&self) -> bool {
        self.lost > 0
    }

    /// What must not be; empty when all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.acks < ACKS_MIN {
            problems.push(format!("{} acks, {ACKS_MIN} are wanted: it proves nothing", self.acks));
        }
        if self.flushes < FLUSHES_MIN {
            let flushes = self.flushes;
            problems
                .push(format!("{flushes} flushes, {FLUSHES_MIN} are wanted: it proves nothing"));
        }
        if self.points.len() > 1 && self.points.iter().all(|point| point.acks == 0) {
            problems.push("no point has an ack before it: it proves nothing".to_owned());
        }
        for point in self.bad().take(LISTED_MAX) {
            let Point { number, at, aim, acks, .. } = point;
            let first = point.problems.iter().take(4).cloned().collect::<Vec<_>>().join("; ");
            problems.push(format!("point {number} ({aim}, entry {at}, {acks} acks): {first}"));
        }
        let unlisted = self.bad().count().saturating_sub(LISTED_MAX);
        if unlisted > 0 {
            problems.push(format!("{unlisted} more points with problems"));
        }
        problems
    }

    /// The table that a run ends with.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: u64| {
            let _ = writeln!(text, "  {name:<42} {value:>10}");
        };
        let count =
            |is: &dyn Fn(&Point) -> bool| self.points.iter().filter(|p| is(p)).count() as u64;
        row("writes recorded", self.writes as u64);
        row("flushes recorded", self.flushes as u64);
        row("acks that clients had", self.acks);
        row("cuts", self.points.len() as u64);
        let mut aims: BTreeMap<&str, u64> = BTreeMap::new();
        for point in &self.points {
            *aims.entry(point.aim).or_default() += 1;
        }
        for (aim, points) in aims {
            row(&format!("  aimed at: {aim}"), points);
        }
        row("  with acks before them", count(&|point| point.acks > 0));
        row("  with unflushed writes that survived", count(&|point| point.pieces > 0));
        row("  with a torn batch at the journal's end", count(&|point| point.torn_bytes > 0));
        row("  with the whole agent brought up", count(&|point| point.whole));
        let rolled = self.points.iter().map(|point| point.replayed_batches).max();
        row("most batches rolled forward", rolled.unwrap_or_default());
        row("ms a point", self.replay_ms / self.points.len().max(1) as u64);
        row("  with a file system mended beyond its journal", count(&|point| point.mended));
        row("cuts where an acked message is lost", self.lost as u64);
        row("cuts where a message is twice", self.twice as u64);
        row("cuts where something cannot be read", self.unreadable as u64);
        row("cuts with problems", self.bad().count() as u64);
        for problem in self.problems() {
            let _ = writeln!(text, "  PROBLEM {problem}");
        }
        text
    }
}
