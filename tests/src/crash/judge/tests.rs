//! Goal: a lost, doubled or misplaced message never passes, and is named.

use super::*;
use crate::readings::Reading as Value;

const KILLED_MS: u64 = 1_005;

/// Ten readings of one device, done in order; the kill hits the sixth in flight.
fn sound(ids: bool) -> Evidence {
    let readings: Vec<Value> =
        (0..10).map(|n| Value { value: 20.0 + f64::from(n) / 3.0 }).collect();
    let name = "press-1".to_owned();
    let (mut moving, mut alarm) = (Moving::default(), Alarm::default());
    let points = (0..10).zip(&readings).map(|(seq, reading)| {
        let reading = Reading { device: name.clone(), seq, value: reading.value };
        let smoothed = moving.observe(&reading);
        let _ = alarm.judge(&smoothed, Thresholds::default());
        Point { smoothed, alarm: alarm.on }
    });
    let points = points.collect();
    let device = DeviceEvidence {
        name,
        ids,
        sent: (0..10).map(|seq| (seq, vec![1_000 + seq])).collect(),
        acked: (0..10).map(|seq| (seq, 1_001 + seq)).collect(),
        moving: Some(moving),
        alarm: Some(alarm),
    };
    Evidence {
        kills: vec![Kill { moment: "before-ack:1".into(), started_ms: 0, ended_ms: KILLED_MS }],
        readings: readings.into(),
        devices: vec![device],
        points,
        ..Evidence::default()
    }
}

fn problems(evidence: &Evidence) -> String {
    judge(evidence).problems.join("\n")
}

#[test]
fn a_sound_campaign_passes() {
    for ids in [true, false] {
        let verdict = judge(&sound(ids));
        assert_eq!(verdict.problems, [] as [String; 0]);
        assert_eq!((verdict.sent, verdict.acked, verdict.done), (10, 10, 10));
        assert_eq!(verdict.in_flight, [1], "the one sent at the kill and acked after it");
    }
}

#[test]
fn a_lost_message_is_named_with_the_kill_after_it() {
    let mut evidence = sound(true);
    evidence.points.remove(5);
    let found = problems(&evidence);
    assert!(found.contains("LOST") && found.contains("press-1/5 before kill 1"), "{found}");
    assert!(found.contains("serial run"), "the state counts it: {found}");
}

#[test]
fn a_message_done_twice_is_named() {
    let mut evidence = sound(true);
    let again = evidence.points[3].clone();
    evidence.points.insert(4, again);
    let found = problems(&evidence);
    assert!(found.contains("TWICE: 1 (press-1/3"), "{found}");
}

#[test]
fn plain_qos_1_may_repeat_what_the_device_repeated_and_nothing_else() {
    let mut evidence = sound(false);
    let again = evidence.points[3].clone();
    evidence.points.insert(4, again);
    assert!(problems(&evidence).contains("MORE OFTEN than the device sent it: 1 (press-1/3"));
    evidence.devices[0].sent.insert(3, vec![1_003, 1_006]);
    let verdict = judge(&evidence);
    assert_eq!((verdict.twice, verdict.repeats), (0, 1));
}

#[test]
fn a_dead_letter_is_an_end_and_the_state_is_that_of_the_others() {
    let mut evidence = sound(true);
    evidence.dead.push(Dead {
        function: FIRST.into(),
        device: "press-1".into(),
        seq: 9,
        reason: "crashed".into(),
    });
    let twice = problems(&evidence);
    assert!(twice.contains("TWICE: 1 (press-1/9"), "done and dead is twice: {twice}");

    // Without it from the start.
    let (mut moving, mut alarm) = (Moving::default(), Alarm::default());
    evidence.points.pop();
    for point in &evidence.points {
        let seq = point.smoothed.seq;
        let reading = Reading { device: "press-1".into(), seq, value: point.smoothed.value };
        let _ = alarm.judge(&moving.observe(&reading), Thresholds::default());
    }
    evidence.devices[0].moving = Some(moving);
    evidence.devices[0].alarm = Some(alarm);
    let hidden = problems(&evidence);
    assert!(hidden.contains("1 dead letters in the control plane, 0 on the gateway"), "{hidden}");
    evidence.dead_on_gateway = 1;
    let verdict = judge(&evidence);
    assert_eq!((verdict.problems.len(), verdict.done, verdict.dead), (0, 9, 1));
}

#[test]
fn what_proves_nothing_fails() {
    let mut evidence = sound(true);
    evidence.kills[0].ended_ms = 5_000;
    assert!(problems(&evidence).contains("no kill hit a message in flight"));
    evidence.kills.clear();
    assert!(problems(&evidence).contains("nothing was killed"));
    evidence.devices[0].acked.remove(&9);
    assert!(problems(&evidence).contains("1 messages were never acked"));
}
