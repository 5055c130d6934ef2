//! `[agent]` and `[system]`: what the gateways themselves are updated to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use edge_agent::toml_reader::{Problems, Section};
use sync_protocol::limits;
use sync_protocol::manifest::{self, update};

use super::values::needed;
use super::{Update, read};
use crate::failure::{Done, Failure};

/// What differs between the two.
pub(super) struct Kind {
    table: &'static str,
    /// Key of its files.
    files: &'static str,
    files_max: usize,
    example: &'static str,
    what: &'static str,
    is_name: fn(&str) -> bool,
    name_wanted: &'static str,
}

/// `[agent]`
pub(super) const AGENT: Kind = Kind {
    table: "agent",
    files: "programs",
    files_max: limits::AGENT_TARGETS_MAX,
    example: "the agent needs `programs = { \"TARGET-TRIPLE\" = \"FILE\" }`",
    what: "agent programs for at most {} targets",
    is_name: update::is_target,
    name_wanted: "a target triple such as aarch64-unknown-linux-musl",
};

/// `[system]`
pub(super) const SYSTEM: Kind = Kind {
    table: "system",
    files: "images",
    files_max: limits::SYSTEM_BOARDS_MAX,
    example: "the system needs `images = { \"BOARD\" = \"FILE.system\" }`",
    what: "systems for at most {} boards",
    is_name: update::is_board,
    name_wanted: "a board such as rpi4: small letters and digits",
};

/// Reads it; `None` where the file has none.
pub(super) fn read(
    root: &mut Section<'_, '_>,
    kind: &Kind,
    problems: &mut Problems<'_>,
) -> Option<Update> {
    let mut section = root.section(kind.table, problems)?;
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
    let span = section.span_of(kind.files);
    let files = section.texts(kind.files, problems);
    section.finish(problems);
    if files.is_empty() {
        problems.add(&span, kind.example);
    }
    let max = kind.files_max;
    if files.len() > max {
        let what = kind.what.replace("{}", &max.to_string());
        problems.add(&span, format!("an app has {what}"));
    }
    for name in files.keys().filter(|name| !(kind.is_name)(name)) {
        let (key, wanted) = (kind.files, kind.name_wanted);
        problems.add(&span, format!("`{key}`: \"{name}\" must be {wanted}"));
    }
    let files = files.into_iter().map(|(name, file)| (name, PathBuf::from(file)));
    Some(Update { version: version?, floor, force, files: files.collect() })
}

/// The update of the manifest.
///
/// # Errors
/// A file is missing.
pub(super) fn manifest(
    update: Option<&Update>,
    files: &BTreeMap<String, Vec<u8>>,
) -> Done<Option<manifest::Update>> {
    let Some(update) = update else { return Ok(None) };
    let entry = |name: &String| {
        let bytes = files.get(name);
        let missing = || Failure::failed(format!("no file for gateways of the kind {name}"));
        let bytes = bytes.ok_or_else(missing)?;
        let artifact = sync_protocol::Digest::of(bytes);
        Ok((name.clone(), update::Program { artifact, size: bytes.len() as u64 }))
    };
    Ok(Some(manifest::Update {
        version: update.version.to_string(),
        floor: update.floor.map(|floor| floor.to_string()),
        force: update.force,
        programs: update.files.keys().map(entry).collect::<Done<_>>()?,
    }))
}
