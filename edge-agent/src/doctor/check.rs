//! What the facts mean. No clock, no file, no socket: the same facts give the same findings.

mod agent;
mod degraded;
mod errors;
mod machine;
mod store;
#[cfg(test)]
mod tests;
mod trust;
mod wear;

use std::io;

use super::Finding;
use super::facts::{Facts, SettingsFile};

/// Judges facts. Where the settings cannot be used nothing else is known of the gateway, and what
/// is wrong with them is all there is.
#[must_use]
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![settings(&facts.settings)];
    if facts.settings.name.is_none() {
        return findings;
    }
    findings.push(machine::clock(&facts.clock, &facts.agent));
    findings.push(trust::identity(&facts.identity, facts.settings.name.as_deref()));
    if let Some(plane) = &facts.control_plane {
        findings.extend(trust::control_plane(plane));
    }
    let now_unix_s = machine::certain_unix_s(&facts.clock);
    let certificates = facts.certificates.iter();
    findings.extend(certificates.map(|each| trust::certificate(each, now_unix_s)));
    findings.push(machine::disk(&facts.disk));
    findings.extend(store::findings(facts));
    findings.push(machine::memory(facts.memory));
    findings.push(machine::space(&facts.space));
    findings.extend(machine::files(&facts.files));
    findings.extend(facts.listeners.iter().map(agent::port));
    findings.extend(agent::agent(&facts.agent, &facts.log));
    findings
}

fn settings(file: &SettingsFile) -> Finding {
    const CHECK: &str = "settings";
    if let Some(name) = &file.name {
        return Finding::ok(CHECK, format!("{}: gateway {name}", file.file));
    }
    let mend = match file.unread {
        Some(io::ErrorKind::NotFound) => {
            "name the file that the agent is started with: `--config FILE`. Where there is none yet, \
             `edge-agent check FILE` shows what the least one has"
        }
        Some(io::ErrorKind::PermissionDenied) => trust::AS_AGENT,
        _ => "mend the file; `edge-agent check FILE` reports all problems at once",
    };
    Finding::fault(CHECK, file.problems.join("; "), mend)
}

/// Characters of a text of others that are shown.
const CHARS_MAX: usize = 200;

/// The beginning of a text that others wrote, on one line.
fn clip(text: &str) -> String {
    let one_line = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(CHARS_MAX).map(one_line).collect()
}

/// A time as people tell it: its largest unit.
fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min", s / 60),
        3_600..86_400 => format!("{} h", s / 3_600),
        _ => format!("{} d", s / 86_400),
    }
}

/// Bytes as people read them.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = n;
    let mut rest = 0;
    while whole >= 1_024 && unit + 1 < UNITS.len() {
        (whole, rest) = (whole / 1_024, whole % 1_024);
        unit += 1;
    }
    if unit == 0 || whole >= 100 {
        return format!("{whole} {}", UNITS[unit]);
    }
    format!("{whole}.{} {}", rest * 10 / 1_024, UNITS[unit])
}
