//! `holm logs`: lines of a gateway and its functions, as they come.

use std::io::{BufRead as _, BufReader};

use serde_json::Value;

use crate::args::{Global, Logs};
use crate::failure::{Done, Exit, Failure};
use crate::fleet;
use crate::http::{Api, escaped};
use crate::out::{Out, Paint, clean};

/// Longest line that is taken from the control plane.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// `holm logs`
///
/// # Errors
/// There is no such gateway, or the connection breaks.
pub fn run(args: &Logs, global: &Global, out: &Out) -> Done {
    let api = fleet::api(global)?;
    let gateway: Value = api.get(&format!("/v1/gateways/{}", escaped(&args.gateway)))?;
    if gateway["online"] == false {
        out.note(&format!("{} is offline: its lines come when it is back", args.gateway));
    }
    follow(&api, args, out)
}

/// Prints lines until there are enough or the control plane ends.
///
/// # Errors
/// As [`run`].
pub fn follow(api: &Api, args: &Logs, out: &Out) -> Done {
    let stream = api.stream(&format!("/v1/gateways/{}/logs", escaped(&args.gateway)))?;
    out.progress("Following", &format!("{}; Ctrl-C ends it", args.gateway));
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    let mut count = 0;
    while args.count.is_none_or(|wanted| count < wanted) {
        line.clear();
        let read = std::io::Read::take(&mut lines, LINE_BYTES_MAX).read_until(b'\n', &mut line);
        match read {
            Ok(0) => {
                let next = "follow again when it is back";
                let problem = "the control plane ended the connection";
                return Err(Failure::new(Exit::Unreachable, problem).next(next));
            }
            Ok(_) => {}
            Err(error) => {
                let problem = format!("the connection to the control plane broke: {error}");
                let next = "lines meanwhile are in the gateway's own log; follow again";
                return Err(Failure::new(Exit::Unreachable, problem).next(next));
            }
        }
        let Ok(value) = serde_json::from_slice::<Value>(&line) else { continue };
        if wanted(&value, args) {
            out.item(&value, |out| human(&value, out))?;
            count += 1;
        }
    }
    Ok(())
}

fn wanted(line: &Value, args: &Logs) -> bool {
    match (&args.function, line["source"].as_str()) {
        (Some(function), Some(source)) => function == source,
        _ => true,
    }
}

fn human(line: &Value, out: &Out) -> String {
    for key in ["dropped_lines", "missed_messages"] {
        if let Some(count) = line[key].as_u64() {
            let word = key.replace('_', " ");
            return out.paint(&format!("... {count} {word}"), Paint::Yellow);
        }
    }
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    let level = text("level").to_lowercase();
    let paint = match level.as_str() {
        "error" | "panic" => Some(Paint::Red),
        "warn" => Some(Paint::Yellow),
        "debug" | "trace" => Some(Paint::Dim),
        _ => None,
    };
    let level = format!("{level:5}");
    let level = paint.map_or_else(|| level.clone(), |paint| out.paint(&level, paint));
    let time = time_of_day(line["time_ms"].as_u64().unwrap_or_default());
    let source = if text("source").is_empty() { "gateway" } else { text("source") };
    format!("{time} {level} {} {}", clean(source), clean(text("text")))
}

/// `HH:MM:SS.mmm` in UTC.
fn time_of_day(unix_ms: u64) -> String {
    let (s, ms) = (unix_ms / 1_000, unix_ms % 1_000);
    format!("{:02}:{:02}:{:02}.{ms:03}", s / 3_600 % 24, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_short_and_harmless() {
        let line = serde_json::json!({
            "time_ms": 1_790_000_000_123_u64, "level": "Warn", "source": "a/b",
            "text": "hot\u{1b}[2J",
        });
        let out = Out::new(false, false);
        assert_eq!(human(&line, &out), "14:13:20.123 warn  a/b hot\u{b7}[2J");
        let own = serde_json::json!({ "time_ms": 0, "level": "info", "source": "", "text": "up" });
        assert_eq!(human(&own, &out), "00:00:00.000 info  gateway up");
    }
}
