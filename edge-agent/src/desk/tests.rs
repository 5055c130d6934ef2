use device_protocol::SchemaId;
use device_protocol::system::{Level, Response, Status, TimeRequest};
use edge_core::claim::ClaimError;
use edge_core::message::{PROPERTY_BOOT_ID, PROPERTY_SEQUENCE};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const DEVICE: &str = "press-7";
const DEVICES_MAX: u32 = 100;

fn now(ms: u64) -> Now {
    let wall = WallTime { unix_ms: 1_000_000 + ms, quality: ClockQuality::Synced };
    Now { at: Millis(ms), wall }
}

fn message(topic: &str, payload: &[u8]) -> Message {
    Message {
        topic: Topic::new(topic).unwrap(),
        payload: Bytes::copy_from_slice(payload),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties::default(),
        expiry_s: None,
        origin: Origin::Client { identity: DeviceId::new(DEVICE), client_id: "c".to_owned() },
        device: Some(DeviceId::new(DEVICE)),
        hops: 0,
        at: Millis(0),
        wall: WallTime::default(),
    }
}

fn up(up: Up<'_>) -> Message {
    let mut bytes = [0; 512];
    let length = up.encode(&mut bytes).unwrap();
    message(&up.topic(DEVICE).unwrap(), &bytes[..length])
}

fn line(text: &str) -> Message {
    let line = LogLine { level: Level::Info, time: Timestamp::uptime(1), dropped: 0, text };
    up(Up::Log(line))
}

fn row(desk: &Desk, device: &str, at: u64) -> Value {
    let mut rows = desk.rows(None, Millis(at));
    rows.find(|(name, _)| name.as_str() == device).expect("a row").1
}

#[test]
fn who_asks_for_the_time_is_told_it_with_its_quality() {
    let mut desk = Desk::new(DEVICES_MAX);
    let asked = up(Up::TimeRequest(TimeRequest { uptime_ms: 7 }));
    for (quality, expected) in [
        (ClockQuality::Synced, Quality::Synced),
        (ClockQuality::Unsynced, Quality::Unsynced),
        (ClockQuality::Unknown, Quality::Unsynced),
    ] {
        let now = Now { at: Millis(1), wall: WallTime { unix_ms: 99, quality } };
        let Some(Say::Reply(reply)) = desk.hear(&asked, now) else { panic!("a reply") };
        assert_eq!(reply.topic.as_str(), "$holm/v1/down/press-7/time");
        assert_eq!((reply.qos, reply.retain), (QoS::AtMostOnce, false));
        let now = Timestamp { quality: expected, ms: 99 };
        let time = TimeReply { uptime_ms: 7, now };
        assert_eq!(Down::decode(&reply.payload), Ok(Down::Time(time)));
    }
}

#[test]
fn what_cannot_be_read_is_counted_and_told_once_a_minute() {
    let mut desk = Desk::new(DEVICES_MAX);
    let garbage = message("$holm/v1/up/press-7/log", b"hello");
    let other = up(Up::TimeRequest(TimeRequest { uptime_ms: 7 }));
    let wrong_kind = Message { topic: garbage.topic.clone(), ..other };
    let Err(Some(Say::Complaint { why, untold: 0, .. })) = desk.check(&garbage, now(0)) else {
        panic!("told at once");
    };
    assert!(why.contains("version 104"), "{why}");
    assert_eq!(desk.check(&wrong_kind, now(59_999)), Err(None));
    let Err(Some(Say::Complaint { why, untold: 1, .. })) = desk.check(&wrong_kind, now(60_000))
    else {
        panic!("told again");
    };
    assert!(why.contains("`time`") && why.contains("`log`"), "{why}");
    assert_eq!(desk.counters().undecodable, 3);
    assert_eq!(row(&desk, DEVICE, 60_000)["undecodable"], 3);
    assert_eq!(desk.check(&line("fine"), now(60_001)), Ok(()));
    assert_eq!(desk.check(&message("sensors/press-7", b"hello"), now(60_002)), Ok(()));
    let taken_back = Message { retain: true, ..message("$holm/v1/up/press-7/reported", b"") };
    assert_eq!(desk.check(&taken_back, now(60_003)), Ok(()));
}

#[test]
fn lines_have_a_rate_and_the_next_one_tells_what_was_dropped() {
    let mut desk = Desk::new(DEVICES_MAX);
    let burst = u64::from(LINES_BURST);
    let passed = |desk: &mut Desk, at: u64| {
        (0..100).filter(|n| desk.hear(&line(&format!("{at} {n}")), now(at)).is_some()).count()
            as u64
    };
    assert_eq!(passed(&mut desk, 0), burst);
    assert_eq!(desk.counters().lines_dropped, 100 - burst);
    let Some(Say::Line(next)) = desk.hear(&line("next"), now(100)) else { panic!("one passes") };
    assert_eq!(next.dropped, 100 - burst);
    assert_eq!(passed(&mut desk, 1_100), 10, "ten a second");
    assert_eq!(passed(&mut desk, 60_000), burst, "and no more than a burst after a rest");
    let lines = desk.lines(None);
    assert_eq!(lines.as_array().unwrap().len(), usize::try_from(burst * 2 + 11).unwrap());
    assert_eq!(desk.lines(Some("other")), serde_json::json!([]));
    assert_eq!(lines[0]["text"], "0 0");
}

#[test]
fn a_device_has_so_many_figures_and_the_latest_value_of_each() {
    let mut desk = Desk::new(DEVICES_MAX);
    let mut tell = |name: &str, value: i64, at: u64| {
        let metric = Metric { name, time: Timestamp::uptime(at), value };
        assert_eq!(desk.hear(&up(Up::Metric(metric)), now(at)), None);
    };
    for n in 0..METRICS_MAX + 3 {
        tell(&format!("m{n:02}"), 1, 1);
    }
    tell("m05", 7, 5);
    assert_eq!(desk.counters().metrics_dropped, 3);
    let row = row(&desk, DEVICE, 8);
    let metrics = row["metrics"].as_array().unwrap();
    assert_eq!(metrics.len(), METRICS_MAX);
    assert_eq!((&metrics[5]["value"], &metrics[5]["age_ms"]), (&7.into(), &3.into()));
}

#[test]
fn presence_shows_connections_numbers_repeats_and_refusals() {
    let mut desk = Desk::new(DEVICES_MAX);
    let device = DeviceId::new(DEVICE);
    desk.connected(&device, now(10));
    let mut numbered = message("t", b"");
    numbered.properties.user = vec![
        (PROPERTY_BOOT_ID.to_owned(), "b007".to_owned()),
        (PROPERTY_SEQUENCE.to_owned(), "5".to_owned()),
    ];
    assert_eq!(desk.judged(&numbered, &Verdict::Accepted { jobs: 1 }, now(20)), None);
    assert_eq!(desk.judged(&numbered, &Verdict::Duplicate, now(30)), None);
    let refused = Verdict::Refused { reason: RefusedReason::Claim(ClaimError::Device) };
    assert!(desk.judged(&numbered, &refused, now(40)).is_some(), "a complaint");
    assert_eq!(desk.judged(&numbered, &refused, now(50)), None, "once a minute");
    let shown = row(&desk, DEVICE, 60);
    for (key, value) in [
        ("connected", true.into()),
        ("last_seen_ms", 10.into()),
        ("boot", "000000000000b007".into()),
        ("sequence", 5.into()),
        ("messages", 1.into()),
        ("repeats", 1.into()),
        ("refused", Value::from(2)),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    desk.connected(&device, now(60));
    desk.disconnected(&device);
    assert_eq!(row(&desk, DEVICE, 60)["connected"], true, "another connection of it is there");
    desk.disconnected(&device);
    desk.disconnected(&DeviceId::new("stranger"));
    assert_eq!(row(&desk, DEVICE, 60)["connected"], false);
}

#[test]
fn the_device_heard_longest_ago_is_forgotten_and_those_connected_last() {
    let mut desk = Desk::new(DEVICES_MAX);
    let name = |n: u32| DeviceId::new(&format!("d{n}"));
    desk.connected(&name(0), now(0));
    for n in 1..DEVICES_MAX {
        desk.connected(&name(n), now(n.into()));
        desk.disconnected(&name(n));
    }
    desk.connected(&name(DEVICES_MAX), now(10_000));
    assert_eq!((desk.known(), desk.counters().forgotten), (DEVICES_MAX as usize, 1));
    let names: Vec<_> = desk.rows(None, Millis(0)).map(|(device, _)| device.clone()).collect();
    assert!(names.contains(&name(0)) && !names.contains(&name(1)));
}

#[test]
fn what_others_subscribe_to_is_theirs() {
    let mut desk = Desk::new(DEVICES_MAX);
    let response = Response { id: 1, status: Status::Done, schema: SchemaId::RAW, body: b"ok" };
    let message = up(Up::Response(response));
    assert_eq!((desk.check(&message, now(0)), desk.hear(&message, now(0))), (Ok(()), None));
}

proptest! {
    /// Whatever comes: no panic, and all bounds hold.
    #[test]
    fn bounds_hold(
        messages in prop::collection::vec(
            ("[a-z0-9]{0,3}(/[a-z]{0,8}){0,2}", prop::collection::vec(any::<u8>(), 0..40), 0_u64..9_000),
            0..80,
        ),
    ) {
        let mut desk = Desk::new(8);
        let mut at = 0;
        for (rest, payload, later) in messages {
            at += later;
            let Ok(topic) = Topic::new(&format!("{UP}{rest}")) else { continue };
            let mut it = message("t", &payload);
            it.topic = topic;
            if desk.check(&it, now(at)).is_ok() {
                desk.hear(&it, now(at));
            }
        }
        prop_assert!(desk.known() <= 8);
        let ranks = desk.devices.iter().map(|(device, entry)| (entry.rank(), device.clone()));
        prop_assert_eq!(&ranks.collect::<BTreeSet<_>>(), &desk.by_rank);
        prop_assert!(desk.lines.len() <= LINES_MAX);
    }
}

fn progress(stage: Stage, reason: &str) -> Message {
    up(Up::Progress(Progress { image: [7; 8], stage, offset: 512, reason }))
}

/// What the desk hears of a device's firmware, with the version that the gateway knows of the image.
fn tell(desk: &mut Desk, message: &Message, version: Option<u32>, at: u64) -> bool {
    let Some(Say::Firmware { device, told }) = desk.hear(message, now(at)) else {
        panic!("of firmware");
    };
    let offered = version.map(|version| (ImageKind::Firmware, version));
    desk.firmware_told(&device, Told { offered, ..told }, now(at))
}

#[test]
fn a_change_of_stage_is_reported_once() {
    let mut desk = Desk::new(DEVICES_MAX);
    assert!(!tell(&mut desk, &progress(Stage::Fetching, ""), None, 0), "of an image nobody offers");
    assert_eq!(row(&desk, DEVICE, 0)["firmware"]["version"], Value::Null);
    assert!(tell(&mut desk, &progress(Stage::Fetching, ""), Some(3), 0));
    assert!(!tell(&mut desk, &progress(Stage::Fetching, ""), Some(3), 1));
    assert!(tell(&mut desk, &progress(Stage::Declined, "no"), Some(3), 2));
    let shown = row(&desk, DEVICE, 2)["firmware"].clone();
    let expected = serde_json::json!({
        "kind": "firmware", "image": "0707070707070707", "version": 3, "stage": "declined",
        "bytes": 512, "reason": "no",
    });
    assert_eq!(shown, expected);
}

#[test]
fn a_device_that_flaps_fills_no_outbox_and_its_last_word_is_told() {
    let mut desk = Desk::new(DEVICES_MAX);
    let stages = [Stage::Fetching, Stage::Verified];
    let mut reported = 0;
    for n in 0..1_000_u64 {
        let stage = stages[usize::try_from(n % 2).unwrap()];
        reported += u32::from(tell(&mut desk, &progress(stage, ""), Some(3), n));
    }
    assert_eq!(reported, REPORTS_BURST);
    assert!(!tell(&mut desk, &progress(Stage::Confirmed, ""), Some(3), 2_000));
    // It says so once. Who runs the desk comes again at its deadline.
    let due = desk.next_deadline().expect("a stage is untold");
    assert!(desk.late_firmware(now(due.0 - 1)).is_none());
    let (device, told) = desk.late_firmware(now(due.0)).expect("its time has come");
    assert_eq!((device.as_str(), told.stage), (DEVICE, Stage::Confirmed));
    assert!(desk.firmware_told(&device, told, now(due.0)));
    assert!(desk.next_deadline().is_none() && desk.late_firmware(now(due.0)).is_none());
}
