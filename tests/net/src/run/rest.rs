//! The end: has everything come to rest?

use simulator::plan;
use simulator::rest::Rest;
use simulator::time::SECOND;

use super::{Event, FAULTS_US, Seen, Sim};

/// Time within which everything must come to rest after the last fault.
const REST_US_MAX: u64 = 8 * 60 * SECOND;

impl Sim {
    /// Looks whether everything has come to rest, again and again until the bound.
    pub(super) fn look(&mut self) {
        let rest = Rest::look(&self.process, &self.cloud, self.kept_by_devices());
        let late = self.now_us >= plan::WARM_UP_US + FAULTS_US + REST_US_MAX;
        if !rest.is_complete() && !late {
            return self.put(self.now_us + 2 * SECOND, Event::Look);
        }
        self.see(&Seen::Rest(&rest));
        self.is_over = true;
    }
}
