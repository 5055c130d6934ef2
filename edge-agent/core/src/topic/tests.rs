//! The index and the relations between filters against a matcher written straight from the text
//! of the specification, over small alphabets in which collisions are frequent.

use proptest::prelude::*;

use super::*;

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

/// 4.7 as a recursion over lists of levels.
fn naive(filter: &[&str], topic: &[&str], first: bool) -> bool {
    match (filter, topic) {
        (["#"], rest) => !(first && rest.first().is_some_and(|level| level.starts_with('$'))),
        ([], []) => true,
        (["+", f @ ..], [level, t @ ..]) => {
            !(first && level.starts_with('$')) && naive(f, t, false)
        }
        ([name, f @ ..], [level, t @ ..]) => name == level && naive(f, t, false),
        _ => false,
    }
}

fn naive_text(filter: &str, topic: &str) -> bool {
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    naive(&filter, &topic, true)
}

fn any_topic() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "c", "$s"]);
    prop::collection::vec(level, 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |text| !text.is_empty())
}

fn any_filter() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "+", "$s"]);
    (prop::collection::vec(level, 0..5), any::<bool>())
        .prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("not empty", |text| !text.is_empty())
}

#[test]
fn names_are_checked() {
    assert_eq!(Topic::new(""), Err(TopicError::Empty));
    assert_eq!(Topic::new("a\0b"), Err(TopicError::Null));
    assert_eq!(Topic::new("a/+"), Err(TopicError::Wildcard));
    assert_eq!(Topic::new("a#"), Err(TopicError::Wildcard));
    assert_eq!(Topic::new(&"x".repeat(TOPIC_BYTES_MAX + 1)), Err(TopicError::TooLong));
    assert!(Topic::new(&"x".repeat(TOPIC_BYTES_MAX)).is_ok());
    assert_eq!(Topic::new(&"/".repeat(TOPIC_LEVELS_MAX)), Err(TopicError::TooManyLevels));
    assert!(Topic::new(&"/".repeat(TOPIC_LEVELS_MAX - 1)).is_ok());
    assert!(Topic::new("/").is_ok(), "4.7.3: a lone separator is a valid name");
    assert!(Topic::new("Accounts payable").is_ok(), "4.7.3: spaces are allowed");
}

#[test]
fn filters_are_checked() {
    for good in ["#", "+", "a/#", "+/a/#", "/+", "/", "a//b", "$SYS/#", "+/+"] {
        assert!(TopicFilter::new(good).is_ok(), "{good}");
    }
    for bad in ["a#", "a/#/b", "#/", "##"] {
        assert_eq!(TopicFilter::new(bad), Err(TopicError::HashNotLast), "{bad}");
    }
    for bad in ["a+", "+a", "++", "a/+b/c"] {
        assert_eq!(TopicFilter::new(bad), Err(TopicError::PlusInsideLevel), "{bad}");
    }
    assert_eq!(TopicFilter::new(""), Err(TopicError::Empty));
    assert_eq!(TopicFilter::new("a\0"), Err(TopicError::Null));
}

#[test]
fn shared_filters_have_a_name_and_a_filter() {
    for (text, inner) in [("$share/g/a/+", "a/+"), ("$share/g/#", "#"), ("$share/g//", "/")] {
        assert_eq!(filter(text).shared(), Some(filter(inner)), "{text}");
        assert!(filter(text).is_shared());
    }
    for bad in
        ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g/$share/h/a"]
    {
        assert_eq!(TopicFilter::new(bad), Err(TopicError::Share), "{bad}");
    }
    assert_eq!(TopicFilter::new("$share/#"), Err(TopicError::Share));
    assert_eq!(filter("$shared/g/a").shared(), None);
    assert_eq!(filter("a/$share/g").shared(), None);
}

#[test]
fn examples_of_the_specification() {
    let yes = [
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("sport/#", "sport"),
        ("#", "a/b"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("$SYS/#", "$SYS/monitor/Clients"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients"),
    ];
    let no = [
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        ("#", "$SYS/monitor/Clients"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("ACCOUNTS", "Accounts"),
    ];
    for (f, t) in yes {
        assert!(filter(f).matches(&topic(t)), "{f} {t}");
    }
    for (f, t) in no {
        assert!(!filter(f).matches(&topic(t)), "{f} {t}");
    }
}

#[test]
fn serde_keeps_the_invariant() {
    let bytes = postcard::to_stdvec("a/+").unwrap();
    assert!(postcard::from_bytes::<Topic>(&bytes).is_err());
    assert_eq!(postcard::from_bytes::<TopicFilter>(&bytes).unwrap(), filter("a/+"));
    let bytes = postcard::to_stdvec(&topic("a/b")).unwrap();
    assert_eq!(postcard::from_bytes::<Topic>(&bytes).unwrap(), topic("a/b"));
}

#[test]
fn removing_everything_leaves_nothing() {
    let mut trie = FilterTrie::new();
    let filters = ["a/b/c", "a/+/c", "a/#", "#", "+", "a"].map(filter);
    for f in &filters {
        assert!(trie.insert(f, 1));
        assert!(!trie.insert(f, 1), "a pair is in it once");
    }
    assert_eq!(trie.len(), filters.len());
    assert!(!trie.remove(&filters[0], &2), "another value");
    for f in &filters {
        assert!(trie.remove(f, &1));
        assert!(!trie.remove(f, &1));
    }
    assert!(trie.is_empty());
    assert!(trie.matches(&topic("a/b/c")).is_empty());
}

proptest! {
    #[test]
    fn a_filter_matches_as_the_naive_matcher_says(f in any_filter(), t in any_topic()) {
        prop_assert_eq!(filter(&f).matches(&topic(&t)), naive_text(&f, &t));
    }

    #[test]
    fn the_trie_finds_what_the_naive_matcher_finds(
        changes in prop::collection::vec((any_filter(), 0_u8..4, any::<bool>()), 0..30),
        topics in prop::collection::vec(any_topic(), 1..8),
    ) {
        let mut trie = FilterTrie::new();
        let mut model = std::collections::BTreeSet::new();
        for (f, value, add) in changes {
            let parsed = filter(&f);
            if add {
                prop_assert_eq!(trie.insert(&parsed, value), model.insert((f, value)));
            } else {
                prop_assert_eq!(trie.remove(&parsed, &value), model.remove(&(f, value)));
            }
        }
        prop_assert_eq!(trie.len(), model.len());
        for t in topics {
            let mut found = Vec::new();
            trie.for_each_match(&topic(&t), |value| found.push(*value));
            found.sort_unstable();
            let mut expected: Vec<u8> =
                model.iter().filter(|(f, _)| naive_text(f, &t)).map(|(_, v)| *v).collect();
            expected.sort_unstable();
            prop_assert_eq!(&found, &expected);
            expected.dedup();
            let found: Vec<u8> = trie.matches(&topic(&t)).into_iter().copied().collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn covering_means_matching_all_the_other_matches(
        a in any_filter(), b in any_filter(), topics in prop::collection::vec(any_topic(), 1..40),
    ) {
        let (wide, narrow) = (filter(&a), filter(&b));
        if wide.covers(&narrow) {
            for t in topics {
                prop_assert!(!naive_text(&b, &t) || naive_text(&a, &t), "{a} {b} {t}");
            }
        }
        prop_assert!(wide.covers(&wide));
    }

    #[test]
    fn a_topic_that_matches_both_is_an_overlap(
        a in any_filter(), b in any_filter(), t in any_topic(),
    ) {
        if naive_text(&a, &t) && naive_text(&b, &t) {
            prop_assert!(filter(&a).overlaps(&filter(&b)));
        }
        prop_assert_eq!(filter(&a).overlaps(&filter(&b)), filter(&b).overlaps(&filter(&a)));
    }

    #[test]
    fn an_overlap_has_a_witness(a in any_filter(), b in any_filter()) {
        // Where both have wildcards, the other's level is the witness; `x` stands for two pluses.
        if filter(&a).overlaps(&filter(&b)) {
            let (a_levels, b_levels): (Vec<_>, Vec<_>) =
                (a.split('/').collect(), b.split('/').collect());
            let mut levels = Vec::new();
            for i in 0..a_levels.len().max(b_levels.len()) {
                let pick = [a_levels.get(i), b_levels.get(i)]
                    .into_iter().flatten().find(|l| !matches!(**l, "+" | "#"));
                match pick {
                    Some(level) => levels.push(*level),
                    None if a_levels.get(i) == Some(&"+") || b_levels.get(i) == Some(&"+")
                        || i == 0 => levels.push("x"),
                    None => {}
                }
            }
            let t = levels.join("/");
            // A lone empty level is no topic name; every other witness is.
            if !t.is_empty() {
                prop_assert!(naive_text(&a, &t) && naive_text(&b, &t), "{a} {b} {t}");
            }
        }
    }
}
