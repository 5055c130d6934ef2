//! Bugs and ends planted on purpose, for the test-only build `edge-agent-planted`. Without the
//! feature `plant` nothing here does anything.
//!
//! `HOLM_PLANT` names one:
//! - `ack-before-commit`, `double-apply`, `drop-outbox`: a bug that whoever claims to check this
//!   gateway must find (`cargo xtask demo --plant ...`).
//! - `delete-before-receipt`, `late-state`, `dedupe-off-by-one`, `batch-all-done`: bugs that the
//!   simulator must find, beside the first one (`tests/sim/tests/mutations.rs`).
//! - `kill:MOMENT:N`: the process gets a SIGKILL at its N-th passing of a [`Moment`], for example
//!   `kill:before-sync:17` (`cargo xtask kill --points`).
//! - `clock:FILE`: the system's clock shows what FILE says (`crate::system_clock`).
//! - `agent:crash`, `agent:hang`, `agent:deaf`: an update of the agent that ends at its start, whose
//!   loop stops turning, or that never calls the control plane (`docs/agent-updates.md`).
//! - `abort:TEXT`: an attempt whose event holds TEXT aborts the process, as broken native code
//!   would.

use edge_core::id::BatchSeq;
use edge_core::op::CoreOp;
use edge_core::outcome::Outcome;
use edge_core::time::Millis;

use crate::runtime::AttemptHook;
use crate::store;

/// Moments in the life of a message at which a planted agent may be ended. A test that ends it at
/// each of them shows that none loses or doubles anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "plant"), expect(dead_code, reason = "only planted agents name them"))]
pub(super) enum Moment {
    /// The core is about to be given a delivery.
    BeforeAdmit,
    /// The core has taken a delivery.
    AfterAdmit,
    /// A batch is about to be closed.
    BeforeSeal,
    /// A batch is on its way to the store thread.
    AfterSeal,
    /// A batch is written to the journal, not synced.
    BeforeSync,
    /// A batch is durable, and the loop does not know.
    AfterSync,
    /// Acks are about to be handed to the transport.
    BeforeAck,
    /// Acks were handed to the transport, and had the time to leave.
    AfterAck,
    /// A message is about to be given to the sessions that want it.
    BeforeRoute,
    /// A message was given to the sessions that want it.
    AfterRoute,
    /// The core is about to be told what the control plane has stored.
    BeforeReceipt,
    /// The core knows what the control plane has stored.
    AfterReceipt,
}

#[cfg(feature = "plant")]
pub(super) use planted::Plant;

#[cfg(feature = "plant")]
mod planted {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use edge_core::op::RecordBody;
    use rustix::process::{Signal, getpid, kill_process};

    use super::{AttemptHook, BatchSeq, CoreOp, Millis, Moment, Outcome, store};

    /// Every so-many-th time a planted bug strikes.
    const EVERY: u64 = 97;
    /// How long a planted early ack runs ahead of its commit.
    const COMMIT_LATE: Millis = Millis(500);
    /// How long acks that were handed to the transport are given to leave.
    const ACK_LEAVES: Duration = Duration::from_millis(20);

    /// What is planted into this process, if anything.
    #[derive(Clone, Debug, Default)]
    pub(in crate::agent) struct Plant {
        bug: String,
        kill: Option<Kill>,
        abort: Option<String>,
        count: u64,
        sealed_at: Millis,
        acked: u64,
        /// Operations kept out of their batch, with its ticket.
        late: Vec<(BatchSeq, CoreOp)>,
    }

    #[derive(Clone, Debug)]
    struct Kill {
        moment: String,
        left: Arc<AtomicU64>,
    }

    impl Plant {
        /// What `HOLM_PLANT` names.
        #[must_use]
        pub(in crate::agent) fn from_environment() -> Self {
            Self::named(&std::env::var("HOLM_PLANT").unwrap_or_default())
        }

        /// Nothing is planted yet.
        #[must_use]
        pub(in crate::agent) fn nothing() -> Self {
            Self::default()
        }

        /// What is planted, in the words of `HOLM_PLANT`.
        #[must_use]
        pub(in crate::agent) fn named(text: &str) -> Self {
            let mut words = text.splitn(3, ':');
            let word = words.next().unwrap_or_default();
            let kill = (word == "kill").then(|| {
                let moment = words.next().unwrap_or_default().to_owned();
                let nth = words.next().and_then(|nth| nth.parse().ok());
                let nth = nth.expect("HOLM_PLANT=kill:MOMENT:N, for example kill:before-sync:17");
                Kill { moment, left: Arc::new(AtomicU64::new(nth)) }
            });
            let abort = text.strip_prefix("abort:").map(str::to_owned);
            Self { bug: text.to_owned(), kill, abort, ..Self::default() }
        }

        /// The process may end here.
        pub(in crate::agent) fn reach(&self, moment: Moment) {
            let Some(kill) = self.kill.as_ref().filter(|kill| kill.moment == name(moment)) else {
                return;
            };
            if kill.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                if moment == Moment::AfterAck {
                    std::thread::sleep(ACK_LEAVES);
                }
                let killed = kill_process(getpid(), Signal::KILL);
                unreachable!("invariant: nobody outlives a SIGKILL: {killed:?}");
            }
        }

        /// For the moments that the store passes.
        #[must_use]
        pub(in crate::agent) fn store_hook(&self) -> Option<store::Hook> {
            let plant = self.clone();
            self.kill.as_ref()?;
            Some(Arc::new(move |point| match point {
                store::Point::AfterAppend => plant.reach(Moment::BeforeSync),
                store::Point::AfterSync => plant.reach(Moment::AfterSync),
                _ => {}
            }))
        }

        /// An agent that cannot live ends here.
        pub(in crate::agent) fn starts(&self) {
            if self.bug == "agent:crash" {
                std::process::abort();
            }
        }

        /// A loop that stops turning stops here, at the second question whether it turns.
        pub(in crate::agent) fn beats(&mut self) {
            if self.bug == "agent:hang" {
                self.count += 1;
            }
            while self.bug == "agent:hang" && self.count > 1 {
                std::thread::park();
            }
        }

        /// It never calls the control plane.
        #[must_use]
        pub(in crate::agent) fn is_deaf(&self) -> bool {
            self.bug == "agent:deaf"
        }

        /// For attempts that abort the process.
        #[must_use]
        pub(in crate::agent) fn attempt_hook(&self) -> Option<AttemptHook> {
            let text = self.abort.clone()?;
            Some(Box::new(move |event| {
                if String::from_utf8_lossy(&event.payload).contains(&text) {
                    std::process::abort();
                }
            }))
        }

        /// Whether acks were made since the last call; `acked` is the count of all.
        pub(in crate::agent) fn has_acks(&mut self, acked: u64) -> bool {
            std::mem::replace(&mut self.acked, acked) != acked
        }

        /// Acks leave before their batch is durable.
        #[must_use]
        pub(in crate::agent) fn acks_early(&self) -> bool {
            self.bug == "ack-before-commit"
        }

        /// The commit of an early ack is not due yet.
        pub(in crate::agent) fn holds_commit(&mut self, now: Millis) -> bool {
            if self.acks_early() && now.since(self.sealed_at) < COMMIT_LATE {
                return true;
            }
            self.sealed_at = now;
            false
        }

        /// When a commit that is held is due.
        #[must_use]
        pub(in crate::agent) fn next_deadline(&self) -> Option<Millis> {
            self.acks_early().then(|| self.sealed_at + COMMIT_LATE)
        }

        /// This message is worked on twice.
        pub(in crate::agent) fn doubles(&mut self) -> bool {
            self.bug == "double-apply" && self.strikes()
        }

        /// What a bug makes of an operation of the open batch; `None`: it is not in that batch.
        pub(in crate::agent) fn bend(&mut self, mut op: CoreOp, open: BatchSeq) -> Option<CoreOp> {
            match (&mut op, self.bug.as_str()) {
                (CoreOp::AppendOutbox(record), "drop-outbox") => {
                    let telemetry = matches!(record.body, RecordBody::Telemetry { .. });
                    (!telemetry || !self.strikes()).then_some(op)
                }
                (CoreOp::PutState { .. }, "late-state") => {
                    self.late.push((open, op));
                    None
                }
                (CoreOp::PutDedupe(row), "dedupe-off-by-one") => {
                    // The highest number is forgotten by the next start.
                    row.bits &= !(1 << row.bits.ilog2());
                    Some(op)
                }
                _ => Some(op),
            }
        }

        /// What a bug makes of an outcome: of a batch, events that failed are taken for done.
        #[must_use]
        pub(in crate::agent) fn bend_outcome(&self, mut outcome: Outcome) -> Outcome {
            if let Outcome::BatchDone(batch) = &mut outcome
                && self.bug == "batch-all-done"
            {
                batch.failures.clear();
            }
            outcome
        }

        /// Operations whose batch is closed, to be put into this one.
        pub(in crate::agent) fn take_late(&mut self, open: BatchSeq) -> Vec<CoreOp> {
            let late = self.late.extract_if(.., |(ticket, _)| *ticket < open);
            late.map(|(_, op)| op).collect()
        }

        /// Records are deleted as soon as they are durable.
        #[must_use]
        pub(in crate::agent) fn deletes_early(&self) -> bool {
            self.bug == "delete-before-receipt"
        }

        fn strikes(&mut self) -> bool {
            self.count += 1;
            self.count.is_multiple_of(EVERY)
        }
    }

    fn name(moment: Moment) -> &'static str {
        match moment {
            Moment::BeforeAdmit => "before-admit",
            Moment::AfterAdmit => "after-admit",
            Moment::BeforeSeal => "before-seal",
            Moment::AfterSeal => "after-seal",
            Moment::BeforeSync => "before-sync",
            Moment::AfterSync => "after-sync",
            Moment::BeforeAck => "before-ack",
            Moment::AfterAck => "after-ack",
            Moment::BeforeRoute => "before-route",
            Moment::AfterRoute => "after-route",
            Moment::BeforeReceipt => "before-receipt",
            Moment::AfterReceipt => "after-receipt",
        }
    }
}

/// Nothing is planted.
#[cfg(not(feature = "plant"))]
#[derive(Clone, Debug, Default)]
pub(super) struct Plant;

#[cfg(not(feature = "plant"))]
#[expect(clippy::unused_self, reason = "the planted one has something to look at")]
impl Plant {
    /// Nothing.
    #[must_use]
    pub(super) fn from_environment() -> Self {
        Self
    }

    /// Nothing.
    #[must_use]
    pub(super) fn nothing() -> Self {
        Self
    }

    /// Goes on.
    pub(super) fn starts(&self) {}

    /// Goes on.
    pub(super) fn beats(&mut self) {}

    /// Never.
    #[must_use]
    pub(super) fn is_deaf(&self) -> bool {
        false
    }

    /// Goes on.
    pub(super) fn reach(&self, _moment: Moment) {}

    /// None.
    #[must_use]
    pub(super) fn store_hook(&self) -> Option<store::Hook> {
        None
    }

    /// None.
    #[must_use]
    pub(super) fn attempt_hook(&self) -> Option<AttemptHook> {
        None
    }

    /// Nobody wants to know.
    pub(super) fn has_acks(&mut self, _acked: u64) -> bool {
        false
    }

    /// Never.
    #[must_use]
    pub(super) fn acks_early(&self) -> bool {
        false
    }

    /// Never.
    pub(super) fn holds_commit(&mut self, _now: Millis) -> bool {
        false
    }

    /// None.
    #[must_use]
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        None
    }

    /// Never.
    pub(super) fn doubles(&mut self) -> bool {
        false
    }

    /// Nothing.
    pub(super) fn bend(&mut self, op: CoreOp, _open: BatchSeq) -> Option<CoreOp> {
        Some(op)
    }

    /// The outcome.
    #[must_use]
    pub(super) fn bend_outcome(&self, outcome: Outcome) -> Outcome {
        outcome
    }

    /// None.
    pub(super) fn take_late(&mut self, _open: BatchSeq) -> Vec<CoreOp> {
        Vec::new()
    }

    /// Never.
    #[must_use]
    pub(super) fn deletes_early(&self) -> bool {
        false
    }
}
