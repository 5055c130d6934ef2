//! Whether an agent on trial may stay.
//!
//! # The rule of app and agent
//! - A revision that brings an update and the update stand and fall together, from the start of the
//!   trial until both are kept.
//! - The revision is not kept before the update is: its probation goes on for as long as the trial.
//! - The update is not kept before the functions of the revision have passed their probation. The write
//!   that confirms its slot keeps both ([`State::confirm`](super::State::confirm)); the ledger follows,
//!   after a crash too.
//! - A revision that fails during the trial takes the update with it, and is taken back. One that is
//!   withdrawn (another statement of what should run) takes the update with it without blame.
//! - Once both are kept they are two things: to go back is another deployment.

use super::Before;
use crate::time::Millis;

/// How long is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Nothing is judged earlier: an agent that dies after seconds proved nothing.
    pub settle: Millis,
    /// What is not well by then is not well.
    pub grace: Millis,
}

impl Default for Patience {
    fn default() -> Self {
        Self { settle: Millis(30_000), grace: Millis(10 * 60_000) }
    }
}

/// How the revision does that brought the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// Its functions passed their probation, or there are none; or no revision brought the agent.
    Passed,
    /// Its functions have yet to prove themselves.
    OnProbation,
    /// It is not live any more: something else should run.
    Gone,
}

/// What is seen of the agent on trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How long it has run, in this try.
    pub alive: Millis,
    /// A control plane manages the gateway.
    pub is_managed: bool,
    /// It was reached in this try.
    pub reached: bool,
    /// Apps that are not ready and functions that are paused.
    pub ill: u32,
    /// The process kept dying, and runs no function.
    pub safe_mode: bool,
    /// Format of the data when the trial began (0: nobody had said), and now.
    pub data: (u32, u32),
    /// How the revision does that brought it.
    pub revision: Revision,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is judged again when it has run for longer, or when something changes.
    Wait,
    /// The same: it is well, and waits for the functions of its revision.
    WaitForRevision,
    /// It stays, and so does the revision that brought it.
    Commit,
    /// It goes, for this reason.
    TakeBack(String),
    /// It goes without blame: nobody wants it any more.
    Withdraw,
}

/// Judges.
#[must_use]
pub fn judge(before: Before, facts: &Facts, patience: Patience) -> Verdict {
    let (was, is) = facts.data;
    if was != 0 && was != is {
        let reason = format!("it changed the data from format {was} to {is} during its trial");
        return Verdict::TakeBack(reason);
    }
    if facts.revision == Revision::Gone {
        return Verdict::Withdraw;
    }
    if facts.alive < patience.settle {
        return Verdict::Wait;
    }
    let is_late = facts.alive >= patience.grace;
    let link_is_well = !facts.is_managed || facts.reached || (before.link_down && is_late);
    let functions_are_well = !facts.safe_mode && facts.ill <= before.ill;
    match (link_is_well && functions_are_well, is_late) {
        // A probation has an end of its own.
        (true, _) if facts.revision == Revision::OnProbation => Verdict::WaitForRevision,
        (true, _) => Verdict::Commit,
        (false, false) => Verdict::Wait,
        (false, true) if link_is_well => {
            let (now, then) = (facts.ill, before.ill);
            let safe = if facts.safe_mode { ", and it is in safe mode" } else { "" };
            Verdict::TakeBack(format!(
                "{now} apps or functions are not well, {then} were not before it{safe}"
            ))
        }
        (false, true) => Verdict::TakeBack(
            "it did not reach the control plane, which the agent before it did".to_owned(),
        ),
    }
}
