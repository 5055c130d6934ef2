//! What was seen, and what of it is too bad.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::crowd::Window;
use crate::swarm::{Idle, Published};

/// Reasons kept of each kind of loss; the rest are counted.
const REASONS_MAX: usize = 5;

/// What is asked of the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the first CONNECT of a storm to the last CONNACK.
    pub storm_max: Duration,
    /// 99 of 100 publishes of the observers are acked within this while a storm lasts.
    pub observer_p99_max: Duration,
}

/// All that was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether it went over TLS.
    pub tls: bool,
    /// The idle connections.
    pub idle: IdleSeen,
    /// The observers' publishes before the first storm.
    pub before: Latency,
    /// The storms, in order.
    pub storms: Vec<Storm>,
    /// The busy connections.
    pub busy: BusySeen,
    /// Publishes of the observers that were acked.
    pub observer_acks: u64,
    /// Observers that were lost, and why.
    pub observers_lost: Lost,
    /// Events that the function had worked off at the end, as the agent counts.
    pub done: u64,
    /// Proportional set size of the agent at the end.
    pub pss_end_kib: u64,
    #[serde(skip)]
    pub(super) quiet: Option<Window>,
}

/// The idle connections.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IdleSeen {
    /// Those that got in.
    pub connections: usize,
    /// How long all of them took to connect.
    pub connect_s: f64,
    /// From the first one's CONNECT to the end.
    pub held_s: f64,
    /// Pings.
    pub pings: u64,
    /// Pings answered.
    pub answered: u64,
    /// Slowest answer to a ping.
    pub slowest_ping_ms: f64,
    /// Proportional set size of the agent without them.
    pub pss_before_kib: u64,
    /// With them.
    pub pss_after_kib: u64,
    /// Those that did not get in or were lost.
    pub lost: Lost,
}

/// The busy connections.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BusySeen {
    /// How many.
    pub connections: usize,
    /// QoS 1 publishes.
    pub published: u64,
    /// Those acked.
    pub acked: u64,
    /// From when a publish was due to its PUBACK.
    pub latency: Latency,
    /// Those that were lost.
    pub lost: Lost,
}

/// Many clients that connect at once.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Storm {
    /// What is particular about it.
    pub name: &'static str,
    /// Clients that want in.
    pub clients: usize,
    /// Those that got in.
    pub connected: usize,
    /// Until the last one was in.
    pub took_s: f64,
    /// The observers' publishes meanwhile.
    pub observers: Latency,
    /// Those that did not get in.
    pub lost: Lost,
    #[serde(skip)]
    pub(super) window: Option<Window>,
}

/// A distribution of latencies.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub samples: usize,
    /// Median.
    pub p50_ms: f64,
    /// 99 of 100 are within this.
    pub p99_ms: f64,
    /// The worst.
    pub max_ms: f64,
}

/// Connections lost, with the first few reasons.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Lost {
    /// How many.
    pub count: usize,
    /// Why.
    pub reasons: Vec<String>,
}

impl Latency {
    /// Of these.
    #[must_use]
    pub fn of(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |part: usize| {
            let index = (took.len() * part / 100).min(took.len().saturating_sub(1));
            took.get(index).map_or(0.0, millis)
        };
        Self { samples: took.len(), p50_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }
}

fn millis(time: &Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

impl Lost {
    /// One more.
    pub fn note(&mut self, reason: String) {
        self.count += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(reason);
        }
    }
}

impl IdleSeen {
    pub(super) fn add(&mut self, seen: &Idle) {
        self.pings += seen.pings;
        self.answered += seen.answered;
        self.slowest_ping_ms = self.slowest_ping_ms.max(millis(&seen.slowest));
        if let Some(reason) = &seen.lost {
            self.lost.note(reason.clone());
        }
    }
}

impl BusySeen {
    pub(super) fn add(&mut self, seen: &Published) {
        self.published += seen.sent;
        self.acked += seen.samples.len() as u64;
        if let Some(reason) = &seen.lost {
            self.lost.note(reason.clone());
        }
    }
}

impl Report {
    pub(super) fn observed(&mut self, seen: &[Published]) {
        let latency =
            |window: Option<Window>| window.map_or_else(Latency::default, |w| w.latency(seen));
        self.before = latency(self.quiet);
        for storm in &mut self.storms {
            storm.observers = latency(storm.window);
        }
        for seen in seen {
            self.observer_acks += seen.samples.len() as u64;
            if let Some(reason) = &seen.lost {
                self.observers_lost.note(reason.clone());
            }
        }
    }

    /// What is not as it has to be.
    #[must_use]
    pub fn problems(&self, bounds: &Bounds) -> Vec<String> {
        let mut problems = Vec::new();
        let mut lost = |who: &str, lost: &Lost| {
            if lost.count > 0 {
                problems.push(format!("{} {who}: {}", lost.count, lost.reasons.join("; ")));
            }
        };
        lost("idle connections were lost", &self.idle.lost);
        lost("busy connections were lost", &self.busy.lost);
        lost("observers were lost", &self.observers_lost);
        for storm in &self.storms {
            lost(&format!("clients did not get in ({})", storm.name), &storm.lost);
        }
        if self.idle.pings != self.idle.answered {
            problems.push(format!("{} pings, {} answers", self.idle.pings, self.idle.answered));
        }
        if self.busy.published != self.busy.acked {
            let BusySeen { published, acked, .. } = self.busy;
            problems.push(format!("{published} publishes, {acked} acks"));
        }
        let acked = self.busy.acked + self.observer_acks;
        if self.done != acked {
            problems.push(format!("{acked} publishes acked, {} events done", self.done));
        }
        for storm in &self.storms {
            problems.extend(storm.problems(bounds));
        }
        problems
    }
}

impl Storm {
    pub(super) fn note(&mut self, reason: String) {
        self.lost.note(reason);
    }

    fn problems(&self, bounds: &Bounds) -> Vec<String> {
        let Self { name, took_s, observers, .. } = self;
        let mut problems = Vec::new();
        if *took_s > bounds.storm_max.as_secs_f64() {
            problems.push(format!("{name}: all were in after {took_s:.1} s only"));
        }
        if observers.samples == 0 {
            problems.push(format!("{name}: too short for the observers to see anything"));
        }
        if observers.p99_ms > millis(&bounds.observer_p99_max) {
            problems.push(format!("{name}: the observers' p99 was {:.1} ms", observers.p99_ms));
        }
        problems
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50_ms, p99_ms, max_ms } = self;
        write!(f, "p50 {p50_ms:.1}  p99 {p99_ms:.1}  max {max_ms:.1} ms  ({samples} publishes)")
    }
}

/// The table.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { idle, busy, .. } = self;
        let row =
            |f: &mut fmt::Formatter<'_>, what: &str, how: String| writeln!(f, "{what:<34} {how}");
        row(f, "transport", if self.tls { "TLS 1.3" } else { "plaintext" }.to_owned())?;
        let (connections, lost) = (idle.connections, idle.lost.count);
        row(f, "idle connections", format!("{connections}, lost {lost}"))?;
        let (took, held) = (idle.connect_s, idle.held_s);
        row(f, "  connected in, held for", format!("{took:.1} s, {held:.0} s"))?;
        let (pings, slowest) = (idle.pings, idle.slowest_ping_ms);
        row(
            f,
            "  pings, answered",
            format!("{pings}, {} (slowest {slowest:.1} ms)", idle.answered),
        )?;
        let (before, after) = (idle.pss_before_kib, idle.pss_after_kib);
        let each = after.saturating_sub(before) * 1_024 / connections.max(1) as u64;
        let pss =
            format!("{before} -> {after} KiB ({each} bytes each), {} at the end", self.pss_end_kib);
        row(f, "  PSS of the agent", pss)?;
        row(f, "observers, publish to PUBACK", self.before.to_string())?;
        for storm in &self.storms {
            let Storm { name, clients, connected, took_s, .. } = storm;
            let all = format!("{connected} of {clients} in after {took_s:.1} s");
            row(f, &format!("storm ({name})"), all)?;
            row(f, "  observers meanwhile", storm.observers.to_string())?;
        }
        let counts = format!("{}, lost {}", busy.connections, busy.lost.count);
        row(f, "busy connections", counts)?;
        row(f, "  published, acked", format!("{}, {}", busy.published, busy.acked))?;
        row(f, "  publish to PUBACK", busy.latency.to_string())?;
        let acked = busy.acked + self.observer_acks;
        row(f, "acked in all, events done", format!("{acked}, {}", self.done))
    }
}
