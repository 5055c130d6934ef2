//! What the command prints.
//!
//! # Invariants
//! - The answer goes to standard output; progress, notes and failures go to standard error.
//! - With `--json` the answer is JSON: one document, or one a line where it streams.
//! - Colour only where the stream is a terminal and `NO_COLOR` is not set.
//! - Text from the network is printed without its control characters: a gateway's log line must
//!   not drive the operator's terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::failure::{Done, Failure};

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    json: bool,
    colour_out: bool,
    colour_err: bool,
    quiet: bool,
}

/// A colour of the small palette.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Good.
    Green,
    /// Needs a look.
    Yellow,
    /// Bad.
    Red,
    /// Less important.
    Dim,
    /// Headings.
    Bold,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

impl Out {
    /// Decides colours from the terminal and the environment.
    #[must_use]
    pub fn new(json: bool, quiet: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            json,
            colour_out: wanted && io::stdout().is_terminal(),
            colour_err: wanted && io::stderr().is_terminal(),
            quiet,
        }
    }

    /// Whether `--json` was given.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether progress is not shown: with `--quiet`, and with `--json`.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.quiet || self.json
    }

    /// Whether standard output is a terminal that can be drawn on.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.colour_out
    }

    /// Prints the answer: `value` with `--json`, else what `human` writes.
    ///
    /// # Errors
    /// Standard output is gone (a closed pipe ends the process quietly).
    pub fn answer<T: Serialize>(&self, value: &T, human: impl FnOnce(&mut String, &Self)) -> Done {
        if self.json {
            let text = serde_json::to_string_pretty(value)
                .map_err(|err| Failure::failed(format!("cannot write the answer: {err}")))?;
            return print(&format!("{text}\n"));
        }
        let mut text = String::new();
        human(&mut text, self);
        print(&text)
    }

    /// Prints bytes as they are, for a file or a pipe.
    ///
    /// # Errors
    /// As [`Out::answer`].
    pub fn raw(&self, bytes: &[u8]) -> Done {
        print_bytes(bytes)?;
        let terminal = io::stdout().is_terminal() && !bytes.ends_with(b"\n");
        if terminal { print("\n") } else { Ok(()) }
    }

    /// Prints one item of a stream: a line of JSON, or the human line.
    ///
    /// # Errors
    /// As [`Out::answer`].
    pub fn item<T: Serialize>(&self, value: &T, human: impl FnOnce(&Self) -> String) -> Done {
        let line = if self.json {
            serde_json::to_string(value)
                .map_err(|err| Failure::failed(format!("cannot write the answer: {err}")))?
        } else {
            human(self)
        };
        print(&format!("{line}\n"))
    }

    /// Empties the terminal before the next page of something that is watched.
    pub fn clear(&self) {
        if self.colour_out {
            let _ = write!(io::stdout(), "\x1b[2J\x1b[H");
        }
    }

    /// A step of long work, on standard error.
    pub fn progress(&self, verb: &str, what: &str) {
        if self.is_quiet() {
            return;
        }
        let verb = painted(&format!("{verb:>12}"), Paint::Green, self.colour_err);
        say(&format!("{verb} {what}"));
    }

    /// Something worth knowing, on standard error.
    pub fn note(&self, text: &str) {
        if !self.is_quiet() {
            say(&format!("{} {text}", painted("note:", Paint::Yellow, self.colour_err)));
        }
    }

    /// A failure, on standard error.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            say(&failure.to_json().to_string());
            return;
        }
        for problem in &failure.problems {
            let label = painted("error:", Paint::Red, self.colour_err);
            say(&format!("{label} {}", clean_lines(problem)));
        }
        if let Some(next) = &failure.next {
            say(&format!("{} {next}", painted(" next:", Paint::Bold, self.colour_err)));
        }
    }

    /// Text in a colour, where standard output shows colours.
    #[must_use]
    pub fn paint(&self, text: &str, paint: Paint) -> String {
        painted(text, paint, self.colour_out)
    }
}

fn painted(text: &str, paint: Paint, colour: bool) -> String {
    if colour { format!("\x1b[{}m{text}\x1b[0m", paint.code()) } else { text.to_owned() }
}

fn say(line: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(io::stderr(), "{line}");
}

fn print(text: &str) -> Done {
    print_bytes(text.as_bytes())
}

fn print_bytes(bytes: &[u8]) -> Done {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        // `holm logs | head`: the reader has seen enough.
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(err) => Err(Failure::failed(format!("cannot write to standard output: {err}"))),
    }
}

/// Rows in columns as wide as their widest cell; the first row is the heading.
#[must_use]
pub fn table(out: &Out, rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (n, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{:width$}  ", clean(cell));
        }
        let line = line.trim_end();
        let line = if n == 0 { out.paint(line, Paint::Bold) } else { line.to_owned() };
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Text with its control characters replaced.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(text.chars().map(|c| if c.is_control() { '\u{b7}' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// As [`clean`], but lines stay lines.
#[must_use]
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// A number of bytes for people: `16 MiB`, `1.5 KiB`, `87 B`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let (mut whole, mut rest, mut unit) = (bytes, 0, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        (whole, rest, unit) = (whole / 1024, whole % 1024 * 10 / 1024, next);
    }
    if rest == 0 { format!("{whole} {unit}") } else { format!("{whole}.{rest} {unit}") }
}

/// A duration for people: `1.20 ms`, `3.5 s`, `2 min 5 s`, `3 h 10 min`.
#[must_use]
pub fn duration_us(us: u64) -> String {
    let (ms, s) = (us / 1_000, us / 1_000_000);
    match s {
        0 if ms < 10 => format!("{ms}.{:02} ms", us % 1_000 / 10),
        0 => format!("{ms} ms"),
        1..=59 => format!("{s}.{} s", ms % 1_000 / 100),
        60..=3_599 => format!("{} min {} s", s / 60, s % 60),
        3_600..=86_399 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// As [`duration_us`], from milliseconds, without zero parts: `3 s`, `6 h`, `14 d`.
#[must_use]
pub fn duration_ms(ms: u64) -> String {
    for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)] {
        if ms >= factor && ms.is_multiple_of(factor) {
            return format!("{} {unit}", ms / factor);
        }
    }
    if ms < 1_000 { format!("{ms} ms") } else { duration_us(ms.saturating_mul(1_000)) }
}

/// Payload bytes for people: text where it is text, else a count and the first bytes.
#[must_use]
pub fn payload(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 16;
    match std::str::from_utf8(bytes) {
        Ok(text) => clean(text).into_owned(),
        Err(_) => {
            let head: String =
                bytes.iter().take(SHOWN_MAX).map(|byte| format!("{byte:02x}")).collect();
            let more = if bytes.len() > SHOWN_MAX { ".." } else { "" };
            format!("<{} bytes: {head}{more}>", bytes.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_short() {
        assert_eq!(size(87), "87 B");
        assert_eq!(size(16 << 20), "16 MiB");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(u64::MAX), "16777215.9 TiB");
        assert_eq!(duration_us(1_203), "1.20 ms");
        assert_eq!(duration_us(45_000), "45 ms");
        assert_eq!(duration_us(3_500_000), "3.5 s");
        assert_eq!(duration_us(125_000_000), "2 min 5 s");
    }

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\n"), "a\u{b7}[2Jb\u{b7}");
        assert_eq!(payload(&[0xff, 1]), "<2 bytes: ff01>");
    }

    #[test]
    fn tables_align() {
        let out = Out { json: false, colour_out: false, colour_err: false, quiet: false };
        let rows = vec![vec!["A".into(), "B".into()], vec!["long".into(), "x".into()]];
        assert_eq!(table(&out, &rows), "A     B\nlong  x\n");
    }
}
