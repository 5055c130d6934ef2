//! What is known of the link to the control plane.

use std::collections::BTreeMap;

use edge_core::time::Millis;
use serde_json::{Value, json};

/// State of the link.
#[derive(Clone, Debug, Default)]
pub(super) struct LinkState {
    /// Whether records flow.
    pub up: bool,
    /// Why not.
    pub reason: String,
    /// The system clock's difference from the control plane's, where it is large.
    pub clock_error_ms: Option<i64>,
    last_contact: Option<Millis>,
    /// Time that the control plane vouched for (milliseconds since 1970), and when it did.
    vouched: Option<(u64, Millis)>,
    /// By stream: the control plane shows a gap up to here, which it had receipted.
    gaps: BTreeMap<u8, u64>,
}

impl LinkState {
    /// The link came up or went down.
    pub(super) fn changed(&mut self, up: bool, reason: String, now: Millis) {
        if up || self.up {
            self.last_contact = Some(now);
        }
        self.up = up;
        self.reason = reason;
    }

    /// The control plane vouches for this time.
    pub(super) fn vouched(&mut self, unix_ms: u64, now: Millis) {
        self.vouched = Some((unix_ms, now));
    }

    /// What time it is by the control plane, in seconds since 1970; `None` before it said.
    #[must_use]
    pub(super) fn vouched_unix_s(&self, now: Millis) -> Option<u64> {
        self.vouched.map(|(unix_ms, at)| unix_ms.saturating_add(now.since(at).0) / 1_000)
    }

    /// The control plane was heard.
    pub(super) fn contact(&mut self, now: Millis) {
        self.last_contact = Some(now);
    }

    /// Whether the control plane was not reached for so long. A link that is away for a moment is none.
    #[must_use]
    pub(super) fn is_away(&self, longer_than: Millis, now: Millis) -> bool {
        !self.up && self.last_contact.is_none_or(|at| now.since(at) > longer_than)
    }

    /// The control plane has lost what it had receipted: a copy of it was put back.
    pub(super) fn gap(&mut self, stream: u8, seq: u64) {
        tracing::warn!(
            stream,
            seq,
            "the control plane has lost records that it had receipted up to here: was an old copy \
             of it restored?"
        );
        self.gaps.insert(stream, seq);
    }

    /// For `status`.
    #[must_use]
    pub(super) fn json(&self, now: Millis, enrolled: bool) -> Value {
        let gap = |(stream, seq): (&u8, &u64)| json!({ "stream": stream, "to": seq });
        let contact = if self.up { Some(now) } else { self.last_contact };
        json!({
            "enrolled": enrolled,
            "up": self.up,
            "reason": self.reason,
            "last_contact_age_ms": contact.map(|at| now.since(at).0),
            "gaps": self.gaps.iter().map(gap).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_away_when_it_was_so_for_long() {
        let mut link = LinkState::default();
        let is_away = |link: &LinkState, now| link.is_away(Millis(1_000), Millis(now));
        assert!(is_away(&link, 0), "it was never there");
        link.changed(true, String::new(), Millis(10));
        assert!(!is_away(&link, 99_000));
        link.changed(false, "cut".to_owned(), Millis(100_000));
        assert!(!is_away(&link, 101_000) && is_away(&link, 101_001));
    }
}
