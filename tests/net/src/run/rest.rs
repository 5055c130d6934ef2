//! The end: has everything come to rest?

use simulator::seen::Rest;
use simulator::time::SECOND;
use sync_protocol::record::Phase;

use super::{Event, FAULTS_US, Seen, Sim};
use simulator::plan;

/// Time within which everything must come to rest after the last fault.
const REST_US_MAX: u64 = 8 * 60 * SECOND;

impl Sim {
    /// Looks whether everything has come to rest, again and again until the bound.
    pub(super) fn look(&mut self) {
        let restless = self.restless();
        let (generation, reported) = (self.cloud.generation(), self.reported());
        let converged =
            reported.as_ref().is_some_and(|(of, in_work)| *of == generation && in_work.is_empty());
        let late = self.now_us >= plan::WARM_UP_US + FAULTS_US + REST_US_MAX;
        if (!restless.is_empty() || !converged) && !late {
            return self.put(self.now_us + 2 * SECOND, Event::Look);
        }
        let rest = Rest { generation, reported, restless };
        self.see(&Seen::Rest(&rest));
        self.is_over = true;
    }

    fn reported(&self) -> Option<(u64, Vec<String>)> {
        let report = self.cloud.reported.as_ref()?;
        let is_in_work = |phase: Phase| !phase.is_final() && phase != Phase::Probation;
        let in_work = report.apps.iter().filter(|app| is_in_work(app.phase));
        let in_work = in_work.map(|app| format!("{}: {}", app.app, app.phase.as_str()));
        Some((report.generation, in_work.collect()))
    }

    fn restless(&self) -> Vec<String> {
        let (Some(core), Some((broker, _))) = (self.process.core(), self.process.broker()) else {
            return vec!["the gateway does not run".to_owned()];
        };
        let records: u64 = core.outbox.iter().map(|stream| stream.records).sum();
        let counts = [
            ("messages that devices keep", self.kept_by_devices() as u64),
            ("jobs", core.jobs.into()),
            ("held deliveries", core.held.into()),
            ("records in the outbox", records),
            ("messages for sessions", broker.queued_messages as u64),
        ];
        let left = counts.into_iter().filter(|(_, count)| *count > 0);
        left.map(|(what, count)| format!("{count} {what}")).collect()
    }
}
