//! What a worker's thread does with an attempt in the gateway process, in two steps: it takes the
//! attempt, and later it has made it.

use edge_agent::runtime::{Attempt, Completion, Crashed, Invocation};
use edge_core::effect::Work;
use edge_core::id::JobId;

use crate::seen::Seen;

/// A worker takes an attempt. Returns the crumb that a process would leave that dies in it.
pub fn take(invocation: &Invocation, see: impl FnOnce(&Seen<'_>)) -> Crashed {
    let Invocation { attempt, run, work, lane, .. } = invocation;
    let profile = invocation.prepared.profile();
    let (jobs, attempt, revision) = (jobs(work), *attempt, profile.revision);
    see(&Seen::Run { jobs: &jobs, attempt, function: &profile.function, lane, revision });
    Crashed::of(work, *run, profile)
}

/// It has made the attempt: the jobs that were in it, and what comes of it.
#[must_use]
pub fn make(invocation: Invocation) -> (Vec<JobId>, Completion) {
    let Invocation { attempt, prepared, work, lane, state, .. } = invocation;
    let function = prepared.profile().function.clone();
    let (jobs, job) = (jobs(&work), work.first().job);
    let events = work.members().iter().map(|member| member.event.id).collect();
    let report = prepared.run(&Attempt { work, lane, state });
    let completion = Completion {
        job,
        attempt,
        function,
        events,
        outcome: report.outcome,
        logs: report.logs,
        stats: report.stats,
    };
    (jobs, completion)
}

fn jobs(work: &Work) -> Vec<JobId> {
    work.members().iter().map(|member| member.job).collect()
}
