//! The end: has everything come to rest?

use super::{Event, SECOND, Seen, Sim};
use crate::rest::Rest;

impl Sim {
    /// Looks whether everything has come to rest, again and again until the bound.
    pub(super) fn look(&mut self) {
        let rest = Rest::look(&self.process, &self.cloud, self.kept_by_devices());
        let late = self.time.now() >= self.quiet_at + self.plan.rest_us_max;
        if !rest.is_complete() && !late {
            return self.heap.put(self.time.now() + 5 * SECOND, Event::Look);
        }
        self.see(&Seen::Rest(&rest));
        self.is_over = true;
    }
}
