//! Threads that run attempts, one each, below the gateway's loop in priority.
//!
//! # Invariants
//! - The queue holds at most as many invocations as there are workers; more are handed back.
//! - Every invocation taken ends in exactly one [`Completion`], whatever the function or the host
//!   code did, unless the process dies or [`Workers::stop`] drops it unstarted.
//! - While an attempt runs, its breadcrumb is in place.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use edge_core::effect::Work;
use edge_core::id::{AttemptId, EventId, FunctionId, JobId, LaneKey};
use edge_core::op::Event;
use edge_core::outcome::Outcome;

use super::attempt::{Attempt, LogLine, Report, Stats};
use super::breadcrumb::{Breadcrumbs, Crashed};
use super::fault;
use super::prepared::Runtime;
use super::seam::Runnable;
use super::state::StateView;

mod queue;

use queue::Queue;

/// Workers give way to the loop, the store and the transports.
const NICENESS: i32 = 5;
/// Stack of a worker beyond what the function may use.
pub(super) const HOST_STACK_BYTES: usize = 1 << 20;
/// How often attempts that must end are told so.
const END_EVERY: Duration = Duration::from_millis(10);

/// An attempt to be made.
pub struct Invocation {
    /// The attempt; handed back in the completion.
    pub attempt: AttemptId,
    /// Number of this run of the first job, for the breadcrumb.
    pub run: u32,
    /// The function.
    pub prepared: Arc<dyn Runnable>,
    /// The event, or the batch; the first job is handed back in the completion.
    pub work: Work,
    /// The lane that the job holds.
    pub lane: LaneKey,
    /// The applied state.
    pub state: Arc<dyn StateView>,
}

/// An attempt that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The job, of a batch the first one.
    pub job: JobId,
    /// The attempt.
    pub attempt: AttemptId,
    /// The function.
    pub function: FunctionId,
    /// The events that it worked on, in their order.
    pub events: Vec<EventId>,
    /// What it came to.
    pub outcome: Outcome,
    /// Lines it logged.
    pub logs: Vec<LogLine>,
    /// What it used.
    pub stats: Stats,
}

/// Called on the worker when an attempt begins, its breadcrumb in place, for each event of it; may
/// well never return.
pub type AttemptHook = Box<dyn Fn(&Event) + Send + Sync>;

/// The pool of worker threads. Dropping it stops it.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Queue<Invocation>,
    breadcrumbs: Option<Breadcrumbs>,
    hook: Option<AttemptHook>,
    on_done: Box<dyn Fn(Completion) + Send + Sync>,
}

impl Workers {
    /// Starts `count` workers for attempts that use up to `call_stack_bytes` of native stack
    /// ([`EngineSettings`](super::EngineSettings)); `count` must not be above its `slots`.
    /// `hook` is for tests. `on_done` is called on the worker threads and must not block.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn spawn(
        count: usize,
        call_stack_bytes: usize,
        breadcrumbs: Option<Breadcrumbs>,
        hook: Option<AttemptHook>,
        on_done: impl Fn(Completion) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let queue = Queue::new(count);
        let shared = Arc::new(Shared { queue, breadcrumbs, hook, on_done: Box::new(on_done) });
        let mut workers = Self { shared, threads: Vec::with_capacity(count) };
        for slot in 0..count {
            let worker = Worker { slot, shared: Arc::clone(&workers.shared) };
            let thread = thread::Builder::new()
                .name(format!("function-{slot}"))
                .stack_size(call_stack_bytes + HOST_STACK_BYTES)
                .spawn(move || worker.run())?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Queues an attempt for the next free worker.
    ///
    /// # Errors
    /// Hands it back when all workers are busy and as many attempts wait, or when stopping.
    pub fn submit(&self, invocation: Invocation) -> Result<(), Box<Invocation>> {
        self.shared.queue.push(invocation).map_err(Box::new)
    }

    /// Waits for the attempts in work; those still waiting are dropped unstarted, without a
    /// completion.
    pub fn stop(mut self) {
        self.halt();
    }

    /// Like [`Workers::stop`], but ends the attempts in work.
    pub fn stop_now(mut self, runtime: &Runtime) {
        self.shared.queue.stop();
        // Again and again: one that was just taken may not have set its deadline yet.
        while !self.threads.iter().all(JoinHandle::is_finished) {
            runtime.end_attempts();
            thread::sleep(END_EVERY);
        }
        self.halt();
    }

    fn halt(&mut self) {
        self.shared.queue.stop();
        for thread in mem::take(&mut self.threads) {
            if thread.join().is_err() {
                tracing::error!("a function worker had panicked");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.halt();
    }
}

struct Worker {
    slot: usize,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(&self) {
        // A container may forbid it; functions then share with the loop on equal terms.
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::debug!("a worker keeps its priority: {error}");
        }
        while let Some(invocation) = self.shared.queue.pop(self.slot) {
            (self.shared.on_done)(self.attempt(invocation));
        }
    }

    fn attempt(&self, invocation: Invocation) -> Completion {
        let Invocation { attempt, run, prepared, work, lane, state } = invocation;
        let crashed = Crashed::of(&work, run, prepared.profile());
        let (job, function) = (crashed.job, crashed.function.clone());
        let events: Vec<EventId> = work.members().iter().map(|member| member.event.id).collect();
        let crumb =
            self.shared.breadcrumbs.as_ref().map(|crumbs| crumbs.drop_one(self.slot, crashed));
        if let Some(Err(error)) = &crumb {
            tracing::warn!("an attempt runs without a breadcrumb: {error}");
        }
        if let Some(hook) = &self.shared.hook {
            work.members().iter().for_each(|member| hook(&member.event));
        }
        let attempted = Attempt { work, lane, state };
        let report = catch_unwind(AssertUnwindSafe(|| prepared.run(&attempted)));
        drop(crumb);
        let Report { outcome, logs, stats } =
            report.unwrap_or_else(|panic| host_panic(panic.as_ref()));
        Completion { job, attempt, function, events, outcome, logs, stats }
    }
}

fn host_panic(panic: &(dyn Any + Send)) -> Report {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let fault = fault::of_host(format!("the gateway failed while running the function: {text}"));
    Report { outcome: Outcome::Fault(fault), logs: Vec::new(), stats: Stats::default() }
}
