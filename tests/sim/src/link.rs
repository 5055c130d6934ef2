//! The gateway's end of the link: the real conversation (`uplink/session.rs`) carried out without
//! threads. What is sent is encoded and decoded by the sync protocol.

use std::collections::BTreeMap;

use edge_agent::agent::stepped::LinkStart;
use edge_agent::uplink::session::{Effect, Input, Session};
use edge_agent::uplink::{Heard, Outbox, RUN_BYTES_MAX, Say, convert};
use edge_core::time::Millis;
use sync_protocol::id::Digest;
use sync_protocol::record::Phase;
use sync_protocol::wire::{Down, Hello, Message, Records, StateReport, StreamPosition, Up};

use crate::time::MILLI;

/// The link of one life of the gateway.
pub struct SimLink {
    session: Session,
    epoch: u64,
    state: StateReport,
    outbox: Box<dyn Outbox>,
    heard: Box<dyn Fn(Heard) + Send>,
    began_us: u64,
    /// What is fetched; it outlives the connection, not the process.
    partial: BTreeMap<Digest, Vec<u8>>,
    fetching: Option<Digest>,
    /// Encoded messages for the control plane.
    sent: Vec<Vec<u8>>,
    /// Files that are complete: name and bytes.
    complete: Vec<(Digest, Vec<u8>)>,
    gives_up: bool,
}

/// Where a fetched file is.
#[must_use]
pub fn path(digest: Digest) -> String {
    format!("partial/{digest}")
}

impl SimLink {
    /// A link that is not connected.
    #[must_use]
    pub fn new(start: LinkStart, now_us: u64) -> Self {
        let mut link = Self {
            session: Session::new(start.streams.iter().map(|(stream, ..)| *stream), None),
            epoch: start.epoch,
            state: start.state,
            outbox: start.outbox,
            heard: start.heard,
            began_us: now_us,
            partial: BTreeMap::new(),
            fetching: None,
            sent: Vec::new(),
            complete: Vec::new(),
            gives_up: false,
        };
        for (stream, stored, durable) in start.streams {
            link.input(Input::Stored { stream, seq: stored }, now_us);
            link.input(Input::Durable { stream, seq: durable }, now_us);
        }
        link
    }

    /// What is to be sent since the last call.
    #[must_use]
    pub fn take_sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    /// Files that are complete; the gateway is told of each by [`SimLink::fetched`].
    #[must_use]
    pub fn take_complete(&mut self) -> Vec<(Digest, Vec<u8>)> {
        std::mem::take(&mut self.complete)
    }

    /// Tells the gateway that a file is where [`path`] says.
    pub fn fetched(&self, digest: Digest) {
        (self.heard)(Heard::Fetched { digest, result: Ok(path(digest).into()) });
    }

    /// Whether the connection is to be given up.
    #[must_use]
    pub fn take_gives_up(&mut self) -> bool {
        std::mem::take(&mut self.gives_up)
    }

    /// How far the gateway is with what it told of last.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.state.apps.first().map(|app| app.phase)
    }

    /// The connection is there.
    pub fn connected(&mut self, now_us: u64) {
        self.input(Input::Connected, now_us);
    }

    /// The connection is gone.
    pub fn disconnected(&mut self, now_us: u64) {
        self.input(Input::Disconnected, now_us);
        (self.heard)(Heard::Link { up: false, reason: "simulated cut".to_owned() });
    }

    /// The control plane spoke.
    pub fn hear(&mut self, bytes: &[u8], now_us: u64) {
        let down = Down::decode(bytes).expect("invariant: the simulated cloud speaks well");
        let was_up = self.session.is_up();
        self.input(Input::Down(Box::new(down)), now_us);
        if !was_up && self.session.is_up() {
            (self.heard)(Heard::Link { up: true, reason: String::new() });
        }
    }

    /// The gateway says something.
    pub fn say(&mut self, say: Say, now_us: u64) {
        match say {
            Say::Durable { stream, seq } => self.input(Input::Durable { stream, seq }, now_us),
            Say::State(state) => {
                self.state = state.clone();
                self.send_if_up(&Up::StateReport(state));
            }
            Say::Health(health) => self.send_if_up(&Up::Health(health)),
            Say::Reply(reply) => self.send_if_up(&Up::Reply(reply)),
            Say::Logs(logs) => self.send_if_up(&Up::Logs(logs)),
            Say::CancelFetch => {
                self.fetching = None;
                self.input(Input::CancelFetch, now_us);
            }
            Say::Fetch { digest, bytes_max } => {
                let have = self.partial.get(&digest).map_or(0, |bytes| bytes.len() as u64);
                self.fetching = Some(digest);
                self.input(Input::Fetch { digest, have, bytes_max }, now_us);
            }
        }
    }

    /// When [`SimLink::tick`] is due.
    #[must_use]
    pub fn due_us(&self) -> Option<u64> {
        self.session.deadline().map(|at| self.began_us + at.0 * MILLI)
    }

    /// Time has come.
    pub fn tick(&mut self, now_us: u64) {
        self.input(Input::Tick, now_us);
    }

    fn now(&self, now_us: u64) -> Millis {
        Millis(now_us.saturating_sub(self.began_us) / MILLI)
    }

    fn input(&mut self, input: Input, now_us: u64) {
        let now = self.now(now_us);
        let mut effects = Vec::new();
        self.session.handle(input, now, &mut effects);
        while !effects.is_empty() {
            let mut more = Vec::new();
            for effect in effects {
                self.effect(effect, now, &mut more);
            }
            effects = more;
        }
    }

    fn effect(&mut self, effect: Effect, now: Millis, more: &mut Vec<Effect>) {
        match effect {
            Effect::SayHello => self.send(&self.hello()),
            Effect::Publish(up) => self.send(&up),
            Effect::SendRun { stream, from, to } => self.send_run(stream, from, to, now, more),
            Effect::Compare { stream, seq, epoch } => {
                let found = self.outbox.read(stream, seq, seq, 1);
                let ours = found.is_ok_and(|records| {
                    let first = records.first();
                    first.is_some_and(|record| (record.seq.0, record.epoch.0) == (seq, epoch))
                });
                self.session.handle(Input::Compared { stream, ours }, now, more);
            }
            Effect::GoOnAfter { stream, seq } => (self.heard)(Heard::GoOnAfter { stream, seq }),
            Effect::Renumber { stream, positions } => {
                (self.heard)(Heard::Renumber { stream, positions });
            }
            Effect::Gap { stream, seq } => (self.heard)(Heard::Gap { stream, seq }),
            Effect::GiveUp(_) => self.gives_up = true,
            Effect::Receipt { stream, seq } => (self.heard)(Heard::Receipt { stream, seq }),
            Effect::Time(unix_ms) => (self.heard)(Heard::Time(unix_ms)),
            Effect::Desired(desired) => (self.heard)(Heard::Desired(desired)),
            Effect::Command(command) => (self.heard)(Heard::Command(command)),
            // This control plane asks for none.
            Effect::RenewCertificate | Effect::Certificate(_) => {}
            Effect::Append { digest, bytes, complete } => {
                assert_eq!(self.fetching, Some(digest), "one artifact is fetched at a time");
                self.partial.entry(digest).or_default().extend(bytes);
                if complete {
                    self.fetching = None;
                    self.complete.extend(self.partial.remove_entry(&digest));
                }
            }
            Effect::FetchFailed { digest, reason } => {
                self.fetching = None;
                (self.heard)(Heard::Fetched { digest, result: Err(reason) });
            }
        }
    }

    fn send_run(&mut self, stream: u8, from: u64, to: u64, now: Millis, more: &mut Vec<Effect>) {
        let Ok(records) = self.outbox.read(stream, from, to, RUN_BYTES_MAX) else {
            return self.session.not_read(stream, now, more);
        };
        let records: Vec<_> = records.into_iter().map(convert::record).collect();
        let last = records.last().map(|record| record.seq);
        if last.is_some() {
            self.send(&Up::Records(Records { stream, records }));
        }
        self.session.sent(stream, last, now, more);
    }

    fn hello(&self) -> Up {
        let streams = self.session.positions().map(|(stream, stored, durable)| StreamPosition {
            stream,
            first: stored + 1,
            last: durable.max(stored),
        });
        Up::Hello(Box::new(Hello {
            agent_version: "simulated".to_owned(),
            platform: "simulated".to_owned(),
            epoch: self.epoch,
            streams: streams.collect(),
            state: self.state.clone(),
        }))
    }

    fn send_if_up(&mut self, up: &Up) {
        if self.session.is_up() {
            self.send(up);
        }
    }

    fn send(&mut self, up: &Up) {
        let bytes = up.encode().expect("invariant: the gateway keeps the bounds of the protocol");
        self.sent.push(bytes);
    }
}
