//! The store, and what backup, restore and reset left.

use std::path::Path;

use super::{bytes, machine, trust};
use crate::doctor::Finding;
use crate::doctor::facts::{Agent, Disk, Facts, HalfReset, Heads, Sizes, Trouble};

const CHECK: &str = "store";
/// What the store holds in reserve.
const BALLAST_BYTES: u64 = 2 << 20;
/// Of a hundred of the store's ceiling.
const FULL_PERCENT: u64 = 80;

/// All of it.
pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![store(facts)];
    findings.extend((facts.sizes.half_reset == Some(HalfReset::Rest)).then(rest_of_reset));
    findings.extend(facts.left_over.as_deref().map(left_over));
    findings.extend(facts.half_restore.as_deref().map(half_restore));
    findings
}

fn store(facts: &Facts) -> Finding {
    let sizes = &facts.sizes;
    match &sizes.unlisted {
        Some(Trouble::Hidden(why)) => return Finding::warning(CHECK, why, trust::AS_AGENT),
        Some(Trouble::Wrong(why)) => return Finding::fault(CHECK, why, SOUND),
        None => {}
    }
    if let Some(HalfReset::Pending { keep_identity }) = sizes.half_reset {
        return half_reset(keep_identity);
    }
    match &sizes.heads {
        Heads::Bad(Trouble::Hidden(why)) => return Finding::warning(CHECK, why, trust::AS_AGENT),
        Heads::Bad(Trouble::Wrong(why)) => return unusable(why),
        // A journal without a checkpoint is one that is being made.
        Heads::Good if sizes.checkpoint_bytes == 0 => return none_yet(),
        Heads::Good | Heads::Unseen => {}
    }
    if !sizes.has_store {
        return none_yet();
    }
    let what = told(sizes);
    if sizes.journal_bytes == 0 || sizes.checkpoint_bytes == 0 {
        let mend = "put back the whole folder `store`, from a backup (`edge-agent restore`)";
        return Finding::fault(CHECK, format!("journal or checkpoint are gone: {what}"), mend);
    }
    let is_short = sizes.ballast_bytes < BALLAST_BYTES;
    let is_due = is_short && takes_reserve(facts);
    if is_short && !is_due {
        let what = format!("the reserve for a full disk was given up: {what}");
        let mend = "make room on the disk; the agent takes the reserve again by itself";
        return Finding::warning(CHECK, what, mend);
    }
    let percent = sizes.checkpoint_bytes.saturating_mul(100) / sizes.store_bytes_max.max(1);
    if percent >= FULL_PERCENT {
        let mend = "raise `store` in [limits] if the disk has room, or let the control plane take \
                    the records that wait";
        return Finding::warning(CHECK, what, mend);
    }
    let due = if is_due { "; the next start takes the reserve for a full disk" } else { "" };
    Finding::ok(CHECK, format!("{what}{due}"))
}

const SOUND: &str = "is the disk sound (`dmesg`)?";

fn none_yet() -> Finding {
    Finding::ok(CHECK, "none yet: the first start makes it")
}

fn told(sizes: &Sizes) -> String {
    format!(
        "journal {}, checkpoint {} (ceiling {}), bundles {}, compiled code {}",
        bytes(sizes.journal_bytes),
        bytes(sizes.checkpoint_bytes),
        bytes(sizes.store_bytes_max),
        bytes(sizes.library_bytes),
        bytes(sizes.compiled_bytes),
    )
}

/// Whether a start is to come that finds room for the reserve: a backup holds none.
fn takes_reserve(facts: &Facts) -> bool {
    let Disk { unknown, free_bytes, .. } = &facts.disk;
    let is_down = matches!(facts.agent, Agent::Down);
    is_down && unknown.is_none() && *free_bytes >= BALLAST_BYTES + machine::DISK_FAULT_BYTES
}

fn unusable(why: &str) -> Finding {
    let mend = "do what it says; or `edge-agent restore FILE --data DIR --force` puts a backup in its \
                place and keeps this one beside it (docs/care.md)";
    Finding::fault(CHECK, format!("the agent cannot start with it: {why}"), mend)
}

/// Either way ends as the one that was cut off was meant.
fn half_reset(keep_identity: bool) -> Finding {
    let (what, mend) = if keep_identity {
        (
            "a reset with --keep-identity was cut off: the identity stays",
            "the next start of the agent finishes it, or `edge-agent reset --yes --keep-identity`",
        )
    } else {
        (
            "a reset was cut off that is to delete the identity as well",
            "the next start of the agent finishes it, or `edge-agent reset --yes`; with --keep-identity \
             what is left of the identity stays",
        )
    };
    Finding::fault(CHECK, what, mend)
}

fn rest_of_reset() -> Finding {
    let what = "a reset was cut off, and a new store was made since: the old one takes up room";
    let mend = "the next start of the agent deletes it; do not reset again";
    Finding::warning(CHECK, what, mend)
}

fn left_over(folder: &Path) -> Finding {
    let what = format!("a restore was cut off, and left {}", folder.display());
    let mend = "it holds the data of before, or a whole backup: look, then give it another name or \
                delete it";
    Finding::warning(CHECK, what, mend)
}

fn half_restore(folder: &Path) -> Finding {
    let folder = folder.display();
    let what = format!(
        "a restore is under way or was cut off: {folder} is a part of a backup, with a private key"
    );
    let mend =
        format!("if none is under way delete it: `rm -r {folder}`; the next restore does too");
    Finding::warning(CHECK, what, mend)
}
