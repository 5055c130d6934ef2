mod updates;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::limits::{
    CONCURRENCY_MAX, CONFIG_VALUE_BYTES_MAX, FILTERS_MAX, MEMORY_BYTES_MAX, PUBLISHES_DEFAULT,
    RECORDS_DEFAULT, TIME_MS_MAX,
};

fn good() -> Manifest {
    let function = |publish: &str| Function {
        artifact: Digest::of(publish.as_bytes()),
        size: 1_000,
        limits: Limits::default(),
        state: StateScope::Device,
        state_version: 1,
        when_full: WhenFull::Hold,
        grants: Grants { publish: vec![publish.into()], record: vec!["*".into()] },
        config: [("threshold".to_owned(), "3".to_owned())].into(),
        ordered: None,
        pause: Pause::default(),
    };
    let trigger = |function: &str, source| Trigger {
        function: function.into(),
        source,
        retry: Retry::default(),
        on_success: None,
        on_failure: None,
    };
    let mqtt = |topic: &str| {
        Source::Mqtt(MqttSource {
            topics: vec![topic.into()],
            durability: Durability::Prompt,
            allow_loop: false,
            filter: Vec::new(),
            batch: None,
        })
    };
    let every = ScheduleSource { expression: "rate(5 minutes)".into(), missed: MissedSlots::Skip };
    Manifest {
        format: FORMAT,
        app: "cold-chain".into(),
        version: "1.0.0".into(),
        sequence: 3,
        floor: 1,
        functions: [
            ("smooth".to_owned(), function("smoothed/+")),
            ("alarm".to_owned(), function("alarms/+")),
        ]
        .into(),
        triggers: [
            ("readings".to_owned(), trigger("smooth", mqtt("sensors/+/temperature"))),
            ("smoothed".to_owned(), trigger("alarm", mqtt("smoothed/+"))),
            ("often".to_owned(), trigger("alarm", Source::Schedule(every))),
        ]
        .into(),
        records: BTreeMap::new(),
        firmware: BTreeMap::new(),
        agent: None,
        system: None,
    }
}

fn paths(manifest: &Manifest) -> Vec<String> {
    manifest.problems().into_iter().map(|problem| problem.path).collect()
}

#[test]
fn a_good_one_round_trips() {
    let manifest = good();
    assert_eq!(manifest.problems(), []);
    assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Ok(manifest));
}

#[test]
fn the_bytes_are_pinned() {
    let mut manifest = good();
    manifest.functions.remove("alarm");
    manifest.triggers = [("readings".to_owned(), good().triggers["readings"].clone())].into();
    let expected = concat!(
        r#"{"format":1,"app":"cold-chain","version":"1.0.0","sequence":3,"floor":1,"#,
        r#""functions":{"smooth":{"#,
        r#""artifact":"f4df8b7a30b3b8da22bc1f9a8ee18a8f4a9eec0ce1c57f1e4ea6a4d3ac0e4cd0","#,
        r#""size":1000,"limits":{"memory_bytes":16777216,"time_ms":3000,"stack_bytes":65536,"#,
        r#""publishes":64,"publish_bytes":262144,"records":64,"record_bytes":262144,"#,
        r#""log_bytes":65536,"state_write_bytes":1048576,"state_bytes":16777216,"concurrency":1},"#,
        r#""state":"device","state_version":1,"when_full":"hold","#,
        r#""grants":{"publish":["smoothed/+"],"record":["*"]},"config":{"threshold":"3"}}},"#,
        r#""triggers":{"readings":{"function":"smooth","source":{"mqtt":{"#,
        r#""topics":["sensors/+/temperature"],"durability":"prompt","allow_loop":false}},"#,
        r#""retry":{"retries_max":2,"backoff_ms":[60000,120000],"age_ms_max":21600000}}}}"#
    );
    manifest.functions.get_mut("smooth").unwrap().artifact =
        "f4df8b7a30b3b8da22bc1f9a8ee18a8f4a9eec0ce1c57f1e4ea6a4d3ac0e4cd0".parse().unwrap();
    assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), expected);
}

#[test]
fn defaults_may_be_left_out_by_authors_but_not_in_signed_bytes() {
    let text = format!(
        r#"{{"format":1,"app":"a","version":"1","sequence":1,"floor":0,
            "functions":{{"f":{{"artifact":"{}","size":1}}}},"triggers":{{}}}}"#,
        Digest::of(b"x")
    );
    let manifest: Manifest = serde_json::from_str(&text).unwrap();
    assert_eq!(manifest.functions["f"].limits, Limits::default());
    assert_eq!(Manifest::from_bytes(text.as_bytes()), Err(ManifestError::NotCanonical));
    assert!(Manifest::from_bytes(&manifest.to_bytes()).is_ok());
}

#[test]
fn patterns_are_kept_as_written_and_checked() {
    let mut manifest = good();
    let pattern = json!({ "body": { "celsius": [{ "numeric": [">", 80.5] }, null, -0.0, 1e300] } });
    set_filter(&mut manifest, vec![pattern]);
    assert_eq!(manifest.problems(), []);
    let bytes = manifest.to_bytes();
    assert_eq!(Manifest::from_bytes(&bytes), Ok(manifest.clone()));
    let text = String::from_utf8(bytes).unwrap();
    let empty = text
        .replace("[{\"body\":{\"celsius\":[{\"numeric\":[\">\",80.5]},null,-0.0,1e+300]}}]", "[]");
    assert_ne!(empty, text);
    assert_eq!(Manifest::from_bytes(empty.as_bytes()), Err(ManifestError::NotCanonical));
    set_filter(&mut manifest, vec![json!({ "topic": ["a"] }), json!({ "body": { "a": "b" } })]);
    assert_eq!(paths(&manifest), ["triggers.readings.source.mqtt.filter[1].body.a"]);
    set_filter(&mut manifest, vec![json!({ "topic": ["a"] }); 6]);
    assert_eq!(paths(&manifest), ["triggers.readings.source.mqtt.filter[0]"]);
}

fn firmware(devices: &[&str]) -> Firmware {
    Firmware {
        kind: ImageKind::Firmware,
        artifact: Digest::of(b"image"),
        size: 1_000,
        board: "mps2-an385".into(),
        version: 3,
        floor: 2,
        devices: devices.iter().map(|&text| text.to_owned()).collect(),
        signature: String::new(),
    }
}

#[test]
fn an_app_may_be_firmware_alone_and_its_bytes_say_it() {
    let mut manifest = good();
    (manifest.functions, manifest.triggers) = Default::default();
    assert_eq!(paths(&manifest), ["functions"]);
    manifest.firmware = [("press".to_owned(), firmware(&["press-*"]))].into();
    assert_eq!(manifest.problems(), []);
    let text = String::from_utf8(manifest.to_bytes()).unwrap();
    let expected = concat!(
        r#""firmware":{"press":{"#,
        r#""artifact":"6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d","#,
        r#""size":1000,"board":"mps2-an385","version":3,"floor":2,"devices":["press-*"]}}}"#
    );
    assert!(text.ends_with(expected), "{text}");
    assert_eq!(manifest.artifacts(), [(Digest::of(b"image"), 1_000)].into());
    assert_eq!(Manifest::from_bytes(text.as_bytes()), Ok(manifest));
}

#[test]
fn problems_of_firmware_have_their_paths() {
    let mut manifest = good();
    manifest.firmware = [
        ("a".to_owned(), firmware(&["press-*", "press-1"])),
        ("b".to_owned(), firmware(&["saw-*", "press-7"])),
    ]
    .into();
    assert_eq!(paths(&manifest), ["firmware.b.devices"], "within one image it may overlap");
    manifest.firmware.get_mut("b").unwrap().kind = ImageKind::Function;
    assert_eq!(paths(&manifest), [""; 0], "firmware and a function for one device");
    let text = String::from_utf8(manifest.to_bytes()).unwrap();
    assert!(text.contains(r#""b":{"kind":"function","artifact":"#), "{text}");
    assert_eq!(Manifest::from_bytes(text.as_bytes()), Ok(manifest.clone()));
    manifest.firmware = [(
        "Bad".to_owned(),
        Firmware {
            size: 17 << 20,
            board: String::new(),
            floor: 4,
            signature: "ab".into(),
            ..firmware(&["a b"])
        },
    )]
    .into();
    let expected = [
        "firmware.Bad",
        "firmware.Bad.size",
        "firmware.Bad.board",
        "firmware.Bad.floor",
        "firmware.Bad.signature",
        "firmware.Bad.devices",
    ];
    assert_eq!(paths(&manifest), expected);
    manifest.firmware = [("c".to_owned(), firmware(&[]))].into();
    assert_eq!(paths(&manifest), ["firmware.c.devices"]);
}

#[test]
fn batches_are_bounded_and_signed() {
    let mut manifest = good();
    let mut set = |batch: Batch, age_ms_max| {
        let trigger = manifest.triggers.get_mut("readings").unwrap();
        trigger.retry.age_ms_max = age_ms_max;
        let Source::Mqtt(source) = &mut trigger.source else { panic!("of messages") };
        source.batch = Some(batch);
        (paths(&manifest), manifest.clone())
    };
    let (problems, same) = set(Batch::default(), 6_000);
    assert_eq!((problems, Manifest::from_bytes(&same.to_bytes())), (Vec::new(), Ok(same.clone())));
    let text = String::from_utf8(same.to_bytes()).unwrap();
    let batch = r#""batch":{"size_max":50,"window_ms":0,"bytes_max":262144,"bisect":true}"#;
    assert!(text.contains(&format!(r#""allow_loop":false,{batch}}}"#)), "{text}");
    let at = |field: &str| format!("triggers.readings.source.mqtt.batch.{field}");
    let wrong = Batch { size_max: 0, window_ms: 300_001, bytes_max: 1_023, bisect: false };
    assert_eq!(set(wrong, 600_000).0, ["size_max", "window_ms", "bytes_max"].map(at));
    let most = Batch { size_max: 1_000, window_ms: 300_000, bytes_max: 1 << 20, bisect: false };
    assert_eq!(set(most, 300_001).0, [""; 0]);
    assert_eq!(set(most, 300_000).0, [at("window_ms")]);
}

/// A function that publishes and records something for each event, and for the whole, runs with the
/// defaults.
#[test]
fn defaults_of_a_batch_and_of_its_outputs_go_together() {
    let size = u32::from(Batch::default().size_max);
    assert!(size < PUBLISHES_DEFAULT.min(RECORDS_DEFAULT), "{size}");
}

#[test]
fn what_wakes_a_function_says_what_it_must_export() {
    let mut manifest = good();
    let told = |manifest: &Manifest, name: &str| {
        let Woken { by_event, by_batch } = woken(&manifest.triggers, name);
        (by_event, by_batch)
    };
    assert_eq!(told(&manifest, "smooth"), (true, false));
    let trigger = manifest.triggers.get_mut("readings").unwrap();
    let Source::Mqtt(source) = &mut trigger.source else { panic!("of messages") };
    source.batch = Some(Batch::default());
    assert_eq!(told(&manifest, "smooth"), (false, true));
    let function = Some("smooth".to_owned());
    let trigger = manifest.triggers.get_mut("often").unwrap();
    trigger.on_failure = Some(Destination { function, ..Destination::default() });
    assert_eq!(told(&manifest, "smooth"), (true, true));
    assert_eq!(told(&manifest, "nobody"), (false, false));
}

#[test]
fn destinations_are_checked_against_functions_and_grants() {
    let mut manifest = good();
    let told = |topic: Option<&str>, function: Option<&str>, cloud| {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Some(Destination { topic: text(topic), function: text(function), cloud })
    };
    let readings = "readings";
    let mut set = |on_success, on_failure| {
        let trigger = manifest.triggers.get_mut(readings).unwrap();
        (trigger.on_success, trigger.on_failure) = (on_success, on_failure);
        paths(&manifest)
    };
    assert!(set(told(Some("smoothed/x"), Some("alarm"), true), told(None, None, true)).is_empty());
    assert_eq!(set(told(None, None, false), None), ["triggers.readings.on_success"]);
    let wrong =
        set(told(Some("elsewhere"), Some("alrm"), false), told(Some("smoothed/+"), None, false));
    let expected = ["on_success.function", "on_success.topic", "on_failure.topic"];
    assert_eq!(wrong, expected.map(|path| format!("triggers.readings.{path}")));
    let again = set(told(Some("smoothed/x"), None, false), told(None, Some("alarm"), true));
    assert!(again.is_empty());
    manifest.triggers.get_mut(readings).unwrap().retry =
        Retry { jitter: Jitter::Full, age_by_wall: true, ..Retry::default() };
    assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Ok(manifest));
}

fn set_filter(manifest: &mut Manifest, patterns: Vec<serde_json::Value>) {
    let trigger = manifest.triggers.get_mut("readings").unwrap();
    let Source::Mqtt(source) = &mut trigger.source else { panic!("of messages") };
    source.filter = patterns;
}

#[test]
fn unknown_and_repeated_fields_are_refused() {
    let text = String::from_utf8(good().to_bytes()).unwrap();
    let unknown = text.replace("\"size\":1000", "\"size\":1000,\"sudo\":true");
    let error = Manifest::from_bytes(unknown.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("sudo"), "{error}");
    let repeated = text.replace("\"threshold\":\"3\"", "\"threshold\":\"9\",\"threshold\":\"3\"");
    assert_eq!(Manifest::from_bytes(repeated.as_bytes()), Err(ManifestError::NotCanonical));
}

#[test]
fn all_problems_are_reported_at_once() {
    let mut manifest = good();
    manifest.app = "Cold Chain".into();
    manifest.floor = 9;
    let smooth = manifest.functions.get_mut("smooth").unwrap();
    smooth.limits.time_ms = TIME_MS_MAX + 1;
    smooth.limits.memory_bytes = MEMORY_BYTES_MAX + 1;
    smooth.grants.publish.push("a/#/b".into());
    smooth.state_version = 0;
    smooth.config.insert("k".into(), "x".repeat(CONFIG_VALUE_BYTES_MAX + 1));
    manifest.triggers.get_mut("readings").unwrap().function = "smoth".into();
    manifest.triggers.get_mut("smoothed").unwrap().retry.backoff_ms.clear();
    assert_eq!(
        paths(&manifest),
        [
            "app",
            "floor",
            "functions.smooth.limits.memory_bytes",
            "functions.smooth.limits.time_ms",
            "functions.smooth.state_version",
            "functions.smooth.grants.publish",
            "functions.smooth.config",
            "triggers.readings.function",
            "triggers.smoothed.retry.backoff_ms",
        ]
    );
    let error = Manifest::from_bytes(&manifest.to_bytes()).unwrap_err().to_string();
    assert!(error.contains("9 problem(s)") && error.contains("smoth"), "{error}");
}

#[test]
fn a_function_must_not_wake_itself_unless_it_says_so() {
    let mut manifest = good();
    manifest.functions.get_mut("smooth").unwrap().grants.publish = vec!["sensors/#".into()];
    let problems = manifest.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].path, "triggers.readings.source.mqtt.topics");
    assert!(problems[0].text.contains("allow_loop"));
    let Source::Mqtt(source) = &mut manifest.triggers.get_mut("readings").unwrap().source else {
        panic!("it is an mqtt trigger")
    };
    source.allow_loop = true;
    assert_eq!(manifest.problems(), []);
}

#[test]
fn policies_of_series_are_checked_and_left_out_where_there_are_none() {
    let mut manifest = good();
    assert!(!String::from_utf8(manifest.to_bytes()).unwrap().contains("records\":{}"));
    let series = Series { ttl_ms: Some(5_000), drop: SeriesDrop::Newest, ..Series::default() };
    manifest.records = [("celsius".to_owned(), series)].into();
    assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Ok(manifest.clone()));
    let latest =
        Series { priority: Priority::Bulk, ttl_ms: Some(1), drop: SeriesDrop::LatestPerKey };
    manifest.records = [("celsius".to_owned(), latest)].into();
    assert_eq!(paths(&manifest), ["records.celsius.ttl_ms", "records.celsius.priority"]);
    for function in manifest.functions.values_mut() {
        function.grants.record = vec!["kelvin".into()];
    }
    manifest.records = [("celsius".to_owned(), series)].into();
    assert_eq!(paths(&manifest), ["records.celsius"], "nobody records it");
}

#[test]
fn one_lane_means_one_at_a_time() {
    let mut manifest = good();
    let alarm = manifest.functions.get_mut("alarm").unwrap();
    alarm.state = StateScope::Function;
    alarm.limits.concurrency = 2;
    assert_eq!(paths(&manifest), ["functions.alarm.limits.concurrency"]);
    let alarm = manifest.functions.get_mut("alarm").unwrap();
    alarm.state = StateScope::None;
    alarm.limits.concurrency = CONCURRENCY_MAX;
    assert_eq!(manifest.problems(), []);
}

#[test]
fn state_follows_the_order() {
    let with = |state, ordered: &str| {
        let mut manifest = good();
        let smooth = manifest.functions.get_mut("smooth").unwrap();
        smooth.state = state;
        smooth.ordered = (!ordered.is_empty()).then(|| ordered.to_owned());
        manifest
    };
    for (state, ordered) in [
        (StateScope::Lane, "topic"),
        (StateScope::Lane, "topic[2]"),
        (StateScope::Lane, "body.machine.id"),
        (StateScope::None, "device"),
        (StateScope::None, "property.line"),
    ] {
        let manifest = with(state, ordered);
        assert_eq!(manifest.problems(), [], "{ordered}");
        assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Ok(manifest));
    }
    for (state, ordered, word) in [
        (StateScope::Lane, "", "needs it"),
        (StateScope::Device, "topic", "follows the order"),
        (StateScope::Function, "body.id", "follows the order"),
        (StateScope::Lane, "device", "leave ordered out"),
        (StateScope::None, "machine", "none of"),
    ] {
        let problems = with(state, ordered).problems();
        let [problem] = &problems[..] else { panic!("{ordered}: {problems:?}") };
        assert_eq!(problem.path, "functions.smooth.ordered");
        assert!(problem.text.contains(word), "{problem}");
    }
}

#[test]
fn a_topic_level_that_no_message_has_is_a_mistake() {
    let mut manifest = good();
    let smooth = manifest.functions.get_mut("smooth").unwrap();
    (smooth.state, smooth.ordered) = (StateScope::Lane, Some("topic[3]".to_owned()));
    assert_eq!(paths(&manifest), ["triggers.readings.source.mqtt.topics"]);
    let Source::Mqtt(source) = &mut manifest.triggers.get_mut("readings").unwrap().source else {
        panic!("it is an mqtt trigger")
    };
    source.topics = vec!["sensors/#".to_owned()];
    assert_eq!(manifest.problems(), [], "some may have it");
}

#[test]
fn one_lane_by_order_means_one_at_a_time_too() {
    let mut manifest = good();
    let alarm = manifest.functions.get_mut("alarm").unwrap();
    (alarm.state, alarm.ordered) = (StateScope::None, Some("function".to_owned()));
    alarm.limits.concurrency = 2;
    assert_eq!(paths(&manifest), ["functions.alarm.limits.concurrency"]);
}

#[test]
fn reservations_and_pauses_are_bounded() {
    let mut manifest = good();
    let smooth = manifest.functions.get_mut("smooth").unwrap();
    (smooth.limits.concurrency, smooth.limits.reserved) = (2, 2);
    smooth.pause = Pause { after: 1, ms_min: 100, ms_max: 100 };
    assert_eq!(manifest.problems(), []);
    assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Ok(manifest.clone()));
    let smooth = manifest.functions.get_mut("smooth").unwrap();
    smooth.limits.reserved = 3;
    smooth.pause = Pause { after: 0, ms_min: 200, ms_max: 199 };
    assert_eq!(
        paths(&manifest),
        [
            "functions.smooth.limits.reserved",
            "functions.smooth.pause.after",
            "functions.smooth.pause.ms_max",
        ]
    );
}

/// What a later version added stands in the bytes only where it says something, so that the
/// digest of a manifest stays what it was.
#[test]
fn defaults_of_later_fields_are_left_out() {
    let text = String::from_utf8(good().to_bytes()).unwrap();
    for field in ["ordered", "reserved", "pause"] {
        assert!(!text.contains(&format!("\"{field}\"")), "{field}");
    }
    let zero = text.replace("\"concurrency\":1", "\"concurrency\":1,\"reserved\":0");
    assert_eq!(Manifest::from_bytes(zero.as_bytes()), Err(ManifestError::NotCanonical));
}

#[test]
fn lists_are_bounded() {
    let mut manifest = good();
    let many = vec!["x".to_owned(); FILTERS_MAX + 1];
    manifest.functions.get_mut("smooth").unwrap().grants.publish = many;
    assert_eq!(paths(&manifest), ["functions.smooth.grants.publish"]);
    let long = vec![b' '; MANIFEST_BYTES_MAX + 1];
    assert!(matches!(Manifest::from_bytes(&long), Err(ManifestError::TooLong(_))));
}

proptest! {
    #[test]
    fn damaged_manifests_never_panic(at in 0_usize..2_000, to in any::<u8>()) {
        let mut bytes = good().to_bytes();
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(manifest) = Manifest::from_bytes(&bytes) {
            prop_assert_eq!(manifest.to_bytes(), bytes);
        }
    }
}
