use cold_chain_model::{Change, Smoothed};

use super::*;
use crate::crash::Point;

fn readings() -> Vec<readings::Reading> {
    (0..500).map(|n| readings::Reading { value: f64::from(n % 17) * 3.0 }).collect()
}

/// A device whose first `recorded` messages went all the way, the next up to `done` wait for
/// `alarm`, and the next up to `admitted` for `smooth`.
fn rows(place: usize, recorded: u64, done: u64, admitted: u64) -> DeviceRows {
    let device = DEVICES[place];
    let mut rows = DeviceRows::default();
    for seq in 0..done {
        let value = readings()[usize::try_from(seq).unwrap()].value;
        let reading = Reading { device: device.name.to_owned(), seq, value };
        let smoothed: Smoothed = rows.moving.get_or_insert_default().observe(&reading);
        if seq >= recorded {
            rows.for_alarm.push(seq);
            continue;
        }
        let alarm = rows.alarm.get_or_insert_default();
        rows.change = alarm.judge(&smoothed, Thresholds::default()).or(rows.change.take());
        let alarm = alarm.on;
        rows.points.push(Point { smoothed, alarm });
    }
    rows.for_smooth.extend(done..admitted);
    rows.queued_raw.extend(0..admitted);
    rows.queued_smooth.extend(0..done);
    if !device.exactly_once {
        rows.known.extend(0..admitted);
    }
    rows
}

/// All devices, 20 messages recorded, 25 done, 32 admitted, 30 acked.
fn scene() -> (Found, Witness) {
    let devices: Vec<_> = (0..DEVICES.len()).map(|place| rows(place, 20, 25, 32)).collect();
    let mut found = Found { devices, ..Found::default() };
    let mut witness = Witness::of(DEVICES.len());
    for (device, seen) in DEVICES.iter().zip(&mut witness.0) {
        *seen = Seen { acked: 30, heard_raw: 12, heard_smooth: 10, ..Seen::default() };
        if device.exactly_once {
            (seen.releasing, seen.completed) = (28, 27);
        }
    }
    found.devices[4].taken.extend(27..32);
    (found, witness)
}

fn problems(found: &Found, witness: &Witness) -> Vec<String> {
    judge(found, witness, &readings())
}

#[test]
fn what_is_whole_has_no_problem() {
    let (found, witness) = scene();
    assert_eq!(problems(&found, &witness), [] as [String; 0]);
    let empty = Found { devices: vec![DeviceRows::default(); DEVICES.len()], ..Found::default() };
    assert_eq!(problems(&empty, &Witness::of(DEVICES.len())), [] as [String; 0]);
}

/// Every way in which a row can be wrong is found, and named.
#[test]
fn every_wrong_row_is_found() {
    type Spoil = fn(&mut Found, &mut Witness);
    let spoiled: [(&str, Spoil); 19] = [
        ("LOST (acked", |_, witness| witness.0[0].acked = 33),
        ("missing before", |found, _| found.devices[0].for_smooth.retain(|seq| *seq != 28)),
        ("TWICE", |found, _| found.devices[0].for_smooth.insert(0, 24)),
        ("TWICE", |found, _| found.devices[0].for_alarm.push(24)),
        ("out of order", |found, _| found.devices[0].for_smooth.swap(0, 1)),
        ("given up", |found, _| found.devices[0].dead.push(31)),
        ("state of `smooth`", |found, _| found.devices[0].moving = None),
        ("state of `smooth`", |found, _| {
            found.devices[0].for_alarm.pop();
        }),
        ("state of `alarm`", |found, _| found.devices[0].alarm.as_mut().unwrap().judged += 1),
        ("the retained alarm", |found, _| {
            let device = "press-1".to_owned();
            found.devices[0].change = Some(Change { device, seq: 3, on: true, score: 9.0 });
        }),
        ("records differ", |found, _| found.devices[0].points[7].smoothed.mean += 1e-9),
        ("left the gateway", |_, witness| witness.0[0].heard_smooth = 26),
        ("left the gateway", |_, witness| witness.0[0].heard_raw = 33),
        ("LOST on the way", |found, _| {
            found.devices[0].queued_smooth.remove(&11);
        }),
        ("never were", |found, _| {
            found.devices[0].queued_smooth.insert(25);
        }),
        ("would run again", |found, _| {
            found.devices[0].known.remove(&31);
        }),
        ("would be dropped", |found, _| {
            found.devices[0].known.insert(32);
        }),
        ("free between", |found, _| {
            found.devices[4].taken.remove(&29);
        }),
        ("taken after", |found, _| {
            found.devices[4].taken.insert(26);
        }),
    ];
    for (what, spoil) in spoiled {
        let (mut found, mut witness) = scene();
        spoil(&mut found, &mut witness);
        let problems = problems(&found, &witness);
        assert!(problems.iter().any(|problem| problem.contains(what)), "{what}: {problems:?}");
    }
    let (mut found, witness) = scene();
    found.oddities.push("a gap".to_owned());
    assert_eq!(problems(&found, &witness), ["a gap"]);
}
