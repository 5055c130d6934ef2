//! Which stream sends next.
//!
//! The rule: the most urgent one that has something to send, but after [`PASSED_MAX`] messages of
//! others a stream has its turn, the one that waits longest first. So urgent records wait for one
//! message at most every eight, and of ten messages every stream that waits has one.

use std::collections::BTreeMap;

use edge_core::id::StreamId;

/// Messages of others that a stream lets pass.
pub const PASSED_MAX: u32 = 7;

/// How often each stream was passed over.
#[derive(Debug, Default)]
pub struct Order {
    passed: BTreeMap<u8, u32>,
}

impl Order {
    /// One of the streams that have something to send.
    pub fn choose(&mut self, waiting: &[u8]) -> Option<u8> {
        self.passed.retain(|stream, _| waiting.contains(stream));
        let rank = |stream: &u8| StreamId(*stream).rank();
        let urgent = waiting.iter().copied().min_by_key(rank)?;
        let starved = self.passed.iter().filter(|(_, passed)| **passed >= PASSED_MAX);
        let longest = starved.max_by_key(|(_, passed)| **passed).map(|(stream, _)| *stream);
        let chosen = longest.unwrap_or(urgent);
        for stream in waiting {
            *self.passed.entry(*stream).or_default() += 1;
        }
        self.passed.insert(chosen, 0);
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgent_streams_go_first_and_none_is_starved() {
        let mut order = Order::default();
        let all = [0, 1, 2, 3];
        let chosen: Vec<_> = std::iter::from_fn(|| order.choose(&all)).take(1_000).collect();
        let share = |stream| chosen.iter().filter(|s| **s == stream).count();
        assert!(share(0) >= 600, "{}", share(0));
        for ten in chosen.windows(10) {
            assert!(all.iter().all(|stream| ten.contains(stream)), "{ten:?}");
        }
        assert_eq!(chosen[..7], [0; 7]);
    }

    #[test]
    fn last_values_come_behind_urgent_ones() {
        let mut order = Order::default();
        assert_eq!(order.choose(&[1, 2, 3]), Some(3));
        assert_eq!(order.choose(&[1, 2]), Some(1));
        assert_eq!(order.choose(&[]), None);
    }
}
