//! Judges what a power cut left. Pure: the same rows and notes give the same problems.
//!
//! # What must hold
//! - Every message that its device had acked is there: done, waiting or a dead letter.
//! - All or nothing: a message that `smooth` did is in its state, at `alarm` and at the subscriber;
//!   one that `alarm` did is in its state, in the outbox and, where the alarm changed, retained.
//! - State is that of a plain computation over the messages that are done, to the last bit.
//! - What the subscriber had heard is there: nothing leaves before it is durable. What it had not
//!   heard waits for it.
//! - A message id is known exactly where its message was admitted, and a QoS 2 packet id is taken
//!   from its PUBREC to its PUBREL.

use std::collections::BTreeSet;

use cold_chain_model::{Alarm, Moving, Reading, Thresholds};
use edge_core::dedupe;

use crate::problems::note;
use crate::readings;

use super::inspect::{DeviceRows, Found};
use super::load::{DEVICES, Device};
use super::witness::{Seen, Witness};

/// What must not be; empty when all is well.
pub(super) fn judge(
    found: &Found,
    witness: &Witness,
    readings: &[readings::Reading],
) -> Vec<String> {
    let mut problems = found.oddities.clone();
    for ((device, rows), seen) in DEVICES.iter().zip(&found.devices).zip(&witness.0) {
        let mut own = Vec::new();
        let ends = Ends::of(rows, &mut own);
        judge_ends(&ends, rows, seen, &mut own);
        judge_state(*device, &ends, rows, readings, &mut own);
        judge_subscriber(&ends, rows, seen, &mut own);
        if device.exactly_once {
            judge_taken(rows, seen, &mut own);
        } else {
            judge_known(&ends, rows, &mut own);
        }
        problems.extend(own.into_iter().map(|problem| format!("{}: {problem}", device.name)));
    }
    problems
}

/// How far the messages of a device came.
struct Ends {
    /// `smooth` did them.
    done: BTreeSet<u64>,
    /// The gateway took them.
    admitted: BTreeSet<u64>,
}

impl Ends {
    fn of(rows: &DeviceRows, problems: &mut Vec<String>) -> Self {
        let points = rows.points.iter().map(|point| point.smoothed.seq);
        let (mut done, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for seq in points.chain(rows.for_alarm.iter().copied()) {
            if !done.insert(seq) {
                twice.insert(seq);
            }
        }
        let mut admitted = done.clone();
        for seq in &rows.for_smooth {
            if !admitted.insert(*seq) {
                twice.insert(*seq);
            }
        }
        admitted.extend(&rows.dead);
        note(problems, "TWICE", &names(&twice));
        note(problems, "given up, where nothing fails", &names(&rows.dead));
        Self { done, admitted }
    }
}

fn names<'a>(seqs: impl IntoIterator<Item = &'a u64>) -> Vec<String> {
    seqs.into_iter().map(u64::to_string).collect()
}

/// Those below `upto` that are not in `there`.
fn missing(upto: u64, there: impl Fn(u64) -> bool) -> Vec<String> {
    (0..upto).filter(|seq| !there(*seq)).map(|seq| seq.to_string()).collect()
}

fn judge_ends(ends: &Ends, rows: &DeviceRows, seen: &Seen, problems: &mut Vec<String>) {
    let is_admitted = |seq: u64| ends.admitted.contains(&seq);
    let lost = missing(u64::from(seen.acked), is_admitted);
    note(problems, "LOST (acked, neither done, nor waiting, nor a dead letter)", &lost);
    let end = ends.admitted.last().map_or(0, |last| last + 1);
    let gaps = missing(end, is_admitted);
    note(problems, "missing before one that was admitted later", &gaps);
    let overtaken = rows.for_smooth.iter().filter(|seq| ends.done.last() > Some(seq));
    note(problems, "waiting, overtaken by one that is done", &names(overtaken));
    let in_order = |seqs: &[u64]| seqs.is_sorted();
    let points: Vec<u64> = rows.points.iter().map(|point| point.smoothed.seq).collect();
    if !(in_order(&rows.for_smooth) && in_order(&rows.for_alarm) && in_order(&points)) {
        problems.push("jobs or records are out of order".to_owned());
    }
}

fn judge_state(
    device: Device,
    ends: &Ends,
    rows: &DeviceRows,
    readings: &[readings::Reading],
    problems: &mut Vec<String>,
) {
    let (mut moving, mut alarm, mut change) = (None::<Moving>, None::<Alarm>, None);
    let mut points = rows.points.iter().peekable();
    let mut wrong = Vec::new();
    for seq in &ends.done {
        let value = readings[usize::try_from(*seq).unwrap_or_default() % readings.len()].value;
        let reading = Reading { device: device.name.to_owned(), seq: *seq, value };
        let smoothed = moving.get_or_insert_default().observe(&reading);
        let Some(point) = points.next_if(|point| point.smoothed.seq == *seq) else { continue };
        let state = alarm.get_or_insert_default();
        change = state.judge(&smoothed, Thresholds::default()).or(change);
        if point.smoothed != smoothed || point.alarm != state.on {
            wrong.push(seq);
        }
    }
    note(problems, "records differ from a plain computation", &names(wrong));
    let mut compare = |what: &str, is: String, computed: String| {
        if is != computed {
            problems.push(format!("{what} is {is}, the messages that are done give {computed}"));
        }
    };
    compare("state of `smooth`", format!("{:?}", rows.moving), format!("{moving:?}"));
    compare("state of `alarm`", format!("{:?}", rows.alarm), format!("{alarm:?}"));
    compare("the retained alarm", format!("{:?}", rows.change), format!("{change:?}"));
}

fn judge_subscriber(ends: &Ends, rows: &DeviceRows, seen: &Seen, problems: &mut Vec<String>) {
    let parts = [
        ("own messages", &ends.admitted, seen.heard_raw, &rows.queued_raw),
        ("messages of `smooth`", &ends.done, seen.heard_smooth, &rows.queued_smooth),
    ];
    for (what, there, heard, queued) in parts {
        let heard = u64::from(heard);
        let early = missing(heard, |seq| there.contains(&seq));
        note(problems, &format!("{what}: left the gateway and are not there"), &early);
        let lost = there.iter().filter(|seq| **seq >= heard && !queued.contains(seq));
        let lost = names(lost);
        note(problems, &format!("{what}: LOST on the way to the subscriber"), &lost);
        let strangers = names(queued.difference(there));
        note(problems, &format!("{what}: wait for the subscriber and never were"), &strangers);
    }
}

/// QoS 2: a packet id is taken from the PUBREC until the PUBREL.
fn judge_taken(rows: &DeviceRows, seen: &Seen, problems: &mut Vec<String>) {
    let held = u64::from(seen.releasing)..u64::from(seen.acked);
    let free: Vec<_> = held.filter(|seq| !rows.taken.contains(seq)).collect();
    note(problems, "packet ids that are free between PUBREC and PUBREL", &names(&free));
    let over = rows.taken.range(..u64::from(seen.completed));
    note(problems, "packet ids that are taken after PUBCOMP", &names(over));
}

/// Message ids: known where the message was admitted, and nowhere else.
fn judge_known(ends: &Ends, rows: &DeviceRows, problems: &mut Vec<String>) {
    let high = ends.admitted.last().copied().unwrap_or_default();
    let in_window = ends.admitted.iter().filter(|seq| **seq + dedupe::WINDOW >= high);
    let unknown = names(in_window.filter(|seq| !rows.known.contains(seq)));
    note(problems, "admitted, and a repeat would run again", &unknown);
    let ghosts = names(rows.known.difference(&ends.admitted));
    note(problems, "not there, and a repeat would be dropped", &ghosts);
}

#[cfg(test)]
mod tests;
