//! Log lines for whoever follows them at the control plane.
//!
//! # Invariants
//! - Nothing is kept while nobody follows.
//! - What waits fits into one message; what comes beyond is dropped and counted, and the count is
//!   told. One message every [`EVERY`] at most: a chatty function does not fill the uplink.

use edge_core::time::Millis;
use sync_protocol::limits::{LABEL_BYTES_MAX, LOG_LINES_MAX, TEXT_BYTES_MAX};
use sync_protocol::wire::{LogLine, Logs};

/// Shortest time between two messages.
const EVERY: Millis = Millis(200);
/// Bytes of texts and sources in one message.
const BYTES_MAX: usize = 128 << 10;

/// Lines on their way.
#[derive(Debug, Default)]
pub(super) struct Feed {
    followed_until: Millis,
    next_at: Millis,
    lines: Vec<LogLine>,
    bytes: usize,
    dropped: u64,
}

impl Feed {
    /// Somebody follows for so long.
    pub(super) fn follow(&mut self, until: Millis) {
        self.followed_until = until;
    }

    /// Whether lines are wanted.
    #[must_use]
    pub(super) fn is_followed(&self, now: Millis) -> bool {
        now <= self.followed_until
    }

    /// When a message is to be taken.
    #[must_use]
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        (!self.is_empty()).then_some(self.next_at)
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    /// Adds a line, cut to what a message may hold.
    pub(super) fn push(&mut self, mut line: LogLine, now: Millis) {
        if !self.is_followed(now) {
            return;
        }
        cut(&mut line.text, TEXT_BYTES_MAX);
        cut(&mut line.source, LABEL_BYTES_MAX);
        let bytes = line.text.len() + line.source.len();
        if self.lines.len() >= LOG_LINES_MAX || self.bytes + bytes > BYTES_MAX {
            self.dropped += 1;
            return;
        }
        self.bytes += bytes;
        self.lines.push(line);
    }

    /// The next message, when it is time and somebody follows.
    pub(super) fn take(&mut self, now: Millis) -> Option<Logs> {
        if !self.is_followed(now) {
            self.lines.clear();
            (self.bytes, self.dropped) = (0, 0);
        }
        if self.is_empty() || now < self.next_at {
            return None;
        }
        self.next_at = now + EVERY;
        self.bytes = 0;
        let lines = std::mem::take(&mut self.lines);
        Some(Logs { lines, dropped: std::mem::take(&mut self.dropped) })
    }
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}

#[cfg(test)]
mod tests {
    use sync_protocol::wire::{LogLevel, Message as _, Up};

    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine {
            unix_ms: 1,
            level: LogLevel::Info,
            source: "app/function".to_owned(),
            event: None,
            text: text.to_owned(),
        }
    }

    #[test]
    fn nothing_is_kept_while_nobody_follows() {
        let mut feed = Feed::default();
        feed.push(line("early"), Millis(1));
        assert_eq!((feed.take(Millis(1)), feed.next_deadline()), (None, None));
        feed.follow(Millis(1_000));
        feed.push(line("now"), Millis(2));
        assert_eq!(feed.take(Millis(2)).map(|logs| logs.lines.len()), Some(1));
        feed.push(line("too late"), Millis(900));
        assert_eq!(feed.take(Millis(1_001)), None);
        assert_eq!(feed.next_deadline(), None);
    }

    #[test]
    fn a_message_has_its_bounds_and_tells_what_was_dropped() {
        for (text, lines) in [("x".to_owned(), 500), ("\u{e4}".repeat(3_000), 31)] {
            let mut feed = Feed::default();
            feed.follow(Millis(10_000));
            for _ in 0..2_000 {
                feed.push(line(&text), Millis(1_000));
            }
            let logs = feed.take(Millis(1_000)).unwrap();
            assert_eq!((logs.lines.len(), logs.dropped), (lines, 2_000 - lines as u64));
            Up::Logs(logs).encode().unwrap();
            feed.push(line("next"), Millis(1_001));
            assert_eq!(feed.take(Millis(1_001)), None, "not twice in {EVERY:?}");
            assert_eq!(feed.next_deadline(), Some(Millis(1_200)));
            assert_eq!(feed.take(Millis(1_200)).unwrap().lines[0].text, "next");
        }
    }
}
