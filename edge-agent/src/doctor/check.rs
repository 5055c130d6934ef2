//! What the facts mean. No clock, no file, no socket: the same facts give the same findings.

mod agent;
mod machine;
#[cfg(test)]
mod tests;
mod trust;

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
    findings.push(machine::store(&facts.sizes));
    findings.extend(facts.left_over.as_deref().map(machine::left_over));
    findings.push(machine::memory(facts.memory));
    findings.push(machine::space(&facts.space));
    findings.extend(machine::files(&facts.files));
    findings.extend(facts.listeners.iter().map(agent::port));
    findings.extend(agent::agent(&facts.agent));
    findings
}

fn settings(file: &SettingsFile) -> Finding {
    match &file.name {
        Some(name) => Finding::ok("settings", format!("{}: gateway {name}", file.file)),
        None => Finding::fault(
            "settings",
            file.problems.join("; "),
            "mend the file; `edge-agent check FILE` reports all problems at once",
        ),
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
