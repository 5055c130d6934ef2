//! Judges a campaign. Pure: the same evidence gives the same verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use cold_chain_model::{Alarm, Moving, Reading, Thresholds};

use super::{Dead, DeviceEvidence, Evidence, Kill, Point};
use crate::problems;

/// The function that a device's message meets first.
const FIRST: &str = "cold-chain/smooth";

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages handed to a socket.
    pub sent: usize,
    /// Of these, sent more than once by the device.
    pub resent: usize,
    /// Of these, acked.
    pub acked: usize,
    /// Messages that were done.
    pub done: usize,
    /// Messages that ended as dead letters.
    pub dead: usize,
    /// Acked messages that are neither.
    pub lost: usize,
    /// Messages with ids that came to more than one end.
    pub twice: usize,
    /// Plain QoS 1 messages done more than once because the device sent them again.
    pub repeats: usize,
    /// For each kill, messages in flight: sent in that life of the process, not acked at its end.
    pub in_flight: Vec<usize>,
    /// What must not be, with ids; empty when all is well.
    pub problems: Vec<String>,
}

impl Verdict {
    fn problem(&mut self, what: &str, ids: &[String]) {
        problems::note(&mut self.problems, what, ids);
    }

    /// Kills that hit a gateway with messages in flight.
    #[must_use]
    pub fn kills_in_flight(&self) -> usize {
        self.in_flight.iter().filter(|messages| **messages > 0).count()
    }
}

/// Judges a campaign.
#[must_use]
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut verdict = judge_messages(evidence);
    judge_proof(&mut verdict, evidence);
    verdict
}

/// Judges what became of the messages; whether that proves something is for the caller to say.
#[must_use]
pub(crate) fn judge_messages(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict { in_flight: vec![0; evidence.kills.len()], ..Verdict::default() };
    verdict.problems.extend(evidence.oddities.iter().cloned());
    for device in &evidence.devices {
        verdict.sent += device.sent.len();
        verdict.resent += device.sent.values().filter(|times| times.len() > 1).count();
        verdict.acked += device.acked.len();
        let own = |point: &&Point| point.smoothed.device == device.name;
        let points: Vec<&Point> = evidence.points.iter().filter(own).collect();
        let dead: Vec<&Dead> =
            evidence.dead.iter().filter(|dead| dead.device == device.name).collect();
        count_in_flight(&mut verdict, device, &evidence.kills);
        judge_ends(&mut verdict, device, &points, &dead, &evidence.kills);
        judge_state(&mut verdict, device, &points, &dead, evidence);
    }
    judge_rest(&mut verdict, evidence);
    verdict
}

/// Every acked message has one end.
fn judge_ends(
    verdict: &mut Verdict,
    device: &DeviceEvidence,
    points: &[&Point],
    dead: &[&Dead],
    kills: &[Kill],
) {
    let mut ends: BTreeMap<u64, usize> = BTreeMap::new();
    for seq in points.iter().map(|point| point.smoothed.seq).chain(dead.iter().map(|d| d.seq)) {
        *ends.entry(seq).or_default() += 1;
    }
    let dead: BTreeSet<u64> = dead.iter().map(|dead| dead.seq).collect();
    verdict.dead += dead.len();
    verdict.done += ends.keys().filter(|seq| !dead.contains(seq)).count();
    let id = |seq: &u64| name_id(device, *seq, kills);
    let lost: Vec<_> = device.acked.keys().filter(|seq| !ends.contains_key(seq)).map(id).collect();
    verdict.lost += lost.len();
    verdict.problem("LOST (acked, neither done nor a dead letter)", &lost);
    let strangers: Vec<_> = ends.keys().filter(|seq| !device.sent.contains_key(seq)).collect();
    verdict.problem("done, never sent", &strangers.into_iter().map(id).collect::<Vec<_>>());
    let again = ends.iter().filter(|(_, n)| **n > 1);
    if device.ids {
        let twice: Vec<_> = again.map(|(seq, _)| id(seq)).collect();
        verdict.twice += twice.len();
        verdict.problem("TWICE", &twice);
        if !points.is_sorted_by_key(|point| point.smoothed.seq) {
            verdict.problems.push(format!("{}: its records are out of order", device.name));
        }
    } else {
        // The repeat of a message without an id is a new message, but only the device makes one.
        let times_sent = |seq: &u64| device.sent.get(seq).map_or(0, Vec::len);
        verdict.repeats += again.clone().map(|(_, n)| n - 1).sum::<usize>();
        let unexplained: Vec<_> =
            again.filter(|(seq, n)| **n > times_sent(seq)).map(|(seq, _)| id(seq)).collect();
        verdict.twice += unexplained.len();
        verdict.problem("MORE OFTEN than the device sent it", &unexplained);
    }
}

/// Records and states are those of a serial run over the same messages, to the last bit.
fn judge_state(
    verdict: &mut Verdict,
    device: &DeviceEvidence,
    points: &[&Point],
    dead: &[&Dead],
    evidence: &Evidence,
) {
    // What `smooth` did: all that was recorded, and what died only after it.
    let after_first =
        dead.iter().filter(|dead| dead.function != FIRST).map(|dead| (dead.seq, None));
    let mut run: Vec<(u64, Option<&Point>)> =
        points.iter().map(|point| (point.smoothed.seq, Some(*point))).chain(after_first).collect();
    if device.ids {
        run.sort_by_key(|(seq, _)| *seq);
    }
    let (mut moving, mut alarm) = (Moving::default(), Alarm::default());
    let mut wrong = Vec::new();
    for (seq, point) in run {
        let reading = usize::try_from(seq).ok().and_then(|n| evidence.readings.get(n));
        let Some(value) = reading.map(|reading| reading.value) else { continue };
        let smoothed = moving.observe(&Reading { device: device.name.clone(), seq, value });
        let Some(point) = point else { continue };
        let _ = alarm.judge(&smoothed, Thresholds::default());
        if point.smoothed != smoothed || point.alarm != alarm.on {
            wrong.push(name_id(device, seq, &evidence.kills));
        }
    }
    verdict.problem("the records differ from a serial run at", &wrong);
    let name = &device.name;
    if device.moving.as_ref() != Some(&moving) {
        let found = &device.moving;
        verdict.problems.push(format!("{name}: state is {found:?}, a serial run gives {moving:?}"));
    }
    if device.alarm.as_ref() != Some(&alarm) {
        let found = &device.alarm;
        verdict.problems.push(format!("{name}: alarm is {found:?}, a serial run gives {alarm:?}"));
    }
}

/// Everything sent was acked, and both ends know the same dead letters.
fn judge_rest(verdict: &mut Verdict, evidence: &Evidence) {
    let open = verdict.sent - verdict.acked;
    if open > 0 {
        verdict.problems.push(format!("{open} messages were never acked"));
    }
    let (there, here) = (evidence.dead.len(), evidence.dead_on_gateway);
    if there != here {
        let text = format!("{there} dead letters in the control plane, {here} on the gateway");
        verdict.problems.push(text);
    }
}

/// A campaign in which nothing was at stake proves nothing.
fn judge_proof(verdict: &mut Verdict, evidence: &Evidence) {
    let mut problem = |bad: bool, text: &str| {
        if bad {
            verdict.problems.push(text.to_owned());
        }
    };
    problem(evidence.kills.is_empty(), "nothing was killed: it proves nothing");
    problem(verdict.sent == 0, "no message was sent: it proves nothing");
    let idle = verdict.in_flight.iter().all(|messages| *messages == 0);
    problem(idle, "no kill hit a message in flight: it proves nothing");
}

/// A message, and the kill that came next after it was first sent.
fn name_id(device: &DeviceEvidence, seq: u64, kills: &[Kill]) -> String {
    let first = device.sent.get(&seq).and_then(|times| times.first());
    let kill = first.and_then(|sent| kills.iter().position(|kill| kill.ended_ms >= *sent));
    match kill {
        Some(n) => format!("{}/{seq} before kill {} ({})", device.name, n + 1, kills[n].moment),
        None => format!("{}/{seq}", device.name),
    }
}

fn count_in_flight(verdict: &mut Verdict, device: &DeviceEvidence, kills: &[Kill]) {
    for (seq, times) in &device.sent {
        let mut hit = BTreeSet::new();
        for sent in times {
            let n = kills.partition_point(|kill| kill.ended_ms < *sent);
            let Some(kill) = kills.get(n).filter(|kill| kill.started_ms <= *sent) else { continue };
            if device.acked.get(seq).is_none_or(|acked| *acked > kill.ended_ms) {
                hit.insert(n);
            }
        }
        hit.into_iter().for_each(|n| verdict.in_flight[n] += 1);
    }
}

/// The table that a campaign ends with.
#[must_use]
pub fn table(evidence: &Evidence, verdict: &Verdict) -> String {
    let mut text = String::new();
    let in_flight: usize = verdict.in_flight.iter().sum();
    let crashed = evidence.dead.iter().filter(|dead| dead.reason == "crashed").count();
    for (name, value) in [
        ("kills", evidence.kills.len()),
        ("kills with messages in flight", verdict.kills_in_flight()),
        ("messages in flight at the kills", in_flight),
        ("sent by devices", verdict.sent),
        ("sent again by devices", verdict.resent),
        ("acked to devices", verdict.acked),
        ("done (control plane)", verdict.done),
        ("dead letters", verdict.dead),
        ("  of these, taken for a cause of a kill", crashed),
        ("repeats of plain QoS 1", verdict.repeats),
        ("LOST", verdict.lost),
        ("TWICE", verdict.twice),
    ] {
        let _ = writeln!(text, "  {name:<42} {value:>8}");
    }
    for dead in &evidence.dead {
        let Dead { function, device, seq, reason } = dead;
        let _ = writeln!(text, "  dead letter {device}/{seq} of {function}: {reason}");
    }
    for problem in &verdict.problems {
        let _ = writeln!(text, "  PROBLEM {problem}");
    }
    text
}

#[cfg(test)]
mod tests;
