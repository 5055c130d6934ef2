//! Judges a story by its ledgers alone: what devices sent and were acked, what a subscriber
//! received, what the control plane's API returned, and a plain computation over the same readings.
//! No counter of the agent is believed.

mod evidence;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use cold_chain_model::{Alarm, Change, Moving, Reading, SmoothedMessage, Thresholds};

use self::evidence::{DeviceLedger, device_ledger, read_json, received, states, telemetry};
use crate::device::payload;
use crate::ledger;
use crate::problems;
use crate::readings;
use crate::story::Facts;

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Messages handed to a socket.
    pub sent: usize,
    /// Of these, acked.
    pub acked: usize,
    /// Of these, sent more than once by the device.
    pub resent: usize,
    /// Distinct readings whose smoothed value a subscriber received.
    pub processed: usize,
    /// Readings in the state of the gateways.
    pub committed: u64,
    /// Distinct readings in the control plane.
    pub stored: usize,
    /// Readings in the control plane more than once.
    pub repeats: usize,
    /// Changes of alarms that the plain computation expects; each was heard by a subscriber.
    pub alarms: usize,
    /// Sent, but not acked, at the moment of the kill.
    pub in_flight_at_kill: usize,
    /// What must not be, with ids; empty when all is well.
    pub problems: Vec<String>,
}

impl Verdict {
    fn problem(&mut self, what: &str, ids: &[String]) {
        problems::note(&mut self.problems, what, ids);
    }
}

/// Judges the story in `dir`.
///
/// # Errors
/// A ledger is missing or cannot be read.
pub fn verify(dir: &Path) -> Result<(Facts, Verdict)> {
    let facts: Facts = read_json(&dir.join("story.json"))?;
    let readings = readings::read(&facts.data)?;
    let mut verdict = Verdict::default();
    for (gateway, devices) in &facts.gateways {
        let telemetry = telemetry(dir, gateway, &mut verdict)?;
        let received = received(dir, gateway)?;
        let states = states(dir, gateway)?;
        for device in devices {
            let ledger = device_ledger(dir, device)?;
            verdict.sent += ledger.sent.len();
            verdict.acked += ledger.acked.len();
            verdict.resent += ledger.resent.len();
            if *gateway == facts.killed {
                let open = ledger.sent.iter().filter(|(seq, sent)| {
                    **sent <= facts.killed_ms
                        && ledger.acked.get(seq).is_none_or(|acked| *acked > facts.killed_ms)
                });
                verdict.in_flight_at_kill += open.count();
            }
            let rows: Vec<&SmoothedMessage> =
                telemetry.iter().filter(|row| row.smoothed.device == *device).collect();
            let own = received.smoothed.iter().filter(|row| row.smoothed.device == *device);
            let processed: BTreeSet<u64> = own.map(|row| row.smoothed.seq).collect();
            verdict.processed += processed.len();
            judge_payloads(&mut verdict, device, &ledger, &readings);
            judge_device(&mut verdict, &facts, device, &ledger, &rows, &readings);
            judge_state(&mut verdict, &facts, device, &ledger, states.get(device), &readings);
            if facts.ids {
                judge_alarms(&mut verdict, device, &rows, &received.alarms);
                judge_attempts(&mut verdict, &facts, device, &ledger, &rows);
            }
        }
        let in_cut = |at: &u64| (facts.cut_ms..facts.mended_ms).contains(at);
        if !received.alarms.iter().any(|(at, _)| in_cut(at)) {
            verdict.problems.push(format!("{gateway} told no alarm while the link was cut"));
        }
    }
    judge_story(&mut verdict, &facts);
    Ok((facts, verdict))
}

/// What was sent is what the readings say: the plain computation runs over the same bytes.
fn judge_payloads(
    verdict: &mut Verdict,
    device: &str,
    ledger: &DeviceLedger,
    readings: &[readings::Reading],
) {
    let differs = |seq: u64, hash: &str| {
        let reading = usize::try_from(seq).ok().and_then(|n| readings.get(n));
        reading
            .is_none_or(|reading| ledger::hash(payload(device, seq, *reading).as_bytes()) != hash)
    };
    let wrong = ledger.hashes.iter().filter(|(seq, hash)| differs(**seq, hash));
    let wrong: Vec<_> = wrong.map(|(seq, _)| format!("{device}/{seq}")).collect();
    verdict.problem("sent with another payload than the reading's", &wrong);
}

/// The alarms a subscriber received are those of the plain computation over the stored scores.
fn judge_alarms(
    verdict: &mut Verdict,
    device: &str,
    rows: &[&SmoothedMessage],
    received: &[(u64, Change)],
) {
    let mut alarm = Alarm::default();
    let changes = rows.iter().filter_map(|row| alarm.judge(&row.smoothed, Thresholds::default()));
    let expected: Vec<u64> = changes.map(|change| change.seq).collect();
    verdict.alarms += expected.len();
    let own = received.iter().filter(|(_, change)| change.device == device);
    let told: BTreeSet<u64> = own.map(|(_, change)| change.seq).collect();
    let id = |seq: &u64| format!("{device}/{seq}");
    let silent: Vec<_> = expected.iter().filter(|seq| !told.contains(seq)).map(id).collect();
    verdict.problem("alarm changes that no subscriber heard of", &silent);
    let false_alarms: Vec<_> = told.iter().filter(|seq| !expected.contains(seq)).map(id).collect();
    verdict.problem("alarm changes without cause", &false_alarms);
}

/// A take-back spends nobody's retries. Only what was in work at the SIGKILL may count an attempt
/// more.
fn judge_attempts(
    verdict: &mut Verdict,
    facts: &Facts,
    device: &str,
    ledger: &DeviceLedger,
    rows: &[&SmoothedMessage],
) {
    let after_kill = |seq: &u64| ledger.sent.get(seq).is_some_and(|at| *at > facts.back_ms);
    let spent = rows.iter().filter(|row| row.attempt > 1 && after_kill(&row.smoothed.seq));
    let spent: Vec<_> = spent
        .map(|row| format!("{device}/{} at attempt {}", row.smoothed.seq, row.attempt))
        .collect();
    verdict.problem("retries were spent, though nothing but the bad version failed", &spent);
}

fn judge_device(
    verdict: &mut Verdict,
    facts: &Facts,
    device: &str,
    ledger: &DeviceLedger,
    rows: &[&SmoothedMessage],
    readings: &[readings::Reading],
) {
    let id = |seq: &u64| format!("{device}/{seq}");
    let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
    for row in rows {
        *seen.entry(row.smoothed.seq).or_default() += 1;
    }
    verdict.stored += seen.len();
    let lost: Vec<_> = ledger.acked.keys().filter(|seq| !seen.contains_key(seq)).map(id).collect();
    verdict.problem("LOST (acked, not in the control plane)", &lost);
    let strangers: Vec<_> =
        seen.keys().filter(|seq| !ledger.sent.contains_key(seq)).map(id).collect();
    verdict.problem("in the control plane, never sent", &strangers);
    let twice: Vec<_> = seen.iter().filter(|(_, n)| **n > 1).map(|(seq, _)| id(seq)).collect();
    verdict.repeats += seen.values().map(|n| n - 1).sum::<usize>();
    if facts.ids {
        verdict.problem("TWICE", &twice);
        let order: Vec<u64> = rows.iter().map(|row| row.smoothed.seq).collect();
        if !order.is_sorted() {
            verdict.problems.push(format!("{device}: its records are out of order"));
        }
        let wrong = differences(device, rows, readings);
        verdict.problem("the moving state differs from the plain computation at", &wrong);
    } else {
        // Plain QoS 1: a repeat must be one that the device itself sent again.
        let unexplained: Vec<_> = seen
            .iter()
            .filter(|(seq, n)| **n > 1 && !ledger.resent.contains(seq))
            .map(|(seq, _)| id(seq))
            .collect();
        verdict.problem("TWICE, though the device sent it once", &unexplained);
    }
}

/// Readings whose stored mean or score is not, to the last bit, that of the plain computation.
fn differences(
    device: &str,
    rows: &[&SmoothedMessage],
    readings: &[readings::Reading],
) -> Vec<String> {
    let mut moving = Moving::default();
    let mut wrong = Vec::new();
    for row in rows.iter().map(|row| &row.smoothed) {
        let Some(reading) = usize::try_from(row.seq).ok().and_then(|n| readings.get(n)) else {
            continue;
        };
        let reading = Reading { device: device.to_owned(), seq: row.seq, value: reading.value };
        if moving.observe(&reading) != *row {
            wrong.push(format!("{device}/{}", row.seq));
        }
    }
    wrong
}

fn judge_state(
    verdict: &mut Verdict,
    facts: &Facts,
    device: &str,
    ledger: &DeviceLedger,
    state: Option<&Moving>,
    readings: &[readings::Reading],
) {
    let Some(state) = state else {
        verdict.problems.push(format!("{device}: the gateway holds no state of it"));
        return;
    };
    verdict.committed += state.count;
    if !facts.ids {
        return;
    }
    let mut expected = Moving::default();
    for seq in ledger.acked.keys() {
        let Some(reading) = usize::try_from(*seq).ok().and_then(|n| readings.get(n)) else {
            continue;
        };
        let reading = Reading { device: device.to_owned(), seq: *seq, value: reading.value };
        let _ = expected.observe(&reading);
    }
    if *state != expected {
        verdict.problems.push(format!(
            "{device}: the state on the gateway is {state:?}, a plain computation gives {expected:?}"
        ));
    }
}

fn judge_story(verdict: &mut Verdict, facts: &Facts) {
    let mut problem = |bad: bool, text: &str| {
        if bad {
            verdict.problems.push(text.to_owned());
        }
    };
    problem(verdict.sent == 0, "no message was sent: the story proves nothing");
    problem(verdict.acked != verdict.sent, "some messages were never acked");
    problem(
        verdict.in_flight_at_kill == 0,
        "no message was in flight at the kill: it proves nothing",
    );
    problem(!facts.drained, "the outboxes did not drain");
    problem(facts.outbox_at_mend == 0, "nothing waited in the outboxes during the cut");
    problem(
        facts.taken_back.len() != facts.gateways.len(),
        "the bad version was not taken back everywhere",
    );
    problem(
        facts.taken_back.iter().any(|(_, reason)| reason.is_empty()),
        "a take-back has no reason",
    );
    problem(
        verdict.processed < verdict.acked,
        "a subscriber with a persistent session missed smoothed values",
    );
}

/// The table that the demonstration ends with.
#[must_use]
pub fn table(facts: &Facts, verdict: &Verdict) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let lost = verdict.problems.iter().filter(|problem| problem.starts_with("LOST")).count();
    let rows: [(&str, String); 10] = [
        ("sent by devices", verdict.sent.to_string()),
        ("acked to devices", verdict.acked.to_string()),
        ("processed (subscriber)", verdict.processed.to_string()),
        ("committed (state)", verdict.committed.to_string()),
        ("stored in the cloud", verdict.stored.to_string()),
        ("alarm changes heard", verdict.alarms.to_string()),
        ("in flight at the kill", verdict.in_flight_at_kill.to_string()),
        ("sent again by devices", verdict.resent.to_string()),
        ("lost", if lost == 0 { "0".to_owned() } else { "see below".to_owned() }),
        ("twice", verdict.repeats.to_string()),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<24} {value:>8}");
    }
    for (step, took_ms) in &facts.steps {
        let _ = writeln!(text, "  {step:<44} {took_ms:>8} ms");
    }
    if !facts.ids {
        let _ = writeln!(
            text,
            "  plain QoS 1: a device that lost its PUBACK sends again, and the copy is a new message"
        );
    }
    for (gateway, reason) in &facts.taken_back {
        let reason = reason.lines().next().unwrap_or_default();
        let _ = writeln!(text, "  {gateway} took version 3 back: {reason}");
    }
    for problem in &verdict.problems {
        let _ = writeln!(text, "  PROBLEM {problem}");
    }
    text
}
