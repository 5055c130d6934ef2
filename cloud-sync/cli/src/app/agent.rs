//! `[agent]`: programs of the gateways themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use edge_agent::toml_reader::{Problems, Section};
use sync_protocol::limits;
use sync_protocol::manifest::{self, agent};

use super::values::needed;
use super::{Agent, read};
use crate::failure::{Done, Failure};

/// Reads it; `None` where the file has none.
pub(super) fn read(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Agent> {
    let mut section = root.section("agent", problems)?;
    let version = needed(&mut section, "version", problems);
    let version = version.and_then(|at| read::read_version("version", &at, problems));
    let floor_at = section.string("floor", problems);
    let floor = floor_at.as_ref().and_then(|at| read::read_version("floor", at, problems));
    if let (Some(floor), Some(version), Some(at)) = (floor, version, &floor_at)
        && floor > version
    {
        problems.add(&at.span, format!("`floor` {floor} is above `version` {version}"));
    }
    let force = section.boolean("force", problems).unwrap_or(false);
    let span = section.span_of("programs");
    let programs = section.texts("programs", problems);
    section.finish(problems);
    if programs.is_empty() {
        problems.add(&span, "the agent needs `programs = { \"TARGET-TRIPLE\" = \"FILE\" }`");
    }
    let max = limits::AGENT_TARGETS_MAX;
    if programs.len() > max {
        problems.add(&span, format!("an app has agent programs for at most {max} targets"));
    }
    for target in programs.keys().filter(|target| !agent::is_target(target)) {
        let wanted = "a target triple such as aarch64-unknown-linux-musl";
        problems.add(&span, format!("`programs`: \"{target}\" must be {wanted}"));
    }
    let programs = programs.into_iter().map(|(target, file)| (target, PathBuf::from(file)));
    Some(Agent { version: version?, floor, force, programs: programs.collect() })
}

/// The agent of the manifest.
///
/// # Errors
/// A program is missing.
pub(super) fn manifest(
    agent: &Agent,
    programs: &BTreeMap<String, Vec<u8>>,
) -> Done<manifest::Agent> {
    let entry = |target: &String| {
        let bytes = programs.get(target);
        let missing = || Failure::failed(format!("no agent program for {target}"));
        let bytes = bytes.ok_or_else(missing)?;
        let artifact = sync_protocol::Digest::of(bytes);
        Ok((target.clone(), agent::Program { artifact, size: bytes.len() as u64 }))
    };
    Ok(manifest::Agent {
        version: agent.version.to_string(),
        floor: agent.floor.map(|floor| floor.to_string()),
        force: agent.force,
        programs: agent.programs.keys().map(entry).collect::<Done<_>>()?,
    })
}
