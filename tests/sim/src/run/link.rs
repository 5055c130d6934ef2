//! The link between gateway and control plane.

use sync_protocol::record::Phase;
use sync_protocol::wire::{Conflicts, Down, Message, Up};

use super::{Event, MILLI, Row, SECOND, Seen, Sim, SimLink};
use crate::link::Wanted;

impl Sim {
    pub(super) fn link_connect(&mut self) {
        let now = self.time.now();
        let may = self.link_conn.is_none() && !self.is_link_down;
        let Some(link) = self.link.as_mut().filter(|_| may) else { return };
        self.next_link_conn += 1;
        self.link_conn = Some(self.next_link_conn);
        link.connected(now);
        self.see(&Seen::Link { is_up: true });
        self.flush_link();
        self.cut_at_phase();
    }

    pub(super) fn link_tick(&mut self) {
        let now = self.time.now();
        if let Some(link) = &mut self.link {
            link.tick(now);
        }
        self.flush_link();
    }

    /// Sends what the link has made.
    pub(super) fn flush_link(&mut self) {
        let now = self.time.now();
        let Some(link) = &mut self.link else { return };
        let Wanted { sent, gives_up } = link.take_wanted(now);
        let Some(conn) = self.link_conn else { return };
        for bytes in sent {
            let at = self.later(Row::LinkUp, MILLI, 60 * MILLI);
            self.heap.put(at, Event::LinkUp(conn, bytes));
        }
        if gives_up {
            self.cut_link();
        }
    }

    /// The connection breaks: what is on its way is lost.
    pub(super) fn cut_link(&mut self) {
        if self.link_conn.take().is_none() {
            return;
        }
        self.count("link-cut");
        let now = self.time.now();
        if let Some(link) = &mut self.link {
            link.disconnected(now);
        }
        self.see(&Seen::Link { is_up: false });
        let at = now + self.rng.within(500 * MILLI, 20 * SECOND);
        self.heap.put(at, Event::LinkConnect { life: self.life });
    }

    /// Where the plan says so, the connection breaks when a deployment has come to a new phase:
    /// what tells of it is lost.
    pub(super) fn cut_at_phase(&mut self) {
        let is_cut = self.plan.cuts_at_phases && !self.is_quiet && self.link_conn.is_some();
        let Some(phase) = self.link.as_ref().and_then(SimLink::phase) else { return };
        if is_cut && self.cut_at.insert((self.cloud.generation(), phase)) {
            self.count(match phase {
                Phase::Fetching => "cut-in-fetching",
                Phase::Verifying => "cut-in-verifying",
                Phase::Preparing => "cut-in-preparing",
                Phase::Probation => "cut-in-probation",
                Phase::Live => "cut-in-live",
                Phase::Failed => "cut-in-failed",
                Phase::TakenBack => "cut-in-taken-back",
            });
            self.cut_link();
        }
    }

    pub(super) fn link_up(&mut self, conn: u64, bytes: &[u8]) {
        if self.link_conn != Some(conn) {
            return;
        }
        if self.chance(self.plan.ratios.link_cut) {
            return self.cut_link();
        }
        let up = Up::decode(bytes).expect("invariant: it was encoded by the same protocol");
        let mut news = Vec::new();
        let answers = self.cloud.hear(up, self.time.true_wall_ms(), &mut news);
        for record in news {
            self.see(&record.seen());
        }
        for answer in &answers {
            if let Down::Conflicts(Conflicts { stream, seq, .. }) = answer {
                self.see(&Seen::Receipted { stream: *stream, seq: *seq });
            }
            if let Down::Receipt(receipt) = answer {
                self.see(&Seen::Receipted { stream: receipt.stream, seq: receipt.seq });
                if self.chance(self.plan.ratios.twice) {
                    self.count("receipt-twice");
                    self.cloud_says(answer);
                }
            }
            self.cloud_says(answer);
        }
    }

    /// The control plane says something, if there is a connection.
    pub(super) fn cloud_says(&mut self, down: &Down) {
        let Some(conn) = self.link_conn else { return };
        let bytes = down.encode().expect("invariant: the simulated cloud keeps the bounds");
        let at = self.later(Row::LinkDown, MILLI, 60 * MILLI);
        self.heap.put(at, Event::LinkDown(conn, bytes));
    }

    pub(super) fn link_down(&mut self, conn: u64, bytes: &[u8]) {
        if self.link_conn != Some(conn) {
            return;
        }
        if self.chance(self.plan.ratios.link_cut) {
            return self.cut_link();
        }
        let now = self.time.now();
        if let Some(link) = &mut self.link {
            link.hear(bytes, now);
        }
        self.flush_link();
    }
}
