//! Whether what was acked came to an end, by what the device wrote down and the control plane has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use system_tests::ledger::Fact;
use system_tests::problems;

use super::site::Site;

/// From the last ack to the last record in the control plane.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Messages that were sent.
    pub(crate) sent: usize,
    /// Of these, sent again after a lost connection.
    pub(crate) resent: usize,
    /// Of these, acked.
    pub(crate) acked: usize,
    /// Messages with a record in the control plane.
    pub(crate) done: usize,
    /// Messages that are dead letters there.
    pub(crate) dead: usize,
    /// What must not be; empty when all is well.
    pub(crate) problems: Vec<String>,
}

/// A message: its device, and its number there.
type Id = (String, u64);

/// Waits until every message that the gateway acked has its end in the control plane, or no longer; then judges.
pub(crate) fn drain(site: &Site, gateway: &str, facts: &[Fact]) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let what = format!("all records of {gateway} to arrive");
    let drained = site.poll_within(DRAIN_MAX, &what, || {
        verdict = judge(facts, &site.streams_of(gateway)?)?;
        Ok((verdict.done + verdict.dead >= verdict.acked).then_some(()))
    });
    // What is missing then is in the verdict, by number.
    if verdict.problems.is_empty() {
        drained?;
    }
    Ok(verdict)
}

/// Judges by the devices' ledgers and the rows of the gateway's streams.
fn judge(facts: &[Fact], streams: &[Vec<Value>]) -> Result<Verdict> {
    let (mut sent, mut resent, mut acked) =
        (BTreeSet::<Id>::new(), BTreeSet::<Id>::new(), BTreeSet::<Id>::new());
    for fact in facts {
        let (set, device, seq) = match fact {
            Fact::Sent { device, seq, .. } => (&mut sent, device, seq),
            Fact::Resent { device, seq, .. } => (&mut resent, device, seq),
            Fact::Acked { device, seq, .. } => (&mut acked, device, seq),
            Fact::Received { .. } => continue,
        };
        set.insert((device.clone(), *seq));
    }
    let mut verdict = Verdict {
        sent: sent.len(),
        resent: resent.len(),
        acked: acked.len(),
        ..Verdict::default()
    };
    let mut ends: BTreeMap<Id, usize> = BTreeMap::new();
    for (stream, rows) in streams.iter().enumerate() {
        let mut next = 1;
        for row in rows {
            let place = || format!("position {stream}/{next}");
            if row["first"].as_u64() != Some(next) {
                verdict.problems.push(format!("{} is missing", place()));
            }
            let kind = row["kind"].as_str().unwrap_or_default();
            if kind == "telemetry" || kind == "dead-letter" {
                let payload = &row["payload"];
                let device = payload["device"].as_str().with_context(place)?.to_owned();
                let seq = payload["seq"].as_u64().with_context(place)?;
                *ends.entry((device, seq)).or_default() += 1;
                verdict.done += usize::from(kind == "telemetry");
                verdict.dead += usize::from(kind == "dead-letter");
            }
            next = row["seq"].as_u64().with_context(place)? + 1;
        }
    }
    let text = |ids: Vec<&Id>| {
        ids.into_iter().map(|(device, seq)| format!("{device}/{seq}")).collect::<Vec<_>>()
    };
    let lost = acked.iter().filter(|id| !ends.contains_key(id)).collect();
    problems::note(
        &mut verdict.problems,
        "LOST (acked, neither done nor a dead letter)",
        &text(lost),
    );
    let twice = ends.iter().filter(|(_, n)| **n > 1).map(|(id, _)| id).collect();
    problems::note(&mut verdict.problems, "TWICE", &text(twice));
    let strangers = ends.keys().filter(|id| !sent.contains(id)).collect();
    problems::note(&mut verdict.problems, "done, never sent", &text(strangers));
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use system_tests::ledger::Fact;

    use super::judge;

    fn facts(seqs: &[u64]) -> Vec<Fact> {
        let device = || "press-1".to_owned();
        let fact = |seq: &u64| {
            let seq = *seq;
            let sent = Fact::Sent { device: device(), seq, hash: String::new(), at_ms: 1 };
            [sent, Fact::Acked { device: device(), seq, at_ms: 2 }]
        };
        seqs.iter().flat_map(fact).collect()
    }

    fn rows(seqs: &[u64]) -> Vec<Value> {
        let row = |(n, seq): (usize, &u64)| {
            let payload = json!({ "device": "press-1", "seq": seq });
            json!({ "first": n + 1, "seq": n + 1, "kind": "telemetry", "payload": payload })
        };
        seqs.iter().enumerate().map(row).collect()
    }

    #[test]
    fn what_was_acked_and_has_a_record_is_well() {
        let verdict = judge(&facts(&[0, 1, 2]), &[rows(&[0, 1, 2])]).expect("whole rows");
        assert_eq!((verdict.sent, verdict.acked, verdict.done), (3, 3, 3));
        assert_eq!(verdict.problems, [] as [String; 0]);
    }

    #[test]
    fn a_lost_a_doubled_and_a_foreign_one_are_named() {
        let verdict = judge(&facts(&[0, 1]), &[rows(&[0, 0, 7])]).expect("whole rows");
        let all = verdict.problems.join("\n");
        assert!(
            all.contains("LOST") && all.contains("TWICE") && all.contains("never sent"),
            "{all}"
        );
    }

    #[test]
    fn messages_of_two_devices_are_told_apart() {
        let mut stream = rows(&[0, 0]);
        stream[1]["payload"]["device"] = json!("press-2");
        let verdict = judge(&facts(&[0]), &[stream]).expect("whole rows");
        assert_eq!(verdict.problems, ["done, never sent: 1 (press-2/0)"]);
    }

    #[test]
    fn a_gap_in_a_stream_is_named() {
        let mut stream = rows(&[0, 1, 2]);
        stream.remove(1);
        let verdict = judge(&facts(&[0, 2]), &[stream]).expect("whole rows");
        assert!(verdict.problems.join("\n").contains("position 0/2 is missing"), "{verdict:?}");
    }
}
