//! The gateway's end of the link: the real conversation (`uplink/conversation.rs`) over queues. What
//! is sent is encoded and decoded by the sync protocol.

use edge_agent::agent::stepped::LinkStart;
use edge_agent::uplink::Say;
use edge_agent::uplink::conversation::{Conversation, Out, Start};
use edge_agent::uplink::partial::Partial;
use edge_core::time::Millis;
use sync_protocol::record::Phase;
use sync_protocol::wire::{Down, Message};

use crate::time::MILLI;

/// The link of one life of the gateway.
pub struct SimLink {
    conversation: Conversation,
    began_us: u64,
}

/// What the link wants done.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Encoded messages for the control plane.
    pub sent: Vec<Vec<u8>>,
    /// The connection is to be given up.
    pub gives_up: bool,
}

impl SimLink {
    /// A link that is not connected.
    #[must_use]
    pub fn new(start: LinkStart, partial: Box<dyn Partial>, now_us: u64) -> Self {
        let LinkStart { version, epoch, streams, state, outbox, heard, .. } = start;
        // Certificates are not simulated.
        let credentials = None;
        let start = Start {
            version,
            epoch,
            streams,
            state,
            credentials,
            rate: None,
            outbox,
            partial,
            heard,
        };
        Self { conversation: Conversation::new(start, Millis(0)), began_us: now_us }
    }

    /// What is wanted since the last call.
    #[must_use]
    pub fn take_wanted(&mut self, now_us: u64) -> Wanted {
        let mut wanted = Wanted::default();
        let now = self.now(now_us);
        while let Some(out) = self.conversation.next(now) {
            match out {
                Out::Publish(up) => {
                    let bytes = up.encode();
                    let bytes = bytes.expect("invariant: the gateway keeps the protocol's bounds");
                    wanted.sent.push(bytes);
                }
                Out::GiveUp(_) => wanted.gives_up = true,
            }
        }
        wanted
    }

    /// How far the gateway is with what it told of last.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.conversation.state().apps.first().map(|app| app.phase)
    }

    /// The connection is there.
    pub fn connected(&mut self, now_us: u64) {
        self.conversation.connected(self.now(now_us));
    }

    /// The connection is gone.
    pub fn disconnected(&mut self, now_us: u64) {
        self.conversation.disconnected("simulated cut".to_owned(), self.now(now_us));
    }

    /// The control plane spoke.
    pub fn hear(&mut self, bytes: &[u8], now_us: u64) {
        let down = Down::decode(bytes).expect("invariant: the simulated cloud speaks well");
        self.conversation.hear(down, self.now(now_us));
    }

    /// The gateway says something.
    pub fn say(&mut self, say: Say, now_us: u64) {
        self.conversation.say(say, self.now(now_us));
    }

    /// When [`SimLink::tick`] is due.
    #[must_use]
    pub fn due_us(&self) -> Option<u64> {
        self.conversation.deadline().map(|at| self.began_us + at.0 * MILLI)
    }

    /// Time has come.
    pub fn tick(&mut self, now_us: u64) {
        self.conversation.tick(self.now(now_us));
    }

    fn now(&self, now_us: u64) -> Millis {
        Millis(now_us.saturating_sub(self.began_us) / MILLI)
    }
}
