//! SUBSCRIBE and UNSUBSCRIBE (3.8 to 3.11).

use edge_core::id::BatchSeq;
use edge_core::message::QoS;
use edge_core::topic::TopicFilter;

use super::session::Replay;
use super::{Broker, BrokerOp, ConnId, SessionId, Turn};
use crate::codec::{
    AckList, Packet, ReasonCode, RetainHandling, Subscribe, SubscribeOptions, Unsubscribe,
};

impl Broker {
    pub(super) fn subscribe(&mut self, conn: ConnId, subscribe: Subscribe, turn: &mut Turn<'_>) {
        let Some(link) = self.conns.get(&conn).and_then(|conn| conn.link()) else { return };
        let (id, principal) = (link.session, link.principal.clone());
        let by_id = subscribe.subscription_id.is_some();
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        let mut stored = false;
        for (filter, options) in subscribe.filters {
            let refusal = if by_id {
                // 3.2.2.3.12: the CONNACK said that there are none.
                Some(ReasonCode::SubscriptionIdentifiersNotSupported)
            } else if filter.is_shared() {
                // 3.2.2.3.13
                Some(ReasonCode::SharedSubscriptionsNotSupported)
            } else if !principal.may_subscribe(&filter) {
                Some(ReasonCode::NotAuthorized)
            } else {
                None
            };
            reasons.push(match refusal {
                Some(reason) => reason,
                None => match self.add_subscription(id, filter, options, turn) {
                    Ok(persisted) => {
                        stored |= persisted;
                        granted(options.qos)
                    }
                    Err(reason) => reason,
                },
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
        options: SubscribeOptions,
        turn: &mut Turn<'_>,
    ) -> Result<bool, ReasonCode> {
        let session = self.sessions.get_mut(&id).ok_or(ReasonCode::Unspecified)?;
        let old = session.subscriptions.get(&filter).copied();
        if old.is_none() && session.subscriptions.len() >= self.limits.subscriptions_max {
            return Err(ReasonCode::QuotaExceeded);
        }
        if old.is_none() {
            let bytes = self.totals.subscription_bytes + index_bytes(&filter);
            if bytes > self.limits.subscription_bytes_max {
                return Err(ReasonCode::QuotaExceeded);
            }
            self.totals.subscription_bytes = bytes;
        }
        // [MQTT-3.8.4-3]: the new one replaces the old one.
        if let Some(old) = old {
            self.index.remove(&filter, &(id, old));
        }
        self.index.insert(&filter, (id, options));
        session.subscriptions.insert(filter.clone(), options);
        let replay = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => old.is_none(),
            RetainHandling::Never => false,
        };
        if replay {
            session.replays.retain(|replay| replay.filter != filter);
            session.replays.push_back(Replay {
                filter: filter.clone(),
                qos: options.qos,
                no_local: options.no_local,
                after: None,
            });
        }
        if session.persistent {
            turn.persist(BrokerOp::PutSubscription { session: id, filter, options });
        }
        Ok(session.persistent)
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
pub(super) fn index_bytes(filter: &TopicFilter) -> usize {
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
