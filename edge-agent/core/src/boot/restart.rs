//! How often and how fast a program that ends is started again.

use crate::time::Millis;

/// After a life of this length the count begins anew.
pub const WELL_AFTER: Millis = Millis(10 * 60_000);
/// Ends in a row after which the launcher gives up.
pub const ENDS_MAX: u32 = 20;
const WAIT_FIRST: u64 = 500;
const WAIT_MAX: u64 = 60_000;

/// What to do after an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Start again after this time.
    After(Millis),
    /// It ended [`ENDS_MAX`] times in a row: whoever started the launcher decides.
    GiveUp,
}

/// Counts ends in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    ends: u32,
}

impl Restarts {
    /// The program ended after `lived`, and nobody had asked for it.
    pub fn ended(&mut self, lived: Millis) -> Again {
        self.ends = if lived >= WELL_AFTER { 1 } else { self.ends.saturating_add(1) };
        if self.ends >= ENDS_MAX {
            return Again::GiveUp;
        }
        let doubled = WAIT_FIRST.checked_shl(self.ends - 1).unwrap_or(WAIT_MAX);
        Again::After(Millis(doubled.min(WAIT_MAX)))
    }

    /// Another program is started, or the same one for another reason.
    pub fn begin_anew(&mut self) {
        self.ends = 0;
    }
}
