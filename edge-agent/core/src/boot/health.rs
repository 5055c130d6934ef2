//! Whether an agent on trial may stay.

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
    /// Format of the data when the trial began, and now.
    pub data: (u32, u32),
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is judged again when it has run for so long, or when something changes.
    Wait(Millis),
    /// It stays.
    Commit,
    /// It goes, for this reason.
    TakeBack(String),
}

/// Judges.
#[must_use]
pub fn judge(before: Before, facts: &Facts, patience: Patience) -> Verdict {
    let (was, is) = facts.data;
    if was != is {
        let reason = format!("it changed the data from format {was} to {is} during its trial");
        return Verdict::TakeBack(reason);
    }
    if facts.alive < patience.settle {
        return Verdict::Wait(patience.settle);
    }
    let is_late = facts.alive >= patience.grace;
    let link_is_well = !facts.is_managed || facts.reached || (before.link_down && is_late);
    let functions_are_well = !facts.safe_mode && facts.ill <= before.ill;
    match (link_is_well && functions_are_well, is_late) {
        (true, _) => Verdict::Commit,
        (false, false) => Verdict::Wait(patience.grace),
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
