use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::limits::LANE_BODY_BYTES_MAX;

fn lane(ordered: &str, topic: &str, body: &str) -> LaneKey {
    let user = vec![("line".to_owned(), "l1".to_owned()), ("line".to_owned(), "l2".to_owned())];
    let properties = Properties { user, ..Properties::default() };
    let device = DeviceId::new("d");
    let ordered: Ordered = ordered.parse().unwrap();
    let subject =
        Subject { topic, payload: body.as_bytes(), properties: &properties, device: Some(&device) };
    ordered.lane(subject)
}

fn key(text: &str) -> LaneKey {
    LaneKey::Key(Arc::from(text))
}

#[test]
fn each_form_names_its_lane() {
    for (ordered, expected) in [
        ("device", LaneKey::Device(DeviceId::new("d"))),
        ("function", LaneKey::Function),
        ("topic", key("plant/7/temp")),
        ("topic[0]", key("plant")),
        ("topic[1]", key("7")),
        ("topic[3]", LaneKey::Keyless),
        ("body.machine.id", key("m1")),
        ("body.machine", LaneKey::Keyless),
        ("body.machine.id.x", LaneKey::Keyless),
        ("body.list", LaneKey::Keyless),
        ("body.none", LaneKey::Keyless),
        ("body.absent", LaneKey::Keyless),
        ("body.on", key("true")),
        ("property.line", key("l1")),
        ("property.absent", LaneKey::Keyless),
    ] {
        let body = r#"{"machine": {"id": "m1"}, "list": [{"id": 1}], "none": null, "on": true}"#;
        assert_eq!(lane(ordered, "plant/7/temp", body), expected, "{ordered}");
    }
}

#[test]
fn a_schedule_has_no_topic_and_no_body() {
    for ordered in ["topic", "topic[0]", "body.id"] {
        assert_eq!(lane(ordered, "", ""), LaneKey::Keyless, "{ordered}");
    }
}

#[test]
fn numbers_are_compared_as_text() {
    for (body, expected) in [
        (r#"{"id": 7}"#, key("7")),
        (r#"{"id": "7"}"#, key("7")),
        (r#"{"id": 7.0}"#, key("7")),
        (r#"{"id": 70e-1}"#, key("7")),
        (r#"{"id": -0.0}"#, key("0")),
        (r#"{"id": 7.25}"#, key("7.25")),
        (r#"{"id": -3}"#, key("-3")),
        (r#"{"id": 18446744073709551615}"#, key("18446744073709551615")),
        (r#"{"id": ""}"#, LaneKey::Keyless),
        (r#"{"id": 1, "id": 2}"#, key("2")),
        (r#"{"id": 1, "id": null}"#, LaneKey::Keyless),
    ] {
        assert_eq!(lane("body.id", "t", body), expected, "{body}");
    }
}

#[test]
fn what_is_no_json_has_no_key() {
    for body in ["", "7", "{\"id\": 7", "{\"id\": 7} x", "{id: 7}", "\u{1}", "[{\"id\": 7}]"] {
        assert_eq!(lane("body.id", "t", body), LaneKey::Keyless, "{body}");
    }
    let deep = "{\"a\":".repeat(1_000) + "1" + &"}".repeat(1_000);
    assert_eq!(lane("body.a", "t", &deep), LaneKey::Keyless);
}

#[test]
fn long_keys_and_bodies_have_none() {
    let body = |id: usize, pad: usize| {
        format!(r#"{{"id": "{}", "pad": "{}"}}"#, "x".repeat(id), "y".repeat(pad))
    };
    assert_eq!(lane("body.id", "t", &body(256, 0)), key(&"x".repeat(256)));
    assert_eq!(lane("body.id", "t", &body(257, 0)), LaneKey::Keyless);
    let pad = LANE_BODY_BYTES_MAX - body(1, 0).len();
    assert_eq!(lane("body.id", "t", &body(1, pad)), key("x"));
    assert_eq!(lane("body.id", "t", &body(1, pad + 1)), LaneKey::Keyless);
    assert_eq!(lane("topic", &"t/".repeat(129), ""), LaneKey::Keyless);
}

#[test]
fn people_name_a_lane_as_its_events_do() {
    for ordered in ["device", "topic", "topic[9]", "function"] {
        let lane = lane(ordered, "t", "");
        let lanes: Ordered = ordered.parse().unwrap();
        assert_eq!(named(Some(&lanes), lane.name()), lane, "{ordered}");
    }
    assert_eq!(named(None, Some("d")), LaneKey::Device(DeviceId::new("d")));
}

#[test]
fn a_text_that_is_no_order_is_told_why() {
    for (text, error) in [
        ("", OrderError::Unknown),
        ("devices", OrderError::Unknown),
        ("bodies.id", OrderError::Unknown),
        ("topic[]", OrderError::Level),
        ("topic[1", OrderError::Level),
        ("topic[+1]", OrderError::Level),
        ("topic[01]", OrderError::Level),
        ("topic[256]", OrderError::Level),
        ("body.", OrderError::Path),
        ("body.a..b", OrderError::Path),
        ("body.a.a.a.a.a.a.a.a.a", OrderError::Path),
        ("property.", OrderError::Path),
    ] {
        assert_eq!(text.parse::<Ordered>(), Err(error), "{text}");
    }
    assert_eq!(format!("body.{}", "x".repeat(257)).parse::<Ordered>(), Err(OrderError::Long));
}

proptest! {
    /// The lane of a scalar is its text as serde_json reads it, wherever it stands.
    #[test]
    fn agrees_with_a_reader_that_builds_the_body(
        id in prop_oneof![
            any::<u32>().prop_map(|n| serde_json::json!(n)),
            "[a-z\"\\\\é]{0,12}".prop_map(|text| serde_json::json!(text)),
            any::<bool>().prop_map(|on| serde_json::json!(on)),
            Just(serde_json::json!(null)),
            Just(serde_json::json!([1])),
        ],
        before in "[a-z]{2,4}",
        after in "[a-z]{2,4}",
    ) {
        let body = serde_json::json!({ "m": { before: [1, {"i": 2}], "i": id, after: "x" } });
        let expected = match &body["m"]["i"] {
            serde_json::Value::String(text) if text.is_empty() => LaneKey::Keyless,
            serde_json::Value::String(text) => key(text),
            value if value.is_number() || value.is_boolean() => key(&value.to_string()),
            _ => LaneKey::Keyless,
        };
        prop_assert_eq!(lane("body.m.i", "t", &body.to_string()), expected);
    }

    /// Foreign bytes make no trouble.
    #[test]
    fn any_bytes_have_a_lane(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let ordered = Ordered::Body(vec!["id".to_owned()]);
        let properties = Properties::default();
        let payload = Bytes::from(bytes);
        let subject = Subject { topic: "t", payload: &payload, properties: &properties, device: None };
        let lane = ordered.lane(subject);
        prop_assert!(matches!(lane, LaneKey::Keyless | LaneKey::Key(_)));
    }

    #[test]
    fn reads_what_it_writes(text in "(topic(\\[[0-9]{1,3}\\])?|body\\.[a-z.]{1,9}|property\\.[a-z.]{1,9})") {
        if let Ok(ordered) = text.parse::<Ordered>() {
            prop_assert_eq!(ordered.to_string(), text);
        }
    }
}
