//! Topics between a gateway and its control plane. Every topic begins with `$holm/v1/`; another
//! version of the contract is another prefix, so both can live on one broker.
//!
//! A gateway publishes to its own `up` and `presence` and subscribes to its own `down`: nothing
//! else is granted. While it enrols it has one topic in each direction.

use crate::id::is_name;

/// Prefix of all topics of this version.
pub const PREFIX: &str = "$holm/v1/";

/// A topic of the contract, read from text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyncTopic {
    /// Gateway to control plane: [`crate::wire::Up`].
    Up(String),
    /// Control plane to gateway: [`crate::wire::Down`].
    Down(String),
    /// Retained statement and last will of a gateway: [`crate::wire::Presence`].
    Presence(String),
    /// A new gateway's [`crate::enroll::EnrollRequest`].
    EnrollRequest(String),
    /// The [`crate::enroll::EnrollReply`] to it.
    EnrollReply(String),
}

impl SyncTopic {
    /// Reads a topic name; `None` when it is none of these or names no valid gateway.
    #[must_use]
    pub fn parse(topic: &str) -> Option<Self> {
        let rest = topic.strip_prefix(PREFIX)?;
        let mut levels = rest.split('/');
        let (family, gateway, kind) = (levels.next()?, levels.next()?, levels.next()?);
        if levels.next().is_some() || !is_name(gateway) {
            return None;
        }
        let gateway = gateway.to_owned();
        match (family, kind) {
            ("gw", "up") => Some(Self::Up(gateway)),
            ("gw", "down") => Some(Self::Down(gateway)),
            ("gw", "presence") => Some(Self::Presence(gateway)),
            ("enroll", "request") => Some(Self::EnrollRequest(gateway)),
            ("enroll", "reply") => Some(Self::EnrollReply(gateway)),
            _ => None,
        }
    }

    /// The gateway it belongs to.
    #[must_use]
    pub fn gateway(&self) -> &str {
        match self {
            Self::Up(gateway)
            | Self::Down(gateway)
            | Self::Presence(gateway)
            | Self::EnrollRequest(gateway)
            | Self::EnrollReply(gateway) => gateway,
        }
    }
}

/// Gateway to control plane.
#[must_use]
pub fn up(gateway: &str) -> String {
    format!("{PREFIX}gw/{gateway}/up")
}

/// Control plane to gateway.
#[must_use]
pub fn down(gateway: &str) -> String {
    format!("{PREFIX}gw/{gateway}/down")
}

/// Presence of a gateway.
#[must_use]
pub fn presence(gateway: &str) -> String {
    format!("{PREFIX}gw/{gateway}/presence")
}

/// Request of a gateway that enrols.
#[must_use]
pub fn enroll_request(gateway: &str) -> String {
    format!("{PREFIX}enroll/{gateway}/request")
}

/// Reply to a gateway that enrols.
#[must_use]
pub fn enroll_reply(gateway: &str) -> String {
    format!("{PREFIX}enroll/{gateway}/reply")
}

/// Whether an enrolled gateway may publish to `topic`.
#[must_use]
pub fn may_publish(gateway: &str, topic: &str) -> bool {
    matches!(SyncTopic::parse(topic),
        Some(SyncTopic::Up(owner) | SyncTopic::Presence(owner)) if owner == gateway)
}

/// Whether an enrolled gateway may subscribe with `filter`: only its own `down`, literally.
#[must_use]
pub fn may_subscribe(gateway: &str, filter: &str) -> bool {
    matches!(SyncTopic::parse(filter), Some(SyncTopic::Down(owner)) if owner == gateway)
}

/// Whether a gateway that is enrolling may publish to `topic`.
#[must_use]
pub fn may_publish_enrolling(gateway: &str, topic: &str) -> bool {
    matches!(SyncTopic::parse(topic),
        Some(SyncTopic::EnrollRequest(owner)) if owner == gateway)
}

/// Whether a gateway that is enrolling may subscribe with `filter`.
#[must_use]
pub fn may_subscribe_enrolling(gateway: &str, filter: &str) -> bool {
    matches!(SyncTopic::parse(filter),
        Some(SyncTopic::EnrollReply(owner)) if owner == gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_round_trip() {
        assert_eq!(SyncTopic::parse(&up("gw-a")), Some(SyncTopic::Up("gw-a".into())));
        assert_eq!(SyncTopic::parse(&down("a")), Some(SyncTopic::Down("a".into())));
        assert_eq!(SyncTopic::parse(&presence("a")), Some(SyncTopic::Presence("a".into())));
        let request = SyncTopic::parse(&enroll_request("a"));
        assert_eq!(request, Some(SyncTopic::EnrollRequest("a".into())));
        assert_eq!(SyncTopic::parse(&enroll_reply("a")).unwrap().gateway(), "a");
    }

    #[test]
    fn only_own_topics() {
        assert!(may_publish("a", &up("a")));
        assert!(may_publish("a", &presence("a")));
        assert!(!may_publish("a", &up("b")));
        assert!(!may_publish("a", &down("a")));
        assert!(!may_publish("a", &enroll_request("a")));
        assert!(may_subscribe("a", &down("a")));
        assert!(!may_subscribe("a", &down("b")));
        assert!(!may_subscribe("a", &up("a")));
        assert!(may_publish_enrolling("a", &enroll_request("a")));
        assert!(!may_publish_enrolling("a", &up("a")));
        assert!(may_subscribe_enrolling("a", &enroll_reply("a")));
        assert!(!may_subscribe_enrolling("a", &down("a")));
    }

    #[test]
    fn wildcards_and_lookalikes_are_nobodys() {
        for filter in [
            "$holm/v1/gw/+/down",
            "$holm/v1/gw/#",
            "#",
            "$holm/v1/gw/a/down/",
            "$holm/v1/gw//down",
            "$holm/v2/gw/a/down",
            "$holm/v1/gw/A/down",
            "$share/x/$holm/v1/gw/a/down",
        ] {
            assert!(!may_subscribe("a", filter), "{filter}");
        }
    }
}
