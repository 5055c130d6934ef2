//! What a function is granted.

use alloc::format;
use alloc::string::String;

use crate::effects::{Fault, FaultKind};
use crate::image::Grants;

/// Stands for every series.
const ANY_RECORD: &str = "*";
/// Longest topic, as in MQTT.
const TOPIC_BYTES_MAX: usize = 65_535;

impl Grants {
    pub(crate) fn check_publish(&self, topic: &str) -> Result<(), Fault> {
        let is_topic =
            (1..=TOPIC_BYTES_MAX).contains(&topic.len()) && !topic.contains(['+', '#', '\0']);
        if !is_topic {
            return Err(denied(format!("`{topic:.80}` cannot be published to")));
        }
        match self.publish.iter().any(|filter| matches(filter, topic)) {
            true => Ok(()),
            false => Err(denied(format!("publishing to `{topic:.80}` is not granted"))),
        }
    }

    pub(crate) fn check_record(&self, name: &str) -> Result<(), Fault> {
        match self.record.iter().any(|granted| granted == ANY_RECORD || granted == name) {
            true => Ok(()),
            false => Err(denied(format!("recording `{name:.80}` is not granted"))),
        }
    }

    pub(crate) fn check_state(&self) -> Result<(), Fault> {
        match self.state {
            true => Ok(()),
            false => Err(denied(String::from("state is not granted"))),
        }
    }

    pub(crate) fn config(&self, key: &str) -> Option<&str> {
        self.config.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

fn denied(message: String) -> Fault {
    Fault { kind: FaultKind::Denied, message }
}

/// Whether a topic filter covers a topic (MQTT 5.0, 4.7). A wildcard in front does not stand for
/// topics that begin with `$`.
fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for pattern in filter.split('/') {
        match (pattern, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (pattern, Some(level)) if pattern == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_cover_what_the_specification_says() {
        let cases = [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("+/b", "/b", true),
            ("a/+", "a/", true),
            ("#", "$holm/v1", false),
            ("+/v1", "$holm/v1", false),
            ("$holm/+", "$holm/v1", true),
        ];
        for (filter, topic, covered) in cases {
            assert_eq!(matches(filter, topic), covered, "{filter} {topic}");
        }
    }

    #[test]
    fn a_topic_with_wildcards_is_none() {
        let grants = Grants { publish: alloc::vec![String::from("#")], ..Grants::default() };
        assert!(grants.check_publish("a/b").is_ok());
        for bad in ["", "a/+", "#", "a\0b"] {
            assert_eq!(grants.check_publish(bad).unwrap_err().kind, FaultKind::Denied, "{bad:?}");
        }
    }
}
