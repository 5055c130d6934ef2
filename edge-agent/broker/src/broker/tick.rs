//! What happens because time has passed.

use edge_core::time::Millis;

use super::timers::Timer;
use super::{Broker, BrokerEvent, BrokerOp, ConnId, SessionId, Turn};
use crate::codec::ReasonCode;

/// Timers handled and sessions served in one turn; the rest follows in the next.
const WORK_PER_TURN: usize = 256;

impl Broker {
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        for _ in 0..WORK_PER_TURN {
            let Some(timer) = self.timers.pop_due(turn.now.at) else { break };
            match timer {
                Timer::Auth(conn) => self.refuse(conn, ReasonCode::ServerBusy, None, turn),
                Timer::KeepAlive(conn) => self.check_keep_alive(conn, turn),
                Timer::Stall(conn) => {
                    let rule = "the connection takes nothing of what it is sent";
                    self.close(conn, ReasonCode::QuotaExceeded, Some(rule), turn);
                }
                Timer::Expiry(session) => self.expire_session(session, turn),
                Timer::PassOn(session) => self.pass_on_unsent(session, turn),
                Timer::Will(session) => self.will_due(session, turn),
                Timer::Retained => self.expire_retained(turn),
                Timer::Starved => self.feed_starved(turn),
            }
        }
        for session in self.replaying.iter().copied().take(8).collect::<Vec<_>>() {
            self.pump(session, turn);
        }
    }

    /// [MQTT-3.1.2-22]: one and a half times the keep alive without a packet. While the
    /// connection is not read, nothing could be heard, and the time stands still.
    fn check_keep_alive(&mut self, id: ConnId, turn: &mut Turn<'_>) {
        let Some(conn) = self.conns.get(&id) else { return };
        let Some(link) = conn.link() else { return };
        if conn.pause.any() {
            // Set again when it is read again.
            return;
        }
        let due = link.heard_at + link.keep_alive;
        if due > turn.now.at {
            return self.timers.set(Timer::KeepAlive(id), due);
        }
        self.close(id, ReasonCode::KeepAliveTimeout, None, turn);
    }

    fn expire_session(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        turn.event(BrokerEvent::SessionExpired {
            identity: session.identity.clone(),
            client_id: session.client_id.clone(),
        });
        self.end_session(id, turn);
    }

    fn will_due(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        self.fire_will(id, turn);
        // A session that was only kept for a will from before a restart.
        let only_will = |session: &super::Session| !session.persistent && session.conn.is_none();
        if self.sessions.get(&id).is_some_and(only_will) {
            self.end_session(id, turn);
        }
    }

    fn expire_retained(&mut self, turn: &mut Turn<'_>) {
        let mut left = WORK_PER_TURN;
        while left > 0
            && let Some(topic) = self.retained.pop_expired(turn.now.at)
        {
            turn.persist(BrokerOp::DeleteRetained { topic });
            left -= 1;
        }
        self.watch_retained();
        if left == 0 {
            self.timers.set(Timer::Retained, Millis::default());
        }
    }
}
