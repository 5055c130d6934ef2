//! Problems of the agent programs of a manifest.

use super::Findings;
use crate::limits::{AGENT_TARGETS_MAX, ARTIFACT_BYTES_MAX, LABEL_BYTES_MAX};
use crate::manifest::agent::{Agent, is_target};

pub(super) fn all(agent: &Agent, found: &mut Findings) {
    const WANTED: &str = "must be three numbers below 65536 such as 1.4.0";
    let is_plain = |text: &str, parsed: Option<edge_core::boot::Version>| {
        parsed.is_some_and(|version| version.to_string() == text)
    };
    if !is_plain(&agent.version, agent.version()) {
        found.add("agent.version", WANTED);
    }
    if let Some(floor) = &agent.floor {
        if !is_plain(floor, agent.floor()) {
            found.add("agent.floor", WANTED);
        } else if agent.floor() > agent.version() {
            let text = format!("{floor} is above the version {}", agent.version);
            found.add("agent.floor", text + ": the agent would refuse itself");
        }
    }
    found.range("agent.programs", agent.programs.len(), 1..=AGENT_TARGETS_MAX);
    for (target, program) in agent.programs.iter().take(AGENT_TARGETS_MAX) {
        let path = format!("agent.programs.{target}");
        if target.len() > LABEL_BYTES_MAX || !is_target(target) {
            found.add(&path, "must be a target triple such as aarch64-unknown-linux-musl");
        }
        found.range(&format!("{path}.size"), program.size, 1..=ARTIFACT_BYTES_MAX);
    }
}
