//! Safe mode, after a crash loop (DESIGN, section 4: the run).
//!
//! # Rules
//! - Messages are taken, routed and kept; deployments go on, so that a mended revision can come.
//!   No attempt starts.
//! - Nothing is lost for it: acks wait for room longer than usual, the devices keep their
//!   messages; and a revision on probation proves nothing while nothing runs.

use crate::event::CoreEvent;
use crate::turn::Turn;

use super::Core;

impl Core {
    /// Whether nothing is started because the process kept dying.
    #[must_use]
    pub fn is_in_safe_mode(&self) -> bool {
        self.settings.safe_mode
    }

    pub(super) fn leave_safe_mode(&mut self, turn: &mut Turn<'_>) {
        if !self.settings.safe_mode {
            return;
        }
        self.settings.safe_mode = false;
        turn.event(CoreEvent::SafeModeLeft);
        for app in self.apps.begin_spans(turn.at()) {
            self.write_mark(&app, crate::effect::Pace::Prompt, turn);
        }
        self.holds.begin_again(turn.at() + self.settings.limits.hold_ms_max);
    }
}
