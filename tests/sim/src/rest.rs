//! Has everything come to rest?

use edge_agent::agent::stepped::Process;
use sync_protocol::record::Phase;

use crate::cloud::Cloud;

/// How everything stands at the end.
#[derive(Debug)]
pub struct Rest {
    /// The last generation that the control plane stated.
    pub generation: u64,
    /// The generation that the gateway reported last, and the apps that are still in work.
    pub reported: Option<(u64, Vec<String>)>,
    /// What has not come to rest; empty where all has.
    pub restless: Vec<String>,
}

impl Rest {
    /// How it stands with a gateway, its control plane, and devices that keep so many messages.
    #[must_use]
    pub fn look(process: &Process, cloud: &Cloud, kept_by_devices: usize) -> Self {
        Self {
            generation: cloud.generation(),
            reported: reported(cloud),
            restless: restless(process, kept_by_devices),
        }
    }

    /// Nothing waits, and the gateway has come to the last generation.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let has_converged =
            |(of, in_work): &(u64, Vec<String>)| *of == self.generation && in_work.is_empty();
        self.restless.is_empty() && self.reported.as_ref().is_some_and(has_converged)
    }
}

fn reported(cloud: &Cloud) -> Option<(u64, Vec<String>)> {
    let report = cloud.reported.as_ref()?;
    let is_in_work = |phase: Phase| !phase.is_final() && phase != Phase::Probation;
    let in_work = report.apps.iter().filter(|app| is_in_work(app.phase));
    let in_work = in_work.map(|app| format!("{}: {}", app.app, app.phase.as_str()));
    Some((report.generation, in_work.collect()))
}

fn restless(process: &Process, kept_by_devices: usize) -> Vec<String> {
    let (Some(core), Some((broker, _))) = (process.core(), process.broker()) else {
        return vec!["the gateway does not run".to_owned()];
    };
    let records: u64 = core.outbox.iter().map(|stream| stream.records).sum();
    let counts = [
        ("messages that devices keep", kept_by_devices as u64),
        ("jobs", core.jobs.into()),
        ("held deliveries", core.held.into()),
        ("records in the outbox", records),
        ("messages for sessions", broker.queued_messages as u64),
    ];
    let left = counts.into_iter().filter(|(_, count)| *count > 0);
    left.map(|(what, count)| format!("{count} {what}")).collect()
}
