//! The end: has everything come to rest?

use sync_protocol::record::Phase;

use super::{Event, SECOND, Seen, Sim};
use crate::seen::Rest;

impl Sim {
    /// Looks whether everything has come to rest, again and again until the bound.
    pub(super) fn look(&mut self) {
        let restless = self.restless();
        let (generation, reported) = (self.cloud.generation(), self.reported());
        let converged =
            reported.as_ref().is_some_and(|(of, in_work)| *of == generation && in_work.is_empty());
        let late = self.time.now() >= self.quiet_at + self.plan.rest_us_max;
        if (!restless.is_empty() || !converged) && !late {
            return self.heap.put(self.time.now() + 5 * SECOND, Event::Look);
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
        let Some(core) = self.process.core() else {
            return vec!["the gateway does not run".to_owned()];
        };
        let records: u64 = core.outbox.iter().map(|stream| stream.records).sum();
        let counts = [
            ("messages that devices keep", self.kept_by_devices() as u64),
            ("jobs", core.jobs.into()),
            ("held deliveries", core.held.into()),
            ("records in the outbox", records),
            ("messages for sessions", self.queued()),
        ];
        let left = counts.into_iter().filter(|(_, count)| *count > 0);
        left.map(|(what, count)| format!("{count} {what}")).collect()
    }

    fn queued(&self) -> u64 {
        self.process.broker().map_or(0, |(broker, _)| broker.queued_messages as u64)
    }
}
