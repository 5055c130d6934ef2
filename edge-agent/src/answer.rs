//! How the program answers: on standard output, with `--json` as JSON. Failures go to standard error, with `--json`
//! as an object of the form that `holm` has.

use std::ffi::OsString;
use std::process::ExitCode;

use serde_json::{Value, json};

/// The command line is wrong.
const USAGE_EXIT: u8 = 2;

pub(crate) fn print_json(value: &Value) {
    print(&format!("{value:#}\n"));
}

/// To standard output. A reader that has seen enough (`| head`) is no failure.
pub(crate) fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Tells why a command failed.
pub(crate) fn failure(error: &str) -> ExitCode {
    if wants_json(std::env::args_os()) {
        eprintln!("{}", object("failed", error, None));
    } else {
        eprintln!("edge-agent: {error}");
    }
    ExitCode::FAILURE
}

/// Help, the version, or what is wrong with the command line: clap's own words, or JSON where that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || !wants_json(std::env::args_os()) {
        error.exit();
    }
    let text = error.render().to_string();
    let problem: Vec<&str> = text.lines().take_while(|line| !line.starts_with("Usage:")).collect();
    let problem = problem.join("\n");
    let problem = problem.trim().trim_start_matches("error: ");
    eprintln!("{}", object("usage", problem, Some("`edge-agent help COMMAND` explains a command")));
    ExitCode::from(USAGE_EXIT)
}

/// What stands behind `--` is for the agent that `launch` starts.
fn wants_json(words: impl Iterator<Item = OsString>) -> bool {
    let mut own = words.take_while(|word| word != "--");
    own.any(|word| word == "--json")
}

fn object(kind: &str, problem: &str, next: Option<&str>) -> Value {
    json!({ "error": { "kind": kind, "problems": [problem], "next": next } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_asked_for_before_what_is_handed_on() {
        let asked = |line: &str| wants_json(line.split(' ').map(OsString::from));
        assert!(asked("edge-agent reset --json") && !asked("edge-agent reset --yes"));
        assert!(!asked("edge-agent launch --slots s -- run --json"));
    }
}
