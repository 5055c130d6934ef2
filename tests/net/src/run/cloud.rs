//! The control plane: its lives, and what it stores and answers.

use edge_broker::AckToken;
use edge_core::id::Digest;
use simulator::app::Kind;
use simulator::time::{MILLI, SECOND};
use sync_protocol::wire::{Down, Up};

use super::{CLOUD_ADDRESS, Event, Seen, Sim};
use crate::hub::Hub;

/// Bound from a break of the uplink to the next hello: the client gives a silent peer up after two
/// keep-alives, waits at most the longest back-off, connects within its time, or once more.
const LINK_BACK_US_MAX: u64 = (2 * 20 + 60 + 2 * 10 + 10) * SECOND;

/// What is known of the uplink.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    /// When its connection was broken last.
    pub(super) broken_us: u64,
    pub(super) is_down: bool,
    hello_us: u64,
    /// Since when both ends run and the link between them is up.
    healthy_since_us: Option<u64>,
    pub(super) back_us_max: u64,
}

impl Sim {
    pub(super) fn start_cloud(&mut self) {
        let seed = self.rng.draw();
        self.hub = Some(Hub::start(&self.net, CLOUD_ADDRESS.into(), seed));
    }

    /// The process is killed and starts after so long. What was stored stays; what it was about to
    /// answer is lost.
    pub(super) fn restart_cloud(&mut self, away_us: u64) {
        if self.hub.is_none() {
            return;
        }
        self.count("control-plane-restart");
        self.net.end_host(CLOUD_ADDRESS.into());
        self.hub = None;
        self.hub_life += 1;
        self.uplink.broken_us = self.now_us;
        self.put(self.now_us + away_us, Event::CloudStarts);
    }

    /// The loop takes what has come; storing takes a while.
    pub(super) fn step_hub(&mut self) {
        let now_ms = self.now_us / MILLI;
        let taken = self.hub.as_mut().map(|hub| hub.step(now_ms)).unwrap_or_default();
        for (token, up) in taken {
            // One transaction after the other, as with one store thread.
            self.stored_at_us = self.stored_at_us.max(self.now_us);
            self.stored_at_us += self.rng.within(200, 4 * MILLI);
            let at = self.stored_at_us;
            self.put(at, Event::Stored { life: self.hub_life, token, up: Box::new(up) });
        }
    }

    pub(super) fn stored(&mut self, token: AckToken, up: Up) {
        if matches!(up, Up::Hello(_)) {
            self.hello();
        }
        let mut news = Vec::new();
        let answers = self.cloud.hear(up, self.time.true_wall_ms(), &mut news);
        for record in news {
            self.see(&record.seen());
        }
        for answer in &answers {
            if let Down::Receipt(receipt) = answer {
                self.see(&Seen::Receipted { stream: receipt.stream, seq: receipt.seq });
            }
        }
        if let Some(hub) = &mut self.hub {
            hub.answer(token, &answers, self.now_us / MILLI);
        }
    }

    fn hello(&mut self) {
        if self.uplink.broken_us > self.uplink.hello_us {
            let since = self.uplink.healthy_since_us.unwrap_or(self.now_us);
            let back_us = self.now_us - since.max(self.uplink.broken_us).min(self.now_us);
            self.uplink.back_us_max = self.uplink.back_us_max.max(back_us);
            self.count("uplink-back");
        }
        self.uplink.hello_us = self.now_us;
    }

    /// A link whose ends run is made again within a bound.
    pub(super) fn judge_link(&mut self) {
        let is_healthy = !self.uplink.is_down && self.hub.is_some() && self.process.is_open();
        if !is_healthy {
            self.uplink.healthy_since_us = None;
            return;
        }
        let since = *self.uplink.healthy_since_us.get_or_insert(self.now_us);
        let broken_us = self.uplink.broken_us;
        let since = since.max(broken_us);
        if self.uplink.hello_us <= broken_us && self.now_us > since + LINK_BACK_US_MAX {
            let text = format!("no hello since {since} us, though both ends run");
            self.fail("link-back", text);
        }
    }

    /// The control plane states a new revision.
    pub(super) fn desire(&mut self, kind: Kind) {
        let revision = self.cloud.desire(kind);
        self.see(&Seen::Built { revision: Digest(revision.0), is_signed: true });
        let desired = self.cloud.desired();
        if let Some(hub) = &mut self.hub {
            hub.tell(&desired, self.now_us / MILLI);
        }
    }
}
