//! MQTT topic filters as far as a manifest needs them: validity (MQTT 5, 4.7) and overlap.

use crate::limits::{FILTER_BYTES_MAX, FILTER_LEVELS_MAX};

/// Why a text is not a topic filter that a manifest may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// 4.7.3-1.
    #[error("is empty")]
    Empty,
    /// Our bound, below that of MQTT.
    #[error("is longer than {FILTER_BYTES_MAX} bytes")]
    TooLong,
    /// Our bound.
    #[error("has more than {FILTER_LEVELS_MAX} levels")]
    TooDeep,
    /// 4.7.3-2, and control characters that MQTT discourages (1.5.4).
    #[error("holds a control character")]
    Control,
    /// 4.7.1-1.
    #[error("has `#` where it may only be the whole last level")]
    MultiLevel,
    /// 4.7.1-2.
    #[error("has `+` where it may only be a whole level")]
    SingleLevel,
    /// A topic to publish to names one topic (4.7.1).
    #[error("holds a wildcard")]
    Wildcard,
    /// Reserved for the gateway itself.
    #[error(
        "begins with `$`, which is reserved: a trigger may name `$holm/v1/up/DEVICE/KIND`, and \
         `publish` may hold `$holm/v1/down/DEVICE/KIND` (command, desired), where DEVICE may be `+`"
    )]
    Reserved,
}

/// Whether messages that match a filter may have a level with this number; the first one is 0.
#[must_use]
pub fn may_have_level(filter: &str, level: u8) -> bool {
    filter.split('/').count() > usize::from(level) || filter.split('/').any(|part| part == "#")
}

/// What a function may be granted to tell a device; the time is the gateway's, and images come from
/// deployments.
const TO_DEVICE: [&str; 2] = ["command", "desired"];

/// Whether a filter names what devices tell the gateway (`$holm/v1/up/DEVICE/KIND`).
fn is_from_device(filter: &str) -> bool {
    let rest = filter.strip_prefix("$holm/v1/up/").and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(device, kind)| !device.is_empty() && !kind.is_empty() && !kind.contains('/'))
}

/// Whether a filter names what devices are told (`$holm/v1/down/DEVICE/KIND`).
fn is_to_device(filter: &str) -> bool {
    let rest = filter.strip_prefix("$holm/v1/down/").and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(device, kind)| !device.is_empty() && TO_DEVICE.contains(&kind))
}

/// Checks a filter of a publish grant: as [`check_filter`], but nobody speaks for a device.
///
/// # Errors
/// The first rule it breaks.
pub fn check_grant(filter: &str) -> Result<(), FilterError> {
    check_filter(filter)?;
    if is_from_device(filter) { Err(FilterError::Reserved) } else { Ok(()) }
}

/// Checks a filter of a trigger.
///
/// # Errors
/// The first rule it breaks.
pub fn check_filter(filter: &str) -> Result<(), FilterError> {
    if filter.is_empty() {
        return Err(FilterError::Empty);
    }
    if filter.len() > FILTER_BYTES_MAX {
        return Err(FilterError::TooLong);
    }
    if filter.chars().any(char::is_control) {
        return Err(FilterError::Control);
    }
    if filter.starts_with('$') && !is_from_device(filter) && !is_to_device(filter) {
        return Err(FilterError::Reserved);
    }
    let levels = filter.split('/').count();
    if levels > FILTER_LEVELS_MAX {
        return Err(FilterError::TooDeep);
    }
    for (index, level) in filter.split('/').enumerate() {
        if level.contains('#') && (level != "#" || index + 1 != levels) {
            return Err(FilterError::MultiLevel);
        }
        if level.contains('+') && level != "+" {
            return Err(FilterError::SingleLevel);
        }
    }
    Ok(())
}

/// Checks a topic that a manifest names to publish to.
///
/// # Errors
/// The first rule it breaks.
pub fn check_topic(topic: &str) -> Result<(), FilterError> {
    check_grant(topic)?;
    if topic.contains(['+', '#']) { Err(FilterError::Wildcard) } else { Ok(()) }
}

/// Whether some topic matches both valid filters. Where in doubt it says yes.
#[must_use]
pub fn overlap(a: &str, b: &str) -> bool {
    let reserved = |filter: &str| filter.starts_with('$');
    let wild = |filter: &str| filter.starts_with(['+', '#']);
    // A leading wildcard does not match topics that begin with `$` (4.7.2-1).
    if (reserved(a) && wild(b)) || (reserved(b) && wild(a)) {
        return false;
    }
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            // `sport/#` matches `sport` too, so a `#` meets even the end of the other (4.7.1.2).
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(x), Some(y)) if x == y => {}
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

/// Whether topic `topic` matches `filter` (MQTT 5, 4.7).
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    // A topic name is a filter without wildcards, and then overlap is matching.
    !topic.contains(['+', '#']) && overlap(filter, topic)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn validity() {
        for good in ["a", "a/b", "+", "#", "a/+/b", "a/#", "/", "a//b", "+/#", "ä/b c"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        assert_eq!(check_filter(""), Err(FilterError::Empty));
        assert_eq!(check_filter("a/#/b"), Err(FilterError::MultiLevel));
        assert_eq!(check_filter("a#"), Err(FilterError::MultiLevel));
        assert_eq!(check_filter("a/b+"), Err(FilterError::SingleLevel));
        assert_eq!(check_filter("a\0"), Err(FilterError::Control));
        assert_eq!(check_filter("$holm/v1/x"), Err(FilterError::Reserved));
        assert_eq!(check_filter(&"a".repeat(1_025)), Err(FilterError::TooLong));
        assert_eq!(check_filter(&"/".repeat(40)), Err(FilterError::TooDeep));
    }

    #[test]
    fn of_the_topics_of_the_gateway_only_those_of_devices_may_be_named() {
        for good in [
            "$holm/v1/up/press-7/response",
            "$holm/v1/up/+/+",
            "$holm/v1/up/+/#",
            "$holm/v1/down/+/command",
        ] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for bad in [
            "$holm/#",
            "$holm/v1/up/press-7",
            "$holm/v1/up//log",
            "$holm/v1/up/a/b/c",
            "$holm/v1/down/+/time",
            "$holm/v1/down/+/+",
            "$holm/v1/down/#",
            "$share/g/a",
        ] {
            assert_eq!(check_filter(bad), Err(FilterError::Reserved), "{bad}");
        }
        assert_eq!(check_filter("$holm/v1/up/a+/log"), Err(FilterError::SingleLevel));
        assert_eq!(check_grant("$holm/v1/down/+/desired"), Ok(()));
        assert_eq!(check_grant("$holm/v1/up/+/response"), Err(FilterError::Reserved));
        assert_eq!(check_topic("$holm/v1/down/+/command"), Err(FilterError::Wildcard));
        assert_eq!(check_topic("$holm/v1/up/a/log"), Err(FilterError::Reserved));
    }

    #[test]
    fn overlaps() {
        let yes = [("a/b", "a/b"), ("a/+", "+/b"), ("a/#", "a"), ("#", "x/y"), ("a/#", "a/b/+")];
        for (a, b) in yes {
            assert!(overlap(a, b) && overlap(b, a), "{a} {b}");
        }
        let no = [("a", "b"), ("a/+", "a"), ("a/b", "a/b/c"), ("+", "a/b"), ("#", "$s/x")];
        for (a, b) in no {
            assert!(!overlap(a, b) && !overlap(b, a), "{a} {b}");
        }
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "", "+"])
    }

    fn filter() -> impl Strategy<Value = String> {
        (prop::collection::vec(level(), 1..4), any::<bool>()).prop_map(|(levels, multi)| {
            let text = levels.join("/");
            if multi { text + "/#" } else { text }
        })
    }

    proptest! {
        /// Whoever finds a topic that matches both has found an overlap.
        #[test]
        fn a_common_topic_means_overlap(
            a in filter(), b in filter(),
            topic in prop::collection::vec(prop::sample::select(vec!["a", "b", ""]), 1..5),
        ) {
            let topic = topic.join("/");
            if matches(&a, &topic) && matches(&b, &topic) {
                prop_assert!(overlap(&a, &b), "{} {} {}", a, b, topic);
            }
        }

        #[test]
        fn any_text_is_judged(text in ".*") {
            let _ = check_filter(&text);
        }
    }
}
