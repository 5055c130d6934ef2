//! A9: no turn without end. Virtual time knows no milliseconds of work, so calls are counted: the
//! calls over the seams that one turn makes, and turns in a row that nothing from outside began.

use super::{Oracle, hold};
use crate::seen::Seen;

/// Calls over the seams in one turn. A turn takes inputs for 2 ms; a message costs a few calls.
const CALLS_MAX: u32 = 5_000;
/// Turns in a row that nothing from outside began: what they wait for is never due.
const IDLE_TURNS_MAX: u32 = 200;

pub(super) struct A9;

impl Oracle for A9 {
    fn name(&self) -> &'static str {
        "a9"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Turned { idle_turns, calls, .. } = seen else { return Ok(()) };
        hold(*calls <= CALLS_MAX, || format!("a turn made {calls} calls over the seams"))?;
        hold(*idle_turns <= IDLE_TURNS_MAX, || {
            format!("{idle_turns} turns in a row, all at the same time and for nothing")
        })
    }
}
