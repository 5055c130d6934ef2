//! Carrying out what broker and core want done.

use std::sync::Arc;

use edge_broker::broker::{self, Settlement};
use edge_broker::codec::ReasonCode;
use edge_core::claim::ClaimError;
use edge_core::effect::{Attempt, Effect, Pace, RefusedReason, Verdict};
use edge_core::id::DeliveryId;
use edge_core::input::Input;
use edge_core::message::Message;
use edge_core::op::CoreOp;

use super::access::Judged;
use super::gateway::{Gateway, Work};
use super::plant::Moment;
use crate::runtime;
use crate::store::Op;

impl Gateway {
    /// Carries out everything that is to be done, and what that causes.
    pub(super) fn carry_out(&mut self) {
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::Broker(effect) => self.broker_effect(effect),
                Work::Core(effect) => self.core_effect(effect),
            }
        }
    }

    fn broker_effect(&mut self, effect: broker::Effect) {
        // Sends, pauses and closes are the transport's.
        let Some(effect) = self.network.apply(effect) else { return };
        match effect {
            broker::Effect::Authenticate { conn, request } => {
                if let Judged::Now(outcome) = self.access.judge(conn, &request) {
                    let input = broker::Input::AuthDone { conn, outcome };
                    self.with_broker(|broker, turn| broker.handle(input, turn));
                }
            }
            broker::Effect::Deliver(delivery) => self.delivered(delivery),
            broker::Effect::WillFired { message } => self.will_fired(&message),
            broker::Effect::Persist(op) => {
                let pace = if op.is_lazy() { Pace::Lazy } else { Pace::Prompt };
                self.commit.push(Op::Broker(op), pace, self.now.at);
            }
            broker::Effect::Event(event) => {
                self.watch_clients(&event);
                self.telemetry.broker(&event, self.now.at);
            }
            broker::Effect::Send { .. }
            | broker::Effect::PauseRead { .. }
            | broker::Effect::ResumeRead { .. }
            | broker::Effect::Close { .. } => {
                unreachable!("invariant: the transport carries these out")
            }
        }
    }

    fn core_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Op(op, pace) => self.core_op(op, pace),
            Effect::Settle { delivery, verdict, pace } => {
                self.settle(delivery, &verdict, pace);
            }
            Effect::Start(attempt) => match attempt.after_durable {
                Some(pace) => {
                    self.commit.awaited(pace, self.now.at);
                    self.after_durable.push_back((self.commit.open(), attempt));
                }
                None => self.start(*attempt),
            },
            Effect::Publish(message, pace) => {
                self.commit.awaited(pace, self.now.at);
                self.route(&message);
            }
            Effect::ProbationPassed { app, revision } => self.probation_passed(&app, revision),
            Effect::ProbationFailed { app, revision, reason } => {
                self.probation_failed(&app, revision, reason);
            }
            Effect::Quiesced { app } => self.quiesced(&app),
            Effect::OutboxGrew { stream, newest } => {
                self.grown.push_back((self.commit.open(), stream.0, newest.0));
            }
            Effect::ReadRun { stream, first, last } => self.read_run(stream, first, last),
            Effect::Idle => self.idle = true,
            Effect::Event(event) => {
                self.telemetry.core(&event, self.now);
                self.notice(&event);
            }
        }
    }

    fn settle(&mut self, delivery: DeliveryId, verdict: &Verdict, pace: Pace) {
        let Some((token, message)) = self.deliveries.take(delivery) else { return };
        let say = self.desk.judged(&message, verdict, self.now);
        self.desk_says(say);
        let settlement = match verdict {
            Verdict::Accepted { .. } | Verdict::Shed { .. } => {
                self.route(&message);
                self.desk_hears(&message);
                Settlement::Accepted
            }
            Verdict::Duplicate => Settlement::Accepted,
            Verdict::Refused { reason } => refusal(*reason),
        };
        self.commit.awaited(pace, self.now.at);
        self.with_broker(|broker, turn| broker.settle(token, settlement, turn));
        if self.plant.acks_early() {
            let open = self.commit.open();
            self.with_broker(|broker, turn| broker.durable(open, turn));
        }
    }

    pub(super) fn start(&mut self, attempt: Attempt) {
        self.commit.job_started(attempt.job());
        self.functions.start(attempt);
    }

    /// Gives a message to the sessions that want it, in the open batch.
    pub(super) fn route(&mut self, message: &Arc<Message>) {
        self.plant.reach(Moment::BeforeRoute);
        self.with_broker(|broker, turn| {
            broker.route(message, turn);
        });
        self.plant.reach(Moment::AfterRoute);
    }

    pub(super) fn core_op(&mut self, op: CoreOp, pace: Pace) {
        let Some(op) = self.plant.bend(op, self.commit.open()) else { return };
        self.state.applied(&op);
        self.commit.push(Op::Core(op), pace, self.now.at);
    }

    pub(super) fn function_done(&mut self, done: runtime::Completion) {
        self.commit.job_stopped(done.job);
        self.telemetry.attempt(&done, self.now);
        self.functions.done();
        let runtime::Completion { job, attempt, outcome, stats, .. } = done;
        let (outcome, ran_us) = (self.plant.bend_outcome(outcome), stats.wall_us);
        self.with_core(Input::Finished { job, attempt, outcome, ran_us });
    }
}

/// What a client is told of a refusal.
fn refusal(reason: RefusedReason) -> Settlement {
    match reason {
        RefusedReason::Stopping => Settlement::Refused(ReasonCode::ServerShuttingDown),
        RefusedReason::Claim(claim) => {
            let code = match claim {
                ClaimError::Envelope(_) => ReasonCode::PayloadFormatInvalid,
                ClaimError::Device | ClaimError::Time => ReasonCode::NotAuthorized,
            };
            Settlement::Explained(code, claim.reason())
        }
    }
}
