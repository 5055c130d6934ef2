//! What is published while the store has no room.
//!
//! # Invariants
//! - Without room nothing new is admitted: QoS 1 and 2 wait here unacked, in order, and their
//!   devices keep them; slots of schedules are missed. Outcomes of what was admitted, receipts and deletes go on.
//! - QoS 0 that would have to be stored is refused (the broker counts it as dropped); what only
//!   passes through to live sessions goes on.
//! - Bounded by the broker's ingress budget, in which a delivery counts until it is settled: over
//!   it, that socket is not read. What a session that has ended left behind is forgotten: its
//!   device sends it again.

use std::collections::VecDeque;

use edge_broker::broker::{Delivery, Settlement};
use edge_broker::codec::ReasonCode;
use edge_core::input::{Input, Patience};
use edge_core::message::QoS;
use edge_core::time::Millis;

use super::gateway::Gateway;
use super::plant::Moment;

/// How soon a store without room is looked at again.
const LOOK_AGAIN: Millis = Millis(250);
/// Messages waiting over which those of ended sessions are looked for.
const SWEEP_AT: usize = 1_024;

/// Whether the store has room, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Room {
    full: bool,
    waiting: VecDeque<Delivery>,
    sweep_at: usize,
}

impl Room {
    /// When [`Gateway::look_for_room`] is wanted.
    #[must_use]
    pub(super) fn next_deadline(&self, now: Millis) -> Option<Millis> {
        self.is_closed().then(|| now + LOOK_AGAIN)
    }

    /// Whether new messages have to wait, behind those that wait already.
    fn is_closed(&self) -> bool {
        self.full || !self.waiting.is_empty()
    }

    /// How many messages wait.
    #[must_use]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl Gateway {
    /// A client published.
    pub(super) fn delivered(&mut self, delivery: Delivery) {
        if !self.is_readable(&delivery.message) {
            // Sent again it would be as useless: acked, so that the device goes on.
            let settled = Settlement::Accepted;
            return self.with_broker(|broker, turn| broker.settle(delivery.token, settled, turn));
        }
        if !self.room.is_closed() {
            return self.admit(delivery);
        }
        match delivery.message.qos {
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                let Room { waiting, sweep_at, .. } = &mut self.room;
                waiting.push_back(delivery);
                if waiting.len() > (*sweep_at).max(SWEEP_AT) {
                    waiting.retain(|delivery| self.broker.awaits(&delivery.token));
                    // Each costs at most two looks.
                    *sweep_at = waiting.len() * 2;
                }
            }
            QoS::AtMostOnce if delivery.message.retain || self.core.wakes(&delivery.message) => {
                let refused = Settlement::Refused(ReasonCode::QuotaExceeded);
                self.with_broker(|broker, turn| broker.settle(delivery.token, refused, turn));
            }
            QoS::AtMostOnce => self.admit(delivery),
        }
    }

    /// Looks whether the store has room (again), and admits what waited for it.
    pub(super) fn look_for_room(&mut self) {
        let full = self.reader.headroom_bytes() == 0;
        if full != self.room.full {
            self.room.full = full;
            self.with_core(Input::Room { full });
            let waiting = self.room.waiting.len();
            if full {
                tracing::warn!("the store is full: nothing new is acked until there is room");
            } else {
                tracing::info!(waiting, "the store has room again");
            }
        }
        while !self.room.full
            && self.commit.has_room()
            && let Some(delivery) = self.room.waiting.pop_front()
        {
            if self.broker.awaits(&delivery.token) {
                self.admit(delivery);
                self.carry_out();
            }
        }
    }

    /// The gateway stops: what waits is refused, and its devices keep it.
    pub(super) fn refuse_waiting(&mut self) {
        while let Some(delivery) = self.room.waiting.pop_front() {
            self.admit(delivery);
        }
    }

    fn admit(&mut self, delivery: Delivery) {
        let patience = match delivery.message.qos {
            QoS::AtMostOnce => Patience::Immediate,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Patience::Holdable,
        };
        let message = delivery.message.clone();
        if self.plant.doubles() {
            let mut again = (*message).clone();
            again.properties.user.clear();
            self.with_core(Input::WillFired { message: again.into() });
        }
        let delivery = self.deliveries.keep(delivery);
        self.plant.reach(Moment::BeforeAdmit);
        self.with_core(Input::Delivered { delivery, message, patience });
        self.plant.reach(Moment::AfterAdmit);
    }
}
