//! SUBSCRIBE and UNSUBSCRIBE (3.8 to 3.11).

use edge_core::id::BatchSeq;
use edge_core::message::QoS;
use edge_core::topic::TopicFilter;

use super::session::{Replay, Subscription};
use super::{Broker, BrokerOp, ConnId, SessionId, Turn};
use crate::codec::{AckList, Packet, ReasonCode, RetainHandling, Subscribe, Unsubscribe};

impl Broker {
    pub(super) fn subscribe(&mut self, conn: ConnId, subscribe: Subscribe, turn: &mut Turn<'_>) {
        let Some(link) = self.conns.get(&conn).and_then(|conn| conn.link()) else { return };
        let (id, principal) = (link.session, link.principal.clone());
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        let mut stored = false;
        for (filter, options) in subscribe.filters {
            let subscription = Subscription { options, id: subscribe.subscription_id };
            let added = if principal.may_subscribe(&filter) {
                self.add_subscription(id, filter, subscription, turn)
            } else {
                Err(ReasonCode::NotAuthorized)
            };
            reasons.push(match added {
                Ok(persisted) => {
                    stored |= persisted;
                    granted(options.qos)
                }
                Err(reason) => reason,
            });
        }
        let batch = if stored { turn.open } else { BatchSeq::default() };
        let suback = AckList { packet_id: subscribe.packet_id, reasons };
        self.park(conn, id, batch, Packet::SubAck(suback), turn);
        self.release(id, turn);
    }

    /// Adds or replaces a subscription. Tells whether it has a row.
    fn add_subscription(
        &mut self,
        id: SessionId,
        filter: TopicFilter,
        subscription: Subscription,
        turn: &mut Turn<'_>,
    ) -> Result<bool, ReasonCode> {
        let session = self.sessions.get(&id).ok_or(ReasonCode::Unspecified)?;
        let old = session.subscriptions.get(&filter).copied();
        if old.is_none() {
            let bytes = self.totals.subscription_bytes + index_bytes(&filter);
            if session.subscriptions.len() >= self.limits.subscriptions_max
                || bytes > self.limits.subscription_bytes_max
                || self.shares.members(&filter) >= self.limits.share_members_max
            {
                return Err(ReasonCode::QuotaExceeded);
            }
        }
        // [MQTT-3.8.4-3]: the new one replaces the old one.
        if let Some(old) = old {
            self.unindex(id, &filter, old);
        }
        self.index(id, &filter, subscription);
        let session = self.sessions.get_mut(&id).ok_or(ReasonCode::Unspecified)?;
        session.subscriptions.insert(filter.clone(), subscription);
        let replay = match subscription.options.retain_handling {
            // 4.8.2: a shared subscription gets none.
            _ if filter.is_shared() => false,
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => old.is_none(),
            RetainHandling::Never => false,
        };
        if replay {
            session.replays.retain(|replay| replay.filter != filter);
            let filter = filter.clone();
            session.replays.push_back(Replay { filter, subscription, after: None });
        }
        let persistent = session.persistent;
        if persistent {
            let Subscription { options, id: subscription_id } = subscription;
            turn.persist(BrokerOp::PutSubscription {
                session: id,
                filter,
                options,
                subscription_id,
            });
        }
        Ok(persistent)
    }

    /// Lets messages find a subscription.
    pub(super) fn index(&mut self, id: SessionId, filter: &TopicFilter, it: Subscription) {
        self.totals.subscription_bytes += index_bytes(filter);
        if filter.is_shared() {
            self.shares.join(filter, id, it);
        } else {
            self.index.insert(filter, (id, it));
        }
    }

    /// No message finds it any more.
    pub(super) fn unindex(&mut self, id: SessionId, filter: &TopicFilter, it: Subscription) {
        self.totals.subscription_bytes -= index_bytes(filter);
        if filter.is_shared() {
            self.shares.leave(filter, id);
        } else {
            self.index.remove(filter, &(id, it));
        }
    }

    pub(super) fn unsubscribe(
        &mut self,
        conn: ConnId,
        unsubscribe: &Unsubscribe,
        turn: &mut Turn<'_>,
    ) {
        let Some(link) = self.conns.get(&conn).and_then(|conn| conn.link()) else { return };
        let id = link.session;
        let mut reasons = Vec::with_capacity(unsubscribe.filters.len());
        let mut any = false;
        for filter in &unsubscribe.filters {
            let existed = self.remove_subscription(id, filter, turn);
            any |= existed;
            reasons.push(if existed {
                ReasonCode::Success
            } else {
                ReasonCode::NoSubscriptionExisted
            });
        }
        let persistent = self.sessions.get(&id).is_some_and(|session| session.persistent);
        let batch = if any && persistent { turn.open } else { BatchSeq::default() };
        let unsuback = AckList { packet_id: unsubscribe.packet_id, reasons };
        self.park(conn, id, batch, Packet::UnsubAck(unsuback), turn);
        self.release(id, turn);
    }
}

/// About what a subscription takes in the index, if it shares no level with another.
fn index_bytes(filter: &TopicFilter) -> usize {
    const SUBSCRIPTION_BYTES: usize = 128;
    const LEVEL_BYTES: usize = 224;
    let levels = filter.as_str().split('/').count();
    SUBSCRIPTION_BYTES + levels * LEVEL_BYTES + 2 * filter.as_str().len()
}

fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}
