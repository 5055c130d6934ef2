//! Prepared functions and the workers that run them.

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_core::effect::Attempt;
use edge_core::id::{Digest, FunctionId};
use edge_core::outcome::{Fault, FaultKind, Outcome};

use super::inbox::{Inbound, Outlet};
use super::seams::Pool;
use crate::runtime::{Completion, Invocation, Runnable, StateView, Stats};

/// What is ready to run, by function and revision, and who runs it.
pub(super) struct Functions {
    prepared: BTreeMap<(FunctionId, Digest), Arc<dyn Runnable>>,
    pool: Box<dyn Pool>,
    workers: u16,
    state: Arc<dyn StateView>,
    outlet: Outlet,
    running: usize,
}

impl Functions {
    /// Nothing is ready yet.
    #[must_use]
    pub(super) fn new(
        pool: Box<dyn Pool>,
        workers: u16,
        state: Arc<dyn StateView>,
        outlet: Outlet,
    ) -> Self {
        Self { prepared: BTreeMap::new(), pool, workers, state, outlet, running: 0 }
    }

    /// Attempts at once, at most.
    #[must_use]
    pub(super) fn workers(&self) -> u16 {
        self.workers
    }

    /// A function of a revision can be run.
    pub(super) fn add(&mut self, prepared: Arc<dyn Runnable>) {
        let profile = prepared.profile();
        let key = (profile.function.clone(), profile.revision);
        self.prepared.insert(key, prepared);
    }

    /// Forgets revisions that are neither live nor kept to go back to.
    pub(super) fn keep_only(&mut self, keep: impl Fn(&Digest) -> bool) {
        self.prepared.retain(|(_, revision), _| keep(revision));
    }

    /// The function of a revision, where it is ready.
    #[must_use]
    fn get(&self, function: &FunctionId, revision: Digest) -> Option<&Arc<dyn Runnable>> {
        self.prepared.get(&(function.clone(), revision))
    }

    /// Hands an attempt to a worker. What cannot be handed over ends as a fault of the host.
    pub(super) fn start(&mut self, attempt: Attempt) {
        self.running += 1;
        let (job, id) = (attempt.job(), attempt.attempt);
        let events = attempt.work.members().iter().map(|member| member.event.id).collect();
        let why = match self.get(&attempt.function, attempt.revision) {
            None => "its revision is not prepared on this gateway",
            Some(prepared) => {
                let invocation = Invocation {
                    attempt: id,
                    run: attempt.run,
                    prepared: Arc::clone(prepared),
                    work: attempt.work,
                    lane: attempt.lane,
                    state: Arc::clone(&self.state),
                };
                match self.pool.submit(invocation) {
                    Ok(()) => return,
                    Err(_) => "no worker took it",
                }
            }
        };
        tracing::error!(function = %attempt.function, why, "attempt not started");
        let fault = Fault { kind: FaultKind::Host, message: why.to_owned() };
        self.outlet.tell(Inbound::Function(Completion {
            job,
            attempt: id,
            function: attempt.function,
            events,
            outcome: Outcome::Fault(fault),
            logs: Vec::new(),
            stats: Stats::default(),
        }));
    }

    /// An attempt has come back.
    pub(super) fn done(&mut self) {
        self.running = self.running.checked_sub(1).expect("invariant: what comes back was started");
    }

    /// Ends the workers. An attempt that still runs is ended too; its job is in the store, and the
    /// run is not counted as a crash.
    pub(super) fn stop(self) {
        self.pool.stop();
    }
}
