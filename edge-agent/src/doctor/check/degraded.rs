//! What the agent says of itself, with a way out.

use crate::doctor::Finding;

/// A reason that begins and goes on so, and how to mend it.
struct Known {
    begins: &'static str,
    has: &'static str,
    /// It stops the gateway from its work.
    stops: bool,
    mend: &'static str,
}

const fn known(begins: &'static str, has: &'static str, mend: &'static str) -> Known {
    Known { begins, has, stops: false, mend }
}

const fn stops(begins: &'static str, mend: &'static str) -> Known {
    Known { begins, has: "", stops: true, mend }
}

/// The first that fits counts.
const ALL: [Known; 11] = [
    stops(
        "safe mode",
        "look in the log for what ended the process and correct it; `edge-agent resume` lets functions \
         run again",
    ),
    stops(
        "the store is full",
        "make room on the disk, raise `store` in [limits], or let the control plane take the records \
         that wait",
    ),
    stops(
        "the store cannot be used",
        "is the disk full, read-only or broken? (`df`, `dmesg`) The agent opens the store again by \
         itself as soon as it can",
    ),
    known("the system clock differs", "", "as for `clock`"),
    known(
        "no control plane",
        "",
        "as for `dns`, `control-plane` and `tls`; where those are ok, the log of the control plane says \
         why it lets nobody in. Records wait here meanwhile",
    ),
    known(
        "bus ",
        " is not open: ",
        "is the adapter plugged in, is `port` in [[buses]] its name, and may the agent's user open it (on \
         Debian: group `dialout`)? It is tried again by itself",
    ),
    known("", ": revision ", "correct the app and deploy it again; what ran before runs meanwhile"),
    known(
        "",
        " wait for their acks: ",
        "a function is slower than its events: make it quicker, or give it another `when_full` in \
         holm.toml; `queue` and `workers` in [limits] make room",
    ),
    known(
        "",
        " is paused after ",
        "`edge-agent dead-letters` and the log say what it failed at: correct it and deploy it again, or \
         end the pause when the cause is gone",
    ),
    known("", " is not deployed; ", "deploy its app again: they run then"),
    known(
        "",
        " starts nothing: ",
        "a swap ends by itself; where its revision failed, correct the app and deploy it again",
    ),
];

pub(super) fn degraded(reason: &str) -> Finding {
    let known =
        ALL.iter().find(|known| reason.starts_with(known.begins) && reason.contains(known.has));
    match known {
        Some(Known { stops: true, mend, .. }) => Finding::fault("agent", reason, *mend),
        Some(Known { mend, .. }) => Finding::warning("agent", reason, *mend),
        None => {
            let mend = "the reason says it; `edge-agent status` shows when it is over";
            Finding::warning("agent", reason, mend)
        }
    }
}
