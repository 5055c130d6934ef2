use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod reference;

fn event(payload: &[u8]) -> Subject<'_> {
    Subject { topic: "a/b", device: Some("d"), content_type: None, properties: &[], payload }
}

fn filter(pattern: &Value) -> EventFilter {
    EventFilter::compile(std::slice::from_ref(pattern)).unwrap_or_else(|why| panic!("{why:?}"))
}

#[test]
fn the_table_of_cases_holds_for_us_and_for_the_reference() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("tests/cases.json")).unwrap();
    assert!(cases.len() > 20);
    for case in &cases {
        let (pattern, filter) = (&case["pattern"], filter(&case["pattern"]));
        for (key, wanted) in [("yes", Verdict::Wanted), ("no", Verdict::Unwanted)] {
            for body in case[key].as_array().unwrap() {
                let text = body.to_string();
                let event = event(text.as_bytes());
                assert_eq!(filter.judge(&event), wanted, "{pattern} {body}");
                assert_eq!(misses(pattern, &event).is_empty(), key == "yes", "{pattern} {body}");
                // What no double holds is beyond the reference.
                if !text.contains("900719925474099") {
                    let reference = reference::matches(pattern, &event);
                    assert_eq!(reference, key == "yes", "{pattern} {body}");
                }
            }
        }
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("tests/bad.json")).unwrap();
    assert!(cases.len() > 20);
    for case in &cases {
        let problems = EventFilter::compile(&[case["pattern"].clone()]).unwrap_err();
        let [problem] = &problems[..] else { panic!("one mistake, one problem: {problems:?}") };
        let (text, wanted) = (problem.to_string(), case["problem"].as_str().unwrap());
        assert!(text.starts_with(wanted), "{text}\nwanted: {wanted}");
    }
}

#[test]
fn all_problems_of_all_patterns_are_told_at_once() {
    let patterns = [json!({ "body": { "a": "x", "b": [] } }), json!({ "topic": "y" })];
    let problems = EventFilter::compile(&patterns).unwrap_err();
    let places: Vec<_> = problems.iter().map(|one| (one.pattern, one.path.as_str())).collect();
    assert_eq!(places, [(0, "body.a"), (0, "body.b"), (1, "topic")]);
}

#[test]
fn a_filter_is_bounded() {
    let text = |patterns: &[Value]| EventFilter::compile(patterns).unwrap_err()[0].text.clone();
    assert!(text(&[]).contains("1 to 5 patterns"));
    assert!(text(&vec![json!({ "topic": ["a"] }); 6]).contains("not 6"));
    assert!(text(&[json!({ "topic": ["a".repeat(5_000)] })]).contains("at most 4096"));
    let many: Vec<u32> = (0..257).collect();
    assert!(text(&[json!({ "body": { "n": many } })]).contains("256 values"));
    assert!(text(&[json!({ "body": { "n": [{ "anything-but": many }] } })]).contains("256 values"));
    let or: Vec<Value> = (0..65).map(|n| json!({ "n": [n] })).collect();
    assert!(text(&[json!({ "body": { "$or": or } })]).contains("64 conditions"));
    assert!(EventFilter::compile(&[json!({ "body": { "$or": or[..64] } })]).is_ok());
}

#[test]
fn patterns_are_ored_and_topic_device_and_properties_are_fields() {
    let patterns = [
        json!({ "topic": [{ "prefix": "x/" }], "body": { "n": [1] } }),
        json!({ "properties": { "site": ["north"] } }),
        json!({ "device": [{ "exists": false }], "content_type": ["text/plain"] }),
    ];
    let filter = EventFilter::compile(&patterns).unwrap();
    let base = Subject { device: Some("d"), ..event(b"{\"n\": 1}") };
    let judge = |event: Subject<'_>| filter.judge(&event);
    assert_eq!(judge(base), Verdict::Unwanted);
    assert_eq!(judge(Subject { topic: "x/y", ..base }), Verdict::Wanted);
    assert_eq!(judge(Subject { topic: "x/y", payload: b"{\"n\": 2}", ..base }), Verdict::Unwanted);
    let pair = |site: &str| ("site".to_owned(), site.to_owned());
    let properties = [pair("south"), ("x".to_owned(), "north".to_owned()), pair("north")];
    assert_eq!(judge(Subject { properties: &properties, ..base }), Verdict::Wanted);
    assert_eq!(judge(Subject { properties: &properties[..2], ..base }), Verdict::Unwanted);
    let plain = Subject { content_type: Some("text/plain"), ..base };
    assert_eq!(judge(plain), Verdict::Unwanted);
    assert_eq!(judge(Subject { device: None, ..plain }), Verdict::Wanted);
}

#[test]
fn a_payload_that_is_not_json_meets_only_patterns_without_body() {
    let pattern = json!({ "topic": ["a/b"], "body": { "n": [{ "exists": false }] } });
    for payload in [
        &b"hello"[..],
        b"",
        b"{\"n\": 1",
        b"{} {}",
        b"{\"n\": 1e999}",
        b"{\"n\": \"\xff\"}",
        b"{'n': 1}",
    ] {
        assert_eq!(filter(&pattern).judge(&event(payload)), Verdict::NotJson, "{payload:?}");
        let both = [pattern.clone(), json!({ "topic": ["a/b"] })];
        let both = EventFilter::compile(&both).unwrap();
        assert_eq!(both.judge(&event(payload)), Verdict::Wanted, "{payload:?}");
        // Where the topic already says no, nobody has to ask whether it is JSON.
        let elsewhere = Subject { topic: "c", ..event(payload) };
        assert_eq!(filter(&pattern).judge(&elsewhere), Verdict::Unwanted, "{payload:?}");
    }
    assert_eq!(filter(&pattern).judge(&event(b" {} \n")), Verdict::Wanted);
}

#[test]
fn the_last_of_two_equal_keys_counts() {
    let filter = filter(&json!({ "body": { "n": [1] } }));
    assert_eq!(filter.judge(&event(b"{\"n\": 2, \"n\": 1}")), Verdict::Wanted);
    assert_eq!(filter.judge(&event(b"{\"n\": 1, \"n\": 2}")), Verdict::Unwanted);
    assert_eq!(filter.judge(&event(b"{\"\\u006e\": 1}")), Verdict::Wanted, "an escaped key");
}

#[test]
fn hostile_depth_and_size_end_in_time() {
    let named = filter(&json!({ "body": { "n": { "m": [1] } } }));
    let deep = |before: &str, n: usize| format!("{before}{}{}}}", "[".repeat(n), "]".repeat(n));
    // Where nobody looks, depth is skipped without recursion; where somebody does, it ends.
    let skipped = deep("{\"x\": ", 200_000);
    assert_eq!(named.judge(&event(skipped.as_bytes())), Verdict::Unwanted);
    let looked = deep("{\"n\": ", 200_000);
    assert_eq!(named.judge(&event(looked.as_bytes())), Verdict::NotJson);
    // Many values against many tests: the work is bounded, not the product.
    let tests: Vec<Value> = (0..150).map(|n| json!({ "wildcard": format!("*{n}*") })).collect();
    let heavy = filter(&json!({ "body": { "n": tests } }));
    let long = json!({ "n": "a".repeat(1 << 20) }).to_string();
    assert_eq!(heavy.judge(&event(long.as_bytes())), Verdict::NotJson);
    let many = json!({ "n": vec![""; 300_000] }).to_string();
    assert_eq!(heavy.judge(&event(many.as_bytes())), Verdict::NotJson);
    let some = json!({ "n": vec!["x"; 200] }).to_string();
    assert_eq!(heavy.judge(&event(some.as_bytes())), Verdict::Unwanted);
}

#[test]
fn a_miss_names_the_field_and_what_is_there() {
    let pattern = json!({ "topic": ["a/b"], "body": { "c": [{ "numeric": [">", 80] }], "d": { "e": ["x"] } } });
    let missed = misses(&pattern, &event(b"{\"c\": 75, \"d\": {}}"));
    let shown: Vec<_> = missed.iter().map(|miss| (miss.path.as_str(), &miss.found)).collect();
    assert_eq!(shown, [("body.c", &Some(json!(75))), ("body.d.e", &None)]);
    assert_eq!(missed[1].wanted, json!(["x"]));
    let apart = json!({ "body": { "all": { "k": [1], "v": [2] } } });
    let missed = misses(&apart, &event(b"{\"all\": [{\"k\": 1}, {\"v\": 2}]}"));
    assert_eq!(missed[0].path, "", "each matches, but no element as a whole: {missed:?}");
}

fn values() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(vec!["", "a", "A", "ab", "b*", "a\\"]);
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..3_i32).prop_map(Value::from),
        (-3..4_i32).prop_map(|n| Value::from(f64::from(n) / 2.0)),
        text.prop_map(Value::from),
    ]
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn bodies() -> impl Strategy<Value = Value> {
    values().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn tests() -> impl Strategy<Value = Value> {
    let text = || prop::sample::select(vec!["", "a", "AB", "b", "*"]);
    let word = prop::sample::select(vec!["prefix", "suffix", "equals-ignore-case"]);
    let word = (word, text()).prop_map(|(word, text)| json!({ word: text }));
    let wildcard = prop::sample::select(vec!["*", "a*", "*b", "*a*", "b\\*", "*\\\\"])
        .prop_map(|text| json!({ "wildcard": text }));
    let range = (-2..2_i32, 1..3_i32)
        .prop_map(|(low, more)| json!({ "numeric": [">=", low, "<", low + more] }));
    let but = prop_oneof![
        values(),
        prop::collection::vec(values(), 1..3).prop_map(Value::from),
        word.clone(),
        wildcard.clone(),
    ];
    prop_oneof![
        3 => values(),
        1 => word,
        1 => wildcard,
        1 => range,
        1 => but.prop_map(|of| json!({ "anything-but": of })),
        1 => any::<bool>().prop_map(|there| json!({ "exists": there })),
    ]
}

fn patterns() -> impl Strategy<Value = Value> {
    let leaf = prop::collection::vec(tests(), 1..3).prop_map(Value::from);
    leaf.prop_recursive(3, 16, 3, |inner| {
        let object = prop::collection::btree_map(names(), inner, 1..3)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()))
            .boxed();
        let or =
            (object.clone(), object.clone(), object.clone()).prop_map(|(mut own, one, two)| {
                own["$or"] = json!([one, two]);
                own
            });
        prop_oneof![3 => object, 1 => or]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn it_agrees_with_the_reference(
        all in prop::collection::vec(patterns(), 1..4),
        body in bodies(),
        cut in prop::option::weighted(0.1, 0..6_usize),
    ) {
        let all: Vec<Value> = all.into_iter().map(|body| json!({ "body": body })).collect();
        let filter = EventFilter::compile(&all).unwrap();
        let mut text = body.to_string();
        text.truncate(cut.unwrap_or(text.len()).min(text.len()));
        let event = event(text.as_bytes());
        let wanted = all.iter().any(|pattern| reference::matches(pattern, &event));
        prop_assert_eq!(filter.judge(&event) == Verdict::Wanted, wanted);
        for pattern in &all {
            let matches = reference::matches(pattern, &event);
            prop_assert_eq!(misses(pattern, &event).is_empty(), matches);
        }
    }

    #[test]
    fn foreign_bytes_never_panic(payload in prop::collection::vec(any::<u8>(), 0..64)) {
        let filter = filter(&json!({ "body": { "a": [1], "b": { "c": ["x"] } } }));
        let _ = filter.judge(&event(&payload));
    }
}

/// Prints what a typical filter costs: `cargo test --release -p edge-core -- --ignored --nocapture
/// cost_of_a_filter`.
#[test]
#[ignore = "a measurement"]
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a measurement reads a clock and prints"
)]
fn cost_of_a_filter() {
    let hot = filter(&json!({ "body": { "celsius": [{ "numeric": [">", 80] }] } }));
    let small = json!({ "celsius": 21.5, "site": "north", "at": 1_700_000_000 }).to_string();
    let pad: Vec<Value> = (0..400).map(|n| json!({ "n": n, "text": "some text" })).collect();
    let large = json!({ "celsius": 21.5, "pad": pad }).to_string();
    let elsewhere = filter(&json!({ "topic": ["x"], "body": { "celsius": [1] } }));
    for (what, filter, text) in [
        ("a reading", &hot, &small),
        ("a large document", &hot, &large),
        ("decided by the topic", &elsewhere, &large),
    ] {
        let rounds = 20_000_u32;
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            assert_eq!(
                std::hint::black_box(filter).judge(&event(text.as_bytes())),
                Verdict::Unwanted
            );
        }
        println!("{what}: {} bytes, {:?} an event", text.len(), start.elapsed() / rounds);
    }
}
