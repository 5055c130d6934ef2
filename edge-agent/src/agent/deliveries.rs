//! Ack tokens whose answer is still open, under the numbers the core knows them by.
//!
//! Bounded by the broker's ingress budget: a delivery counts there until it is settled.

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_broker::broker::{AckToken, Delivery};
use edge_core::id::DeliveryId;
use edge_core::message::Message;

/// Open deliveries.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    next: u64,
    open: BTreeMap<DeliveryId, (AckToken, Arc<Message>)>,
}

impl Deliveries {
    /// Keeps a delivery until it is settled.
    pub(super) fn keep(&mut self, delivery: Delivery) -> DeliveryId {
        self.next += 1;
        let id = DeliveryId(self.next);
        self.open.insert(id, (delivery.token, delivery.message));
        id
    }

    /// The delivery that was settled.
    pub(super) fn take(&mut self, id: DeliveryId) -> Option<(AckToken, Arc<Message>)> {
        self.open.remove(&id)
    }
}
