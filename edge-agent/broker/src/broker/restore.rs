//! From rows to a broker, after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_core::id::BatchSeq;
use edge_core::time::Millis;

use super::queue::{Body, MessageCopy};
use super::session::{Session, StoredWill, Subscription};
use super::timers::Timer;
use super::{Broker, BrokerOp, Limits, SessionId, SessionRow, Turn, WillRow};

impl Broker {
    /// Rebuilds a broker from the rows in its store: the put operations that live, in any order.
    ///
    /// Sessions that were connected count as disconnected now, and their clients may have been
    /// sent anything that was queued. Wills fire after their delay, at least after
    /// `will_after_restart_s_min`, unless their client connects before. Rows that belong to no
    /// session are deleted.
    #[must_use]
    pub fn restore(
        limits: Limits,
        seed: u64,
        rows: impl IntoIterator<Item = BrokerOp>,
        turn: &mut Turn<'_>,
    ) -> Self {
        let mut broker = Self::new(limits, seed);
        broker.durable = BatchSeq(turn.open.0.saturating_sub(1));
        let mut sent_to = BTreeMap::new();
        let (mut wills, mut rest) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                BrokerOp::PutSession(row) => {
                    // Connected when the process ended: anything may have been sent.
                    let to = if row.disconnected_at.is_some() { row.sent_to } else { u64::MAX };
                    sent_to.insert(row.session, to);
                    broker.restore_session(&row, turn);
                }
                BrokerOp::PutWill(row) => wills.push(row),
                BrokerOp::PutRetained { message } => {
                    broker.retained.insert(&message, BatchSeq::default());
                }
                row => rest.push(row),
            }
        }
        for row in rest {
            broker.restore_part(row, &sent_to, turn);
        }
        for row in wills {
            broker.restore_will(row, turn);
        }
        broker.watch_retained();
        broker
    }

    fn restore_session(&mut self, row: &SessionRow, turn: &Turn<'_>) {
        let client_id: Arc<str> = Arc::from(row.client_id.as_str());
        let mut session = self.known(row.session, row.identity.clone(), Arc::clone(&client_id));
        session.persistent = true;
        session.expiry_s = row.expiry_s;
        self.totals.persistent += 1;
        let since = row.disconnected_at.unwrap_or(turn.now.at);
        let ends = since + Millis::from_secs(row.expiry_s.into());
        self.timers.set(Timer::Expiry(row.session), ends);
        self.sessions.insert(row.session, session);
    }

    /// A session with this number and owner.
    fn known(
        &mut self,
        id: SessionId,
        identity: edge_core::id::DeviceId,
        client_id: Arc<str>,
    ) -> Session {
        self.next_session = self.next_session.max(id.0 + 1);
        self.by_client.insert((identity.clone(), Arc::clone(&client_id)), id);
        Session::new(id, identity, client_id, self.limits.repeats_expected_max)
    }

    /// A row that belongs to a session.
    fn restore_part(
        &mut self,
        row: BrokerOp,
        sent_to: &BTreeMap<SessionId, u64>,
        turn: &mut Turn<'_>,
    ) {
        let id = match &row {
            BrokerOp::PutSubscription { session, .. }
            | BrokerOp::AppendMessage { session, .. }
            | BrokerOp::PutRelease { session, .. }
            | BrokerOp::PutInbound { session, .. } => *session,
            // Deletions are no rows, and the others were sorted out before.
            _ => return,
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return delete_row(row, turn);
        };
        match row {
            BrokerOp::PutSubscription { filter, options, subscription_id, .. } => {
                let subscription = Subscription { options, id: subscription_id };
                session.subscriptions.insert(filter.clone(), subscription);
                self.index(id, &filter, subscription);
            }
            BrokerOp::AppendMessage {
                n, qos, retain, subscription_ids, share, message, ..
            } => {
                let sent = sent_to.get(&id).is_some_and(|to| n <= *to);
                let copy = MessageCopy { message, qos, retain, subscription_ids, share };
                self.totals.queued.add(copy.cost_bytes());
                session.queue.restore(n, Body::Publish(copy), sent);
            }
            BrokerOp::PutRelease { n, .. } => session.queue.restore(n, Body::Release, true),
            BrokerOp::PutInbound { packet_id, .. } => session.inbound.restore(packet_id),
            _ => {}
        }
    }

    fn restore_will(&mut self, row: WillRow, turn: &mut Turn<'_>) {
        if !self.sessions.contains_key(&row.session) {
            // Its session ended with its connection; what is left of it is the will.
            let client_id: Arc<str> = Arc::from(row.client_id.as_str());
            if self.by_client.contains_key(&(row.identity.clone(), Arc::clone(&client_id))) {
                // A later session of the same client: it was back.
                return turn.persist(BrokerOp::DeleteWill { session: row.session });
            }
            let session = self.known(row.session, row.identity, client_id);
            self.sessions.insert(row.session, session);
        }
        let delay_s = row.delay_s.max(self.limits.will_after_restart_s_min);
        self.timers.set(Timer::Will(row.session), turn.now.at + Millis::from_secs(delay_s.into()));
        if let Some(session) = self.sessions.get_mut(&row.session) {
            session.will =
                Some(StoredWill { message: row.message, delay_s: row.delay_s, restored: true });
        }
    }
}

fn delete_row(row: BrokerOp, turn: &mut Turn<'_>) {
    let delete = match row {
        BrokerOp::PutSubscription { session, filter, .. } => {
            BrokerOp::DeleteSubscription { session, filter }
        }
        BrokerOp::AppendMessage { session, n, .. } => BrokerOp::DeleteMessage { session, n },
        BrokerOp::PutRelease { session, n } => BrokerOp::DeleteRelease { session, n },
        BrokerOp::PutInbound { session, packet_id } => {
            BrokerOp::DeleteInbound { session, packet_id }
        }
        _ => return,
    };
    turn.persist(delete);
}
