//! What a soak found: a verdict, a page with charts, and the samples behind it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::crash;

use super::Options;
use super::cast::Seen;
use super::chart::{Chart, Line, page};
use super::flat::{Allowance, Trend, trend};
use super::sample::Sample;
use super::script::Act;

/// Part of a life that is its warm-up, and its least length in seconds.
const WARM_UP: (f64, f64) = (0.25, 45.0);
/// Shortest window that a slope is judged over, in seconds.
const WINDOW_S_MIN: f64 = 60.0;

type Value = fn(&Sample) -> Option<f64>;

/// A quantity that is charted.
struct Metric {
    title: &'static str,
    unit: &'static str,
    value: Value,
    /// What it may grow by in a last life; `None`: it is only shown.
    flat: Option<Allowance>,
    /// Whether this holds for the control plane too, which keeps what it is sent.
    of_cloud: bool,
}

const METRICS: [Metric; 8] = [
    Metric {
        title: "Memory (proportional set size)",
        unit: "MiB",
        value: |sample| sample.pss_mib,
        flat: Some(Allowance { part: 0.10, amount: 6.0 }),
        of_cloud: true,
    },
    Metric {
        title: "Memory (resident set size)",
        unit: "MiB",
        value: |sample| sample.rss_mib,
        flat: None,
        of_cloud: true,
    },
    Metric {
        title: "Open file descriptors",
        unit: "files",
        value: |sample| sample.files,
        flat: Some(Allowance { part: 0.0, amount: 8.0 }),
        of_cloud: true,
    },
    Metric {
        title: "Threads",
        unit: "threads",
        value: |sample| sample.threads,
        flat: Some(Allowance { part: 0.0, amount: 2.0 }),
        of_cloud: true,
    },
    Metric {
        title: "Disk",
        unit: "MiB",
        value: |sample| sample.disk_mib,
        flat: Some(Allowance { part: 0.10, amount: 16.0 }),
        of_cloud: false,
    },
    Metric {
        title: "Age of the oldest event in the queue",
        unit: "s",
        value: |sample| sample.queue_s,
        flat: Some(Allowance { part: 0.0, amount: 2.0 }),
        of_cloud: false,
    },
    Metric {
        title: "Age of the oldest record in the outbox",
        unit: "s",
        value: |sample| sample.outbox_s,
        flat: Some(Allowance { part: 0.0, amount: 2.0 }),
        of_cloud: false,
    },
    Metric {
        title: "Records in the outbox",
        unit: "records",
        value: |sample| sample.outbox,
        flat: None,
        of_cloud: false,
    },
];

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Event {
    pub(super) at_s: f64,
    pub(super) what: String,
    /// Whether it stands as a line in the charts; devices come and go too often for that.
    pub(super) marked: bool,
}

/// A curve that was judged.
#[derive(Clone, Debug)]
struct Judged {
    process: String,
    metric: &'static str,
    unit: &'static str,
    trend: Trend,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    seed: u64,
    length: Duration,
    took: Duration,
    events: Vec<Event>,
    samples: Vec<Sample>,
    visits: Vec<(String, Vec<(f64, f64)>)>,
    counts: Vec<(&'static str, usize)>,
    judged: Vec<Judged>,
    problems: Vec<String>,
}

impl Report {
    pub(super) fn of(
        options: &Options,
        begun: Instant,
        events: Vec<(f64, Act, String)>,
        samples: Vec<Sample>,
        seen: &Seen,
    ) -> Self {
        let is_marked = |act: &Act| !matches!(act, Act::DeviceLeaves(..) | Act::DeviceReturns(..));
        let visits = seen.visits.iter().map(|(name, visits)| {
            let point = |visit: &super::visitor::Visit| {
                let at_s = visit.at.saturating_duration_since(begun).as_secs_f64();
                (at_s, visit.took.as_secs_f64() * 1_000.0)
            };
            (name.clone(), visits.iter().map(point).collect())
        });
        let mut report = Self {
            seed: options.seed,
            length: options.length,
            took: begun.elapsed(),
            visits: visits.collect(),
            counts: Vec::new(),
            judged: Vec::new(),
            problems: seen.problems.clone(),
            samples,
            events: Vec::new(),
        };
        report.count_acts(&events, seen.taken_back);
        let event =
            |(at_s, act, what): (f64, Act, String)| Event { at_s, marked: is_marked(&act), what };
        report.events = events.into_iter().map(event).collect();
        report.judge_messages(seen);
        report.judge_curves();
        report
    }

    fn count_acts(&mut self, events: &[(f64, Act, String)], taken_back: usize) {
        let count = |is: fn(&Act) -> bool| events.iter().filter(|(_, act, _)| is(act)).count();
        self.counts = vec![
            ("SIGKILLs of gateways", count(|act| matches!(act, Act::KillGateway(_)))),
            ("SIGKILLs of the control plane", count(|act| *act == Act::KillCloud)),
            ("cuts of the link upstream", count(|act| *act == Act::CutLink)),
            ("deployments of a version that works", count(|act| *act == Act::DeployGood)),
            ("deployments of a bad version", count(|act| *act == Act::DeployBad)),
            ("  seen to be taken back, by gateway", taken_back),
            ("devices that left and returned", count(|act| matches!(act, Act::DeviceReturns(..)))),
        ];
        let visits = self.visits.iter().map(|(_, visits)| visits.len()).sum();
        self.counts.push(("visits", visits));
    }

    /// Nothing lost, nothing twice.
    fn judge_messages(&mut self, seen: &Seen) {
        let (mut sent, mut acked, mut done, mut dead, mut lost, mut twice) = (0, 0, 0, 0, 0, 0);
        let mut in_flight = 0;
        for evidence in &seen.evidence {
            let verdict = crash::judge_messages(evidence);
            sent += verdict.sent;
            acked += verdict.acked;
            done += verdict.done;
            dead += verdict.dead;
            lost += verdict.lost;
            twice += verdict.twice;
            in_flight += verdict.kills_in_flight();
            self.problems.extend(verdict.problems);
        }
        self.counts.extend([
            ("kills with messages in flight", in_flight),
            ("messages sent", sent),
            ("messages acked", acked),
            ("messages done", done),
            ("dead letters", dead),
            ("LOST", lost),
            ("TWICE", twice),
        ]);
        if acked == 0 || in_flight == 0 {
            self.problems.push("no kill hit a message in flight: it proves nothing".to_owned());
        }
    }

    /// The curves of the last life of each process are flat.
    fn judge_curves(&mut self) {
        let mut last: BTreeMap<&str, u32> = BTreeMap::new();
        for sample in &self.samples {
            last.insert(&sample.process, sample.pid);
        }
        let end = self.length.as_secs_f64();
        for (process, pid) in last {
            let is_of = |sample: &&Sample| sample.process == process && sample.pid == pid;
            let life: Vec<&Sample> =
                self.samples.iter().filter(is_of).filter(|s| s.at_s < end).collect();
            let Some(first) = life.first().map(|sample| sample.at_s) else { continue };
            let from = first + WARM_UP.1.max((end - first) * WARM_UP.0);
            if end - from < WINDOW_S_MIN {
                continue;
            }
            let is_cloud = life.iter().all(|sample| sample.queue_s.is_none());
            for metric in METRICS.iter().filter(|metric| metric.of_cloud || !is_cloud) {
                let points = life.iter().filter(|sample| sample.at_s >= from);
                let points: Vec<(f64, f64)> =
                    points.filter_map(|s| Some((s.at_s, (metric.value)(s)?))).collect();
                let trend = metric.flat.and_then(|allowance| trend(&points, allowance));
                let (process, unit) = (process.to_owned(), metric.unit);
                let judged =
                    trend.map(|trend| Judged { process, metric: metric.title, unit, trend });
                self.judged.extend(judged);
            }
        }
        let grown = self.judged.iter().filter(|judged| !judged.trend.is_flat());
        self.problems.extend(grown.map(|judged| format!("not flat: {}", judged.told())));
        if self.judged.is_empty() {
            self.problems.push("no life was long enough to judge its curves".to_owned());
        }
    }

    /// What must not be; empty when all is well.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The table that a soak ends with.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, count) in &self.counts {
            let _ = writeln!(text, "  {name:<42} {count:>8}");
        }
        for judged in &self.judged {
            let _ = writeln!(text, "  {}", judged.told());
        }
        for problem in &self.problems {
            let _ = writeln!(text, "  PROBLEM {problem}");
        }
        text
    }

    /// Events and samples, for programs.
    ///
    /// # Errors
    /// None is expected.
    pub fn json(&self) -> Result<String> {
        let document = serde_json::json!({
            "seed": self.seed,
            "length_s": self.length.as_secs(),
            "counts": self.counts.iter().copied().collect::<BTreeMap<_, _>>(),
            "problems": self.problems,
            "events": self.events,
            "samples": self.samples,
        });
        serde_json::to_string(&document).context("the samples")
    }

    /// One page with all charts, which needs nothing else.
    #[must_use]
    pub fn html(&self) -> String {
        let mut charts: Vec<Chart> = METRICS.iter().map(|metric| self.chart(metric)).collect();
        let lines = self.visits.iter().map(|(name, points)| Line { name, points: points.clone() });
        charts.push(Chart {
            title: "A visit: connect, publish, ack",
            unit: "ms",
            lines: lines.collect(),
        });
        let minutes = self.length.as_secs() / 60;
        let title = format!("Holm soak: {minutes} min, seed {}", self.seed);
        let mut rows: Vec<(String, String)> =
            self.counts.iter().map(|(name, n)| ((*name).to_owned(), n.to_string())).collect();
        rows.push((
            "seconds until everything was at rest".to_owned(),
            self.took.as_secs().to_string(),
        ));
        let trends: Vec<(String, bool)> =
            self.judged.iter().map(|judged| (judged.told(), judged.trend.is_flat())).collect();
        page(&title, &rows, &trends, &self.problems, &charts, &self.events)
    }

    fn chart(&self, metric: &Metric) -> Chart<'_> {
        let mut lines: Vec<Line> = Vec::new();
        for sample in &self.samples {
            let Some(value) = (metric.value)(sample) else { continue };
            let known = lines.iter().position(|line| line.name == sample.process);
            let place = known.unwrap_or(lines.len());
            if known.is_none() {
                lines.push(Line { name: &sample.process, points: Vec::new() });
            }
            lines[place].points.push((sample.at_s, value));
        }
        Chart { title: metric.title, unit: metric.unit, lines }
    }
}

impl Judged {
    fn told(&self) -> String {
        let Self { process, metric, unit, trend } = self;
        let Trend { median, growth, allowed } = trend;
        let flat = if trend.is_flat() { "flat" } else { "GROWS" };
        format!(
            "{process}: {metric}: {flat}: {growth:+.2} {unit} (allowed {allowed:.2}, median {median:.1})"
        )
    }
}
