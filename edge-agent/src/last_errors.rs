//! The last warnings and errors of the log, kept in memory for `edge-agent status --json` and the
//! doctor: where the log goes to a journal that nobody reads, or to a memory that is soon full of
//! other lines.
//!
//! # Invariants
//! - At most [`LINES_MAX`] lines are kept, each of at most 1 KiB.
//! - A new line pushes out the oldest one of the kind that has most, so each kind keeps its last
//!   five: what a function or a device says does not push out what the agent says of itself, and
//!   warnings do not push out errors.
//! - What is shown has passed [`redact`] before it was cut: half a secret is not known as one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::layer::{Context, Layer};

use crate::doctor::redact;
use crate::system_clock;

/// Lines that are kept.
pub const LINES_MAX: usize = 20;
/// Bytes of a line that are kept; what is behind them is cut off as it is written.
const KEPT_BYTES_MAX: usize = 1_024;
/// Bytes of a line that are shown.
const SHOWN_BYTES_MAX: usize = 512;
/// Ends a line that is cut.
const CUT: &str = "...";
/// Warning or error, of the agent itself or of others.
const KINDS: usize = 4;

/// The last warnings and errors; clones share them.
#[derive(Clone, Debug, Default)]
pub struct LastErrors(Arc<Mutex<Lines>>);

impl LastErrors {
    /// The lines for the status, the newest first.
    #[must_use]
    pub fn json(&self) -> Value {
        // Whoever logs must not wait for the redaction.
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        lines.json(Instant::now())
    }

    fn push(&self, line: Line) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

impl<S: Subscriber> Layer<S> for LastErrors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN {
            return;
        }
        let mut text = Bounded(String::new());
        // Its only error is that there was no more room.
        let _ = DefaultFields::new().format_fields(Writer::new(&mut text), event);
        self.push(Line {
            is_error: *metadata.level() == Level::ERROR,
            target: metadata.target(),
            at: Instant::now(),
            unix_ms: system_clock::unix_ms(),
            text: text.0,
        });
    }
}

/// A line as it was logged.
#[derive(Clone, Debug)]
struct Line {
    is_error: bool,
    target: &'static str,
    at: Instant,
    unix_ms: u64,
    text: String,
}

impl Line {
    fn kind(&self) -> usize {
        let is_others = matches!(self.target, "function" | "device");
        usize::from(self.is_error) + 2 * usize::from(is_others)
    }

    fn json(&self, now: Instant) -> Value {
        let age = now.saturating_duration_since(self.at).as_millis();
        json!({
            "level": if self.is_error { "error" } else { "warn" },
            "target": self.target,
            "unix_ms": self.unix_ms,
            "age_ms": u64::try_from(age).unwrap_or(u64::MAX),
            "text": shown(&self.text),
        })
    }
}

/// A text without secrets, as far as it is shown.
fn shown(text: &str) -> String {
    // A cut takes whole characters.
    let is_whole = text.len() + 3 < KEPT_BYTES_MAX;
    // Of a secret that is cut nothing may be left: what stands before it may become shorter, and it be shown.
    let text = if is_whole { text } else { text.rsplit_once(' ').map_or("", |(before, _)| before) };
    let text = redact::text(text);
    if is_whole && text.len() <= SHOWN_BYTES_MAX {
        return text;
    }
    let room = text.floor_char_boundary(SHOWN_BYTES_MAX - CUT.len());
    [&text[..room], CUT].concat()
}

/// Lines from the oldest to the newest.
#[derive(Clone, Debug, Default)]
struct Lines(VecDeque<Line>);

impl Lines {
    fn push(&mut self, line: Line) {
        self.0.push_back(line);
        if self.0.len() <= LINES_MAX {
            return;
        }
        let mut counts = [0_usize; KINDS];
        for line in &self.0 {
            counts[line.kind()] += 1;
        }
        let most = counts.into_iter().max();
        let oldest = self.0.iter().position(|line| Some(counts[line.kind()]) == most);
        self.0.remove(oldest.expect("invariant: a line of the kind that has most"));
    }

    fn json(&self, now: Instant) -> Value {
        self.0.iter().rev().map(|line| line.json(now)).collect()
    }
}

/// Takes a text up to the bound of a kept line, and refuses more.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = KEPT_BYTES_MAX - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const OWN: &str = "edge_agent::agent::start";

    fn line(is_error: bool, target: &'static str, at: Instant, text: &str) -> Line {
        Line { is_error, target, at, unix_ms: 7, text: text.to_owned() }
    }

    fn texts(shown: &Value) -> Vec<&str> {
        shown.as_array().unwrap().iter().map(|row| row["text"].as_str().unwrap()).collect()
    }

    #[test]
    fn warnings_and_errors_are_kept_as_they_stand_in_the_log() {
        let errors = LastErrors::default();
        let log = tracing_subscriber::registry().with(errors.clone());
        tracing::subscriber::with_default(log, || {
            tracing::info!("no news");
            tracing::warn!(target: "device", device = "press-7", why = "too long", "message refused");
            tracing::error!(error = %"EIO", "the store failed");
        });
        let shown = errors.json();
        assert_eq!(
            texts(&shown),
            ["the store failed error=EIO", "message refused device=\"press-7\" why=\"too long\"",]
        );
        assert_eq!((&shown[0]["level"], &shown[1]["level"]), (&json!("error"), &json!("warn")));
        assert_eq!(shown[1]["target"], "device");
        assert!(shown[0]["unix_ms"].as_u64() > Some(1_700_000_000_000), "{shown}");
        assert!(shown[0]["age_ms"].as_u64() < Some(60_000), "{shown}");
    }

    #[test]
    fn an_age_runs_on_the_monotonic_clock() {
        let begun = Instant::now();
        let mut lines = Lines::default();
        lines.push(line(true, OWN, begun, "x"));
        let shown = lines.json(begun + Duration::from_secs(90));
        assert_eq!((&shown[0]["age_ms"], &shown[0]["unix_ms"]), (&json!(90_000), &json!(7)));
        assert_eq!(Lines::default().json(begun), json!([]));
    }

    #[test]
    fn a_flood_of_one_kind_leaves_the_others() {
        let at = Instant::now();
        let mut lines = Lines::default();
        lines.push(line(true, OWN, at, "the store failed"));
        for n in 0..100 {
            lines.push(line(true, "device", at, &format!("device {n}")));
        }
        for n in 0..100 {
            lines.push(line(false, "function", at, &format!("function {n}")));
        }
        let shown = lines.json(at);
        let shown = texts(&shown);
        assert_eq!(shown.len(), LINES_MAX);
        assert_eq!((shown[0], shown[LINES_MAX - 1]), ("function 99", "the store failed"));
        let of_devices: Vec<_> = shown.iter().filter(|text| text.starts_with("device")).collect();
        assert_eq!((of_devices.len(), *of_devices[0]), (9, "device 99"));
    }

    #[test]
    fn what_is_shown_has_no_secret_though_it_is_cut() {
        let hex = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        assert_eq!(shown("login failed password=hunter2"), "login failed password=<redacted>");
        assert_eq!(shown(&format!("token {hex} refused")), "token <redacted> refused");
        // Cut where they are shown, they would look like words.
        for secret in [hex, "http://user:hunter2@proxy.example"] {
            let text = format!("{} {secret}", "word ".repeat(100));
            let shown = shown(&text);
            assert!(!shown.contains("9f86d0") && !shown.contains("hunter2"), "{shown}");
        }
        // Begun in what is shown, and cut at the end of what is kept.
        let mut kept = Bounded(String::new());
        let _ = fmt::Write::write_str(&mut kept, &format!("key {}", hex.repeat(40)));
        assert_eq!(shown(&kept.0), "key...");
        // ... and moved into what is shown by a longer one before it.
        let mut kept = Bounded(String::new());
        let line = format!("{} {hex}", hex.repeat(15) + &"word ".repeat(9));
        let _ = fmt::Write::write_str(&mut kept, &line);
        assert!(
            kept.0.len() < line.len() && !shown(&kept.0).contains("9f86d0"),
            "{}",
            shown(&kept.0)
        );
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(
            logged in proptest::collection::vec((any::<bool>(), 0..3_usize, "(é|[a-z ]|\n){0,40}", 0..80_usize), 0..60),
        ) {
            let targets = [OWN, "function", "device"];
            let (at, mut lines) = (Instant::now(), Lines::default());
            for (is_error, target, piece, times) in &logged {
                let mut text = Bounded(String::new());
                let whole = piece.repeat(*times);
                let fits = fmt::Write::write_str(&mut text, &whole).is_ok();
                prop_assert!(text.0.len() <= KEPT_BYTES_MAX && whole.starts_with(&text.0));
                prop_assert!(!fits || text.0 == whole);
                lines.push(line(*is_error, targets[*target], at, &text.0));
            }
            prop_assert_eq!(lines.0.len(), logged.len().min(LINES_MAX));
            for kind in 0..KINDS {
                let of = |(is_error, target, ..): &&(bool, usize, String, usize)| {
                    line(*is_error, targets[*target], at, "").kind() == kind
                };
                let (all, kept) = (
                    logged.iter().filter(of).count(),
                    lines.0.iter().filter(|line| line.kind() == kind).count(),
                );
                prop_assert!(kept >= all.min(LINES_MAX / KINDS), "{kept} of {all}");
            }
            for row in lines.json(at).as_array().unwrap() {
                prop_assert!(row["text"].as_str().unwrap().len() <= SHOWN_BYTES_MAX);
            }
        }
    }
}
