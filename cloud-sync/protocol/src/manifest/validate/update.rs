//! Problems of the updates of the gateways themselves in a manifest.

use super::Findings;
use crate::limits::{
    AGENT_TARGETS_MAX, ARTIFACT_BYTES_MAX, LABEL_BYTES_MAX, SYSTEM_BOARDS_MAX, SYSTEM_BYTES_MAX,
};
use crate::manifest::Manifest;
use crate::manifest::update::{Update, is_board, is_target};

/// What differs between the two.
struct Kind {
    table: &'static str,
    files_max: usize,
    bytes_max: u64,
    is_name: fn(&str) -> bool,
    name_wanted: &'static str,
}

const AGENT: Kind = Kind {
    table: "agent",
    files_max: AGENT_TARGETS_MAX,
    bytes_max: ARTIFACT_BYTES_MAX,
    is_name: is_target,
    name_wanted: "must be a target triple such as aarch64-unknown-linux-musl",
};

const SYSTEM: Kind = Kind {
    table: "system",
    files_max: SYSTEM_BOARDS_MAX,
    bytes_max: SYSTEM_BYTES_MAX,
    is_name: is_board,
    name_wanted: "must be a board such as rpi4: small letters and digits",
};

pub(super) fn all(manifest: &Manifest, found: &mut Findings) {
    for (update, kind) in [(&manifest.agent, AGENT), (&manifest.system, SYSTEM)] {
        if let Some(update) = update {
            one(update, &kind, found);
        }
    }
    // What keeps a system knows nothing of functions, and an agent has a trial of its own.
    let is_alone =
        manifest.functions.is_empty() && manifest.firmware.is_empty() && manifest.agent.is_none();
    if manifest.system.is_some() && !is_alone {
        found.add("system", "an app that brings a system brings nothing else: make two apps of it");
    }
}

fn one(update: &Update, kind: &Kind, found: &mut Findings) {
    const WANTED: &str = "must be three numbers below 65536 such as 1.4.0";
    let table = kind.table;
    let is_plain = |text: &str, parsed: Option<edge_core::boot::Version>| {
        parsed.is_some_and(|version| version.to_string() == text)
    };
    if !is_plain(&update.version, update.version()) {
        found.add(&format!("{table}.version"), WANTED);
    }
    if let Some(floor) = &update.floor {
        let path = format!("{table}.floor");
        if !is_plain(floor, update.floor()) {
            found.add(&path, WANTED);
        } else if update.floor() > update.version() {
            let text = format!("{floor} is above the version {}", update.version);
            found.add(&path, text + ": it would refuse itself");
        }
    }
    found.range(&format!("{table}.programs"), update.programs.len(), 1..=kind.files_max);
    for (name, program) in update.programs.iter().take(kind.files_max) {
        let path = format!("{table}.programs.{name}");
        if name.len() > LABEL_BYTES_MAX || !(kind.is_name)(name) {
            found.add(&path, kind.name_wanted);
        }
        found.range(&format!("{path}.size"), program.size, 1..=kind.bytes_max);
    }
}
