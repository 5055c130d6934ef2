//! The reference as a page and for a terminal.

use std::fmt::Write as _;

use device_protocol::limits::IMAGE_MAX;
use edge_core::pattern;
use sync_protocol::limits;

use super::{EXAMPLE, TABLES};
use crate::out::{duration_ms, size};

/// The grammar of event filters.
const FILTERS: &str = include_str!("../filters.md");

/// Several events at once.
const BATCHES: &str = include_str!("../batches.md");

/// Where ends are told.
const DESTINATIONS: &str = include_str!("../destinations.md");

/// The reference as Markdown.
#[must_use]
pub fn page() -> String {
    let mut text = String::from(
        "# holm.toml\n\n\
         What an app is: its functions, what wakes them, and what they may do. `holm build` reads \
         it, reports every mistake at once with its line, and makes the signed manifest that \
         gateways run.\n\n\
         <!-- Made from the parser's own list of keys by `HOLM_BLESS=1 cargo test -p holm`. -->\n",
    );
    for table in TABLES {
        let _ = write!(text, "\n## `{}`\n\n{}\n\n", table.title, table.about);
        text.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
        for key in table.keys {
            let default = match key.default {
                "" => "*needed*".to_owned(),
                plain @ ("none" | "the function's name, numbered") => plain.to_owned(),
                value => format!("`{value}`"),
            };
            let value = code_words(key.value);
            let about = with_limits(key.about);
            let _ = writeln!(text, "| `{}` | {value} | {default} | {about} |", key.name);
        }
    }
    text.push_str(
        "\nSizes are strings with a unit: `B`, `KiB`, `MiB`, `GiB`. Durations too: `ms`, `s`, \
         `min`, `h`, `d`. Unknown keys are mistakes.\n\n## Example\n\n```toml\n",
    );
    text.push_str(EXAMPLE);
    text.push_str("```\n\n## Filters\n\n");
    text.push_str(&with_limits(FILTERS));
    text.push_str("\n## Batches\n\n");
    text.push_str(&with_limits(BATCHES));
    text.push_str("\n## Destinations\n\n");
    text.push_str(DESTINATIONS);
    text
}

/// Quoted words as code, the rest as it is.
fn code_words(value: &str) -> String {
    let mut text = String::new();
    for (n, piece) in value.split('"').enumerate() {
        let _ = if n % 2 == 0 { write!(text, "{piece}") } else { write!(text, "`\"{piece}\"`") };
    }
    text
}

/// The reference for a terminal.
#[must_use]
pub fn terminal() -> String {
    let mut text = String::from("What stands in holm.toml, the description of an app.\n");
    for table in TABLES {
        let _ = write!(text, "\n{}\n{}\n", table.title, fold(table.about, 2));
        for key in table.keys {
            let default = match key.default {
                "" => "needed".to_owned(),
                value => format!("default: {value}"),
            };
            let _ = writeln!(text, "\n  {} = {}   ({default})", key.name, key.value);
            let _ = writeln!(text, "{}", fold(&with_limits(key.about).replace('`', ""), 6));
        }
    }
    text.push_str("\nSizes: B, KiB, MiB, GiB. Durations: ms, s, min, h, d. Example:\n\n");
    text.push_str(EXAMPLE);
    text.push_str("\nFilters\n\n");
    text.push_str(&with_limits(FILTERS));
    text.push_str("\nBatches\n\n");
    text.push_str(&with_limits(BATCHES));
    text.push_str("\nDestinations\n\n");
    text.push_str(DESTINATIONS);
    text
}

/// Breaks text into lines of at most 90 characters with an indent.
fn fold(text: &str, indent: usize) -> String {
    const WIDTH: usize = 90;
    let mut lines = vec![" ".repeat(indent)];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("invariant: lines begins with one line");
        if last.len() > indent && last.len() + word.len() > WIDTH {
            lines.push(format!("{}{word} ", " ".repeat(indent)));
        } else {
            last.push_str(word);
            last.push(' ');
        }
    }
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// Puts the numbers of [`limits`] where a text names them.
fn with_limits(text: &str) -> String {
    let sizes = |low: u64, high: u64| format!("{} to {}", size(low), size(high));
    let times = |low: u64, high: u64| format!("{} to {}", duration_ms(low), duration_ms(high));
    let upto = |high: u64| format!("at most {}", size(high));
    let values = [
        ("{memory}", sizes(limits::MEMORY_BYTES_MIN, limits::MEMORY_BYTES_MAX)),
        ("{time}", times(1, limits::TIME_MS_MAX.into())),
        ("{stack}", sizes(limits::STACK_BYTES_MIN.into(), limits::STACK_BYTES_MAX.into())),
        ("{state}", upto(limits::STATE_BYTES_MAX)),
        ("{state_write}", upto(limits::STATE_WRITE_BYTES_MAX.into())),
        ("{publishes}", format!("at most {}", limits::PUBLISHES_MAX)),
        ("{publish}", upto(limits::PUBLISH_BYTES_MAX.into())),
        ("{records}", format!("at most {}", limits::RECORDS_MAX)),
        ("{record}", upto(limits::RECORD_BYTES_MAX.into())),
        ("{log}", upto(limits::LOG_BYTES_MAX.into())),
        ("{concurrency}", format!("1 to {}", limits::CONCURRENCY_MAX)),
        ("{pause_after}", format!("1 to {}", limits::PAUSE_AFTER_MAX)),
        ("{pause}", times(limits::PAUSE_MS_LEAST, limits::PAUSE_MS_MOST)),
        ("{retries}", format!("at most {}", limits::RETRIES_MAX)),
        ("{backoff}", duration_ms(limits::BACKOFF_MS_MAX)),
        ("{age}", times(limits::AGE_MS_MIN, limits::AGE_MS_MAX)),
        ("{patterns}", pattern::PATTERNS_MAX.to_string()),
        ("{pattern_bytes}", pattern::PATTERN_BYTES_MAX.to_string()),
        ("{depth}", pattern::DEPTH_MAX.to_string()),
        ("{tests}", pattern::TESTS_MAX.to_string()),
        ("{batch_size}", format!("1 to {}", limits::BATCH_SIZE_MAX)),
        ("{batch_window}", duration_ms(limits::BATCH_WINDOW_MS_MAX.into())),
        ("{batch_bytes}", sizes(limits::BATCH_BYTES_MIN.into(), limits::BATCH_BYTES_MAX.into())),
        ("{image}", upto(IMAGE_MAX.into())),
        ("{device_patterns}", limits::FIRMWARE_PATTERNS_MAX.to_string()),
        ("{program}", upto(limits::ARTIFACT_BYTES_MAX)),
        ("{agent_targets}", limits::AGENT_TARGETS_MAX.to_string()),
        ("{system}", upto(limits::SYSTEM_BYTES_MAX)),
        ("{system_boards}", limits::SYSTEM_BOARDS_MAX.to_string()),
        ("{bundle}", upto(limits::BUNDLE_BYTES_MAX)),
        ("{ttl}", times(limits::TTL_MS_MIN, limits::TTL_MS_MAX)),
    ];
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}
