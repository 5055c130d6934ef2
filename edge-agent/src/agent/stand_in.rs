//! What goes on while the store cannot be opened (a disk that is read-only, full or broken): a
//! broker without a store, in place of the gateway, until the store is back.
//!
//! # Invariants
//! - Nothing is acked that would have to be stored. QoS 1 and 2 wait unacked, bounded by the
//!   broker's ingress budget; their devices keep them, and send them again to the gateway.
//! - A client that wants its session kept, or a will, is refused (quota exceeded): it would be told
//!   that it has no session, and forget what it has not been acked.
//! - QoS 0 passes between live clients. No function hears it, and nothing is retained.
//! - Nothing of it outlives it: its clients are disconnected when the gateway is back.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use edge_broker::broker::{
    AckToken, Broker, Delivery, Effect, Input, Limits as BrokerLimits, Settlement, Turn,
};
use edge_broker::codec::ReasonCode;
use edge_core::claim;
use edge_core::id::BatchSeq;
use edge_core::message::QoS;
use edge_core::time::Millis;
use serde_json::{Value, json};
use sync_protocol::wire::Request as Ask;
use tokio::sync::mpsc;

use super::access::{Access, Judged};
use super::clock::Clock;
use super::inbox::Inbound;
use super::seams::Network;
use crate::control::{Answer, Asked, Request};
use crate::last_errors::LastErrors;
use crate::supervisor::Supervisor;

/// Makes the client ids that it assigns; nothing of it is kept, so they need not differ.
const SEED: u64 = 1;

/// Longest wait without looking at the clock.
const LONGEST: Millis = Millis(60_000);

/// Messages waiting over which those of ended sessions are forgotten.
const SWEEP_AT: usize = 1_024;

/// A broker without a store.
pub(super) struct StandIn {
    name: String,
    why: String,
    addresses: Vec<String>,
    clock: Clock,
    broker: Broker,
    network: Box<dyn Network>,
    access: Access,
    open: BatchSeq,
    /// Acks that never come: the broker counts them against its budget.
    unacked: Vec<AckToken>,
    sweep_at: usize,
    errors: LastErrors,
}

/// The bounds of a broker that keeps nothing.
#[must_use]
fn limits(limits: &BrokerLimits) -> BrokerLimits {
    BrokerLimits {
        sessions_max: 0,
        sessions_per_identity_max: 0,
        will_bytes_max: 0,
        ..limits.clone()
    }
}

/// What happened.
enum Taken {
    Inbound(Inbound),
    Network(Input),
    Time,
}

impl StandIn {
    pub(super) fn new(
        name: &str,
        broker: &BrokerLimits,
        network: Box<dyn Network>,
        access: Access,
        clock: Clock,
        addresses: &[SocketAddr],
        errors: LastErrors,
    ) -> Self {
        Self {
            name: name.to_owned(),
            why: String::new(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            clock,
            broker: Broker::new(limits(broker), SEED),
            network,
            access,
            open: BatchSeq(1),
            unacked: Vec::new(),
            sweep_at: SWEEP_AT,
            errors,
        }
    }

    /// Serves for a while. True where a stop was asked for.
    pub(super) async fn serve(
        &mut self,
        within: Duration,
        why: &str,
        inbox: &mut mpsc::UnboundedReceiver<Inbound>,
        supervisor: &mut Supervisor,
    ) -> bool {
        why.clone_into(&mut self.why);
        let until = self.clock.now().at + Millis(u64::try_from(within.as_millis()).unwrap_or(0));
        loop {
            supervisor.beat(std::time::Instant::now());
            let now = self.clock.now().at;
            if now >= until {
                return false;
            }
            let due = self.broker.next_deadline().unwrap_or(until).min(until).min(now + LONGEST);
            let wait = self.clock.until(due).min(supervisor.longest_wait());
            let taken = tokio::select! {
                biased;
                Some(inbound) = inbox.recv() => Taken::Inbound(inbound),
                Some(input) = poll_fn(|context| self.network.poll_recv(context)) => Taken::Network(input),
                () = tokio::time::sleep(wait) => Taken::Time,
            };
            match taken {
                Taken::Inbound(Inbound::Stop) => return true,
                Taken::Inbound(inbound) => self.inbound(inbound),
                Taken::Network(input) => self.act(|broker, turn| broker.handle(input, turn)),
                Taken::Time => self.act(|broker, turn| broker.handle(Input::Tick, turn)),
            }
        }
    }

    fn inbound(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Asked(Asked { request, answer }) => {
                // A client that left is no error.
                let _ = answer.send(self.answer(&request));
            }
            Inbound::Password { name, proof, holds } => {
                let (waiting, outcome) = self.access.judged(&name, proof, holds);
                for conn in waiting {
                    let outcome = outcome.clone();
                    let input = Input::AuthDone { conn, outcome };
                    self.act(|broker, turn| broker.handle(input, turn));
                }
            }
            Inbound::Beat(beat) => {
                // Whoever left wants to know nothing.
                let _ = beat.send(());
            }
            // They belong to the life before.
            Inbound::Store(_)
            | Inbound::Function(_)
            | Inbound::Uplink(_)
            | Inbound::Prepared(_)
            | Inbound::Stop => {}
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let trouble = format!(
            "the store cannot be used, and is tried again by itself: {}. Nothing is acked, and \
             devices keep their messages; QoS 0 between connected clients goes on; {} messages wait",
            self.why,
            self.unacked.len()
        );
        match request {
            Request::Ask(Ask::Status) => Ok(self.status(&trouble)),
            _ => Err(trouble),
        }
    }

    fn status(&self, trouble: &str) -> Value {
        json!({
            "gateway": self.name,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.clock.uptime_s(),
            "listeners": self.addresses,
            "degraded": [trouble],
            "errors": self.errors.json(),
            "devices": {
                "connected": self.broker.status().connected,
                "sessions": self.broker.status().sessions,
            },
        })
    }

    /// One turn, with all that it causes.
    fn act(&mut self, act: impl FnOnce(&mut Broker, &mut Turn<'_>)) {
        let mut work = VecDeque::new();
        self.with_broker(&mut work, act);
        loop {
            while let Some(effect) = work.pop_front() {
                self.carry_out(effect, &mut work);
            }
            // What waits for a batch here waits for nothing: nothing is stored.
            let open = self.open;
            self.with_broker(&mut work, |broker, turn| broker.durable(open, turn));
            self.open = open.next();
            let mut sends = Vec::new();
            self.broker.flush(&mut sends);
            work.extend(sends);
            if work.is_empty() {
                return;
            }
        }
    }

    fn with_broker(
        &mut self,
        work: &mut VecDeque<Effect>,
        act: impl FnOnce(&mut Broker, &mut Turn<'_>),
    ) {
        let mut effects = Vec::new();
        let now = self.clock.now();
        act(&mut self.broker, &mut Turn { now, open: self.open, effects: &mut effects });
        work.extend(effects);
    }

    fn carry_out(&mut self, effect: Effect, work: &mut VecDeque<Effect>) {
        // Sends, pauses and closes are the transport's.
        let Some(effect) = self.network.apply(effect) else { return };
        match effect {
            Effect::Authenticate { conn, request } => {
                if let Judged::Now(outcome) = self.access.judge(conn, &request) {
                    let input = Input::AuthDone { conn, outcome };
                    self.with_broker(work, |broker, turn| broker.handle(input, turn));
                }
            }
            Effect::Deliver(delivery) => self.delivered(delivery, work),
            Effect::WillFired { message } => self.with_broker(work, |broker, turn| {
                broker.route(&message, turn);
            }),
            Effect::Event(event) => tracing::debug!(?event, "broker without a store"),
            // Rows of sessions that end with their connections.
            Effect::Persist(_) => {}
            Effect::Send { .. }
            | Effect::PauseRead { .. }
            | Effect::ResumeRead { .. }
            | Effect::Close { .. } => {
                unreachable!("invariant: the transport carries these out")
            }
        }
    }

    fn delivered(&mut self, delivery: Delivery, work: &mut VecDeque<Effect>) {
        let Delivery { token, message, .. } = delivery;
        if message.qos != QoS::AtMostOnce {
            self.unacked.push(token);
            if self.unacked.len() > self.sweep_at {
                self.unacked.retain(|token| self.broker.awaits(token));
                // Each costs at most two looks.
                self.sweep_at = (self.unacked.len() * 2).max(SWEEP_AT);
            }
            return;
        }
        let settlement = if message.retain {
            Settlement::Refused(ReasonCode::QuotaExceeded)
        } else if claim::check(&message).is_err() {
            Settlement::Refused(ReasonCode::NotAuthorized)
        } else {
            self.with_broker(work, |broker, turn| {
                broker.route(&message, turn);
            });
            Settlement::Accepted
        };
        self.with_broker(work, |broker, turn| broker.settle(token, settlement, turn));
    }
}

#[cfg(test)]
mod tests;
