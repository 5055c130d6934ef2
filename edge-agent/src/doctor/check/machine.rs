//! Clock, disk, memory, address space, permissions.

use serde_json::Value;

use super::bytes;
use crate::doctor::Finding;
use crate::doctor::facts::{Access, Agent, Clock, Disk, FileFact, FileKind, Memory, Space};

/// A clock that is so far behind the store's last write went back.
const BACK_S: u64 = 60;
/// A clock so far ahead of the release is wrong, or the agent is very old.
const AHEAD_S: u64 = 20 * 365 * 86_400;

const MIB: u64 = 1 << 20;
/// Less is not enough for a checkpoint beside the journal.
pub(super) const DISK_FAULT_BYTES: u64 = 8 * MIB;
const DISK_WARNING_BYTES: u64 = 64 * MIB;
/// Of a hundred.
const DISK_WARNING_PERCENT: u64 = 5;
const FILES_WARNING: u64 = 100;
const MEMORY_FAULT_BYTES: u64 = 16 * MIB;
const MEMORY_WARNING_BYTES: u64 = 48 * MIB;

/// The time that it certainly is, at least.
pub(super) fn certain_unix_s(clock: &Clock) -> u64 {
    clock.unix_s.max(clock.floor_unix_s)
}

pub(super) fn clock(clock: &Clock, agent: &Agent) -> Finding {
    const SET: &str = "set the clock: enable a time daemon (`timedatectl set-ntp true`) or let the \
                       control plane be reached; the agent works meanwhile, and corrects its labels \
                       later";
    let shown = clock.unix_s;
    if shown < clock.floor_unix_s {
        let what =
            format!("the clock shows {shown} s since 1970, which is before this agent was made");
        return Finding::warning("clock", what, SET);
    }
    if let Some(store) = clock.store_unix_s.filter(|store| shown + BACK_S < *store) {
        let back = store - shown;
        let what =
            format!("the clock is {back} s behind the last write of the store: it went back");
        return Finding::warning("clock", what, SET);
    }
    if shown > clock.floor_unix_s.saturating_add(AHEAD_S) {
        let what =
            format!("the clock shows {shown} s since 1970, decades after this agent was made");
        return Finding::warning("clock", what, SET);
    }
    if let Agent::Up { status, .. } = agent {
        if let Some(error) = status["clock"]["error_ms"].as_i64() {
            let what = format!("the clock differs from the control plane's by {error} ms");
            return Finding::warning("clock", what, SET);
        }
        if status["clock"]["synced"] == Value::Bool(true) {
            return Finding::ok("clock", "set, and somebody vouches for it");
        }
    }
    if clock.disciplined {
        return Finding::ok("clock", "set by the time daemon");
    }
    let what = "it looks right, but nobody vouches for it: cron schedules wait";
    Finding::warning("clock", what, SET)
}

pub(super) fn disk(disk: &Disk) -> Finding {
    const ROOM: &str = "make room on that disk, or lower `store` and `outbox` in [limits]; without \
                        room nothing new is acked, and devices keep their messages";
    if let Some(why) = &disk.unknown {
        let mend = "make the data folder, or let `data_dir` name one that is there";
        return Finding::fault("disk", why, mend);
    }
    let what = format!("{} free of {}", bytes(disk.free_bytes), bytes(disk.all_bytes));
    if disk.free_files.is_some_and(|files| files < FILES_WARNING) {
        return Finding::fault("disk", format!("{what}, but hardly any file can be added"), ROOM);
    }
    if disk.free_bytes < DISK_FAULT_BYTES {
        return Finding::fault("disk", what, ROOM);
    }
    let percent = disk.free_bytes.saturating_mul(100) / disk.all_bytes.max(1);
    if disk.free_bytes < DISK_WARNING_BYTES && percent < DISK_WARNING_PERCENT * 4
        || percent < DISK_WARNING_PERCENT
    {
        return Finding::warning("disk", what, ROOM);
    }
    Finding::ok("disk", what)
}

pub(super) fn memory(memory: Option<Memory>) -> Finding {
    const LESS: &str = "end other programs, or lower `workers`, `function_memory`, `queue` and \
                        `devices` in [limits]";
    let Some(memory) = memory else {
        return Finding::warning(
            "memory",
            "the kernel does not tell",
            "mount /proc: the agent needs it as well",
        );
    };
    let (free, all) = (bytes(memory.available_bytes), bytes(memory.all_bytes));
    let what = format!("{free} available of {all}");
    match memory.available_bytes {
        n if n < MEMORY_FAULT_BYTES => Finding::fault("memory", what, LESS),
        n if n < MEMORY_WARNING_BYTES => Finding::warning("memory", what, LESS),
        _ => Finding::ok("memory", what),
    }
}

pub(super) fn space(space: &Space) -> Finding {
    let (pool, of) = (bytes(space.pool_bytes), &space.of);
    let limit = match space.limit_bytes {
        Some(limit) => format!("limit {} ({of})", bytes(limit)),
        None => "no limit".to_owned(),
    };
    let what = format!("{limit}; the sandboxes reserve {pool}");
    let (wanted, fit) = (space.workers, space.workers_that_fit);
    let mend = match space.limit_bytes {
        Some(_) => {
            "raise `ulimit -v` or `LimitAS=`, or lower `workers` or `function_memory` in [limits]"
        }
        None => "lower `workers` or `function_memory` in [limits]: 32 bits have no more",
    };
    match fit {
        0 => Finding::fault("address-space", format!("{what}, which is too much"), mend),
        _ if fit < wanted => {
            let what =
                format!("{what}, but {fit} of {wanted} workers are all that fit and are started");
            Finding::warning("address-space", what, mend)
        }
        _ => Finding::ok("address-space", what),
    }
}

/// One finding for each file that is not as it should be, and one for all that cannot be looked at; or
/// one that all are.
pub(super) fn files(files: &[FileFact]) -> Vec<Finding> {
    let data = files.iter().find(|file| file.kind == FileKind::Data);
    let data = data.and_then(|file| file.access.as_ref().ok()).copied();
    let mut found: Vec<_> = files.iter().filter_map(|file| permission(file, data)).collect();
    found.extend(unseen(files));
    if found.is_empty() {
        return vec![Finding::ok(PERMISSIONS, format!("{} files looked at", files.len()))];
    }
    found
}

const PERMISSIONS: &str = "permissions";

fn unseen(files: &[FileFact]) -> Option<Finding> {
    let mut unseen =
        files.iter().filter_map(|file| Some((&file.path, file.access.as_ref().err()?)));
    let (path, why) = unseen.next()?;
    let what = match unseen.count() {
        0 => format!("{path}: {why}"),
        more => format!("{path}, and {more} more: {why}"),
    };
    Some(Finding::warning(PERMISSIONS, what, super::trust::AS_AGENT))
}

fn permission(file: &FileFact, data: Option<Access>) -> Option<Finding> {
    const CHECK: &str = PERMISSIONS;
    let path = &file.path;
    let access = file.access.as_ref().ok().copied()?;
    let open = |others: u32| access.mode & others != 0;
    match file.kind {
        FileKind::Data if !access.writable && !access.is_own => {
            let what = format!("{path} cannot be written by whoever asks, who does not own it");
            let mend = format!(
                "{}; if that is who asks, give it the folder: `chown -R holm: {path}`",
                super::trust::AS_AGENT
            );
            Some(Finding::warning(CHECK, what, mend))
        }
        FileKind::Data if !access.writable => {
            let mend = format!(
                "{}; if you are, give the folder to that user: `chown -R holm: {path}`",
                super::trust::AS_AGENT
            );
            Some(Finding::fault(CHECK, format!("you cannot write {path}"), mend))
        }
        FileKind::Data if open(0o022) => {
            let what = format!("{path} can be written by others");
            Some(Finding::warning(CHECK, what, format!("`chmod go-w {path}`")))
        }
        FileKind::Secret if open(0o077) => {
            let what = format!("{path} is a secret that others can read");
            let mend = format!(
                "`chmod 600 {path}`; whoever may have read it can speak as this gateway: enrol anew"
            );
            Some(Finding::fault(CHECK, what, mend))
        }
        FileKind::Key if open(0o007) => {
            let what = format!("{path} is a private key that everybody can read");
            let mend =
                format!("`chmod 640 {path}`, and make a new key if somebody may have read it");
            Some(Finding::fault(CHECK, what, mend))
        }
        FileKind::Secret | FileKind::Owned
            if data.is_some_and(|data| data.owner != access.owner) =>
        {
            let what = format!("{path} belongs to another user than the data folder");
            let mend = format!("`chown --reference={} {path}`", folder(path));
            Some(Finding::fault(CHECK, what, mend))
        }
        FileKind::Data | FileKind::Owned | FileKind::Secret | FileKind::Key => None,
    }
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(folder, _)| folder)
}
