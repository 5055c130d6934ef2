//! The gateway's end of the conversation: what the session decides is carried out here, but for
//! time and transport, which the caller has.
//!
//! The uplink's driver runs it over an MQTT client, the simulator over queues.
//!
//! # Invariants
//! - After each call [`Conversation::next`] is to be asked until there is nothing: what is to be
//!   sent is made one message at a time, so that a transport that waits holds back the store's
//!   reader.
//! - A run of records counts as sent when the caller asks for what comes after it.

use std::collections::VecDeque;
use std::sync::Arc;

use edge_core::time::Millis;
use sync_protocol::enroll::EnrollRequest;
use sync_protocol::id::Digest;
use sync_protocol::record::Record;
use sync_protocol::wire::{Down, Hello, Records, StateReport, StreamPosition, Up};

use super::partial::Partial;
use super::rate::Rate;
use super::session::{Effect, Input, Session};
use super::{Heard, Outbox, Say, convert};
use crate::credentials::Credentials;

/// What a conversation is made with.
pub struct Start {
    /// Version of the agent, with its slot where it has one.
    pub version: String,
    /// The process run.
    pub epoch: u64,
    /// Per stream: number, last position stored by the control plane, last durable position.
    pub streams: Vec<(u8, u64, u64)>,
    /// Where the deployments stand.
    pub state: StateReport,
    /// What is shown to the control plane, to be renewed when it says so.
    pub credentials: Option<Arc<Credentials>>,
    /// How fast records may leave; `None`: as fast as they can.
    pub rate: Option<Rate>,
    /// Where records are read from.
    pub outbox: Box<dyn Outbox>,
    /// Where artifacts are kept while they are fetched.
    pub partial: Box<dyn Partial>,
    /// Whom to tell what was heard.
    pub heard: Box<dyn Fn(Heard) + Send>,
}

/// What the transport is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Out {
    /// Publish a message to the control plane.
    Publish(Up),
    /// Give this connection up and make a new one; the text says why.
    GiveUp(&'static str),
}

/// The conversation of one life of the gateway, over any number of connections.
pub struct Conversation {
    session: Session,
    version: String,
    epoch: u64,
    state: StateReport,
    credentials: Option<Arc<Credentials>>,
    outbox: Box<dyn Outbox>,
    partial: Box<dyn Partial>,
    heard: Box<dyn Fn(Heard) + Send>,
    /// The artifact that is being fetched.
    fetching: Option<Digest>,
    /// Not carried out yet.
    effects: VecDeque<Effect>,
    /// A run that was given to the transport: stream and last position.
    given: Option<(u8, u64)>,
}

impl Conversation {
    /// A conversation that is not connected.
    #[must_use]
    pub fn new(start: Start, now: Millis) -> Self {
        let numbers = start.streams.iter().map(|(stream, ..)| *stream);
        let mut conversation = Self {
            session: Session::new(numbers, start.rate),
            version: start.version,
            epoch: start.epoch,
            state: start.state,
            credentials: start.credentials,
            outbox: start.outbox,
            partial: start.partial,
            heard: start.heard,
            fetching: None,
            effects: VecDeque::new(),
            given: None,
        };
        for (stream, stored, durable) in start.streams {
            conversation.input(Input::Stored { stream, seq: stored }, now);
            conversation.input(Input::Durable { stream, seq: durable }, now);
        }
        conversation
    }

    /// The process run.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where the deployments stand, as it was last said.
    #[must_use]
    pub fn state(&self) -> &StateReport {
        &self.state
    }

    /// Whether the control plane has answered on this connection.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.session.is_up()
    }

    /// When [`Conversation::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.session.deadline()
    }

    /// Time has come.
    pub fn tick(&mut self, now: Millis) {
        self.input(Input::Tick, now);
    }

    /// The transport is connected and subscribed.
    pub fn connected(&mut self, now: Millis) {
        self.input(Input::Connected, now);
    }

    /// The transport is gone.
    pub fn disconnected(&mut self, reason: String, now: Millis) {
        self.input(Input::Disconnected, now);
        (self.heard)(Heard::Link { up: false, reason });
    }

    /// The control plane spoke.
    pub fn hear(&mut self, down: Down, now: Millis) {
        let was_up = self.is_up();
        self.input(Input::Down(Box::new(down)), now);
        if !was_up && self.is_up() {
            (self.heard)(Heard::Link { up: true, reason: String::new() });
        }
    }

    /// The loop says something.
    pub fn say(&mut self, say: Say, now: Millis) {
        match say {
            Say::Durable { stream, seq } => self.input(Input::Durable { stream, seq }, now),
            Say::State(state) => {
                self.state = state.clone();
                self.publish_if_up(Up::StateReport(state));
            }
            Say::Health(health) => self.publish_if_up(Up::Health(health)),
            Say::Reply(reply) => self.publish_if_up(Up::Reply(reply)),
            Say::Logs(logs) => self.publish_if_up(Up::Logs(logs)),
            Say::CancelFetch => {
                self.close_partial();
                self.input(Input::CancelFetch, now);
            }
            Say::Fetch { digest, bytes_max } => match self.partial.open(digest) {
                Ok(have) => {
                    self.fetching = Some(digest);
                    self.input(Input::Fetch { digest, have, bytes_max }, now);
                }
                Err(error) => self.cannot_write(digest, &error),
            },
        }
    }

    /// The next thing for the transport to do; `None` until something happens.
    pub fn next(&mut self, now: Millis) -> Option<Out> {
        if let Some((stream, last)) = self.given.take() {
            self.session_says(|session, out| session.sent(stream, Some(last), now, out));
        }
        while let Some(effect) = self.effects.pop_front() {
            let out = self.effect(effect, now);
            if out.is_some() {
                return out;
            }
        }
        None
    }

    fn input(&mut self, input: Input, now: Millis) {
        self.session_says(|session, out| session.handle(input, now, out));
    }

    fn session_says(&mut self, call: impl FnOnce(&mut Session, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        call(&mut self.session, &mut effects);
        self.effects.extend(effects);
    }

    fn effect(&mut self, effect: Effect, now: Millis) -> Option<Out> {
        match effect {
            Effect::SayHello => return Some(Out::Publish(self.hello())),
            Effect::Publish(up) => return Some(Out::Publish(up)),
            Effect::GiveUp(why) => return Some(Out::GiveUp(why)),
            Effect::RenewCertificate => return self.certificate_request(),
            Effect::Certificate(der) => self.take_certificate(der),
            Effect::SendRun { stream, from, to } => return self.run(stream, from, to, now),
            Effect::Compare { stream, seq, epoch } => self.compare(stream, seq, epoch, now),
            Effect::Append { digest, bytes, complete } => {
                self.append(digest, &bytes, complete, now);
            }
            Effect::FetchFailed { digest, reason } => {
                self.close_partial();
                self.tell(Heard::Fetched { digest, result: Err(reason) });
            }
            Effect::GoOnAfter { stream, seq } => self.tell(Heard::GoOnAfter { stream, seq }),
            Effect::Renumber { stream, positions } => {
                self.tell(Heard::Renumber { stream, positions });
            }
            Effect::Gap { stream, seq } => self.tell(Heard::Gap { stream, seq }),
            Effect::Receipt { stream, seq } => self.tell(Heard::Receipt { stream, seq }),
            Effect::Time(unix_ms) => self.tell(Heard::Time(unix_ms)),
            Effect::Desired(desired) => self.tell(Heard::Desired(desired)),
            Effect::Command(command) => self.tell(Heard::Command(command)),
        }
        None
    }

    /// Where this fails the control plane says it again at the next connection.
    fn certificate_request(&self) -> Option<Out> {
        let request = self.credentials.as_ref()?.request();
        match request {
            Ok(csr) => Some(Out::Publish(Up::CertificateRequest(EnrollRequest { csr }))),
            Err(error) => {
                tracing::error!(%error, "no key can be made for a new certificate");
                None
            }
        }
    }

    fn take_certificate(&self, der: Vec<u8>) {
        let Some(credentials) = &self.credentials else { return };
        match credentials.take(der) {
            Ok(()) => tracing::info!("the gateway's certificate is renewed"),
            Err(error) => {
                tracing::warn!(%error, "the new certificate is not taken, the old one stays");
            }
        }
    }

    fn tell(&self, heard: Heard) {
        (self.heard)(heard);
    }

    fn run(&mut self, stream: u8, from: u64, to: u64, now: Millis) -> Option<Out> {
        let bytes_max = self.session.run_bytes_max(now);
        let records = match self.outbox.read(stream, from, to, bytes_max) {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(%error, stream, "outbox cannot be read");
                self.session_says(|session, out| session.not_read(stream, now, out));
                return None;
            }
        };
        let records: Vec<Record> = records.into_iter().map(convert::record).collect();
        let Some(last) = records.last().map(|record| record.seq) else {
            self.session_says(|session, out| session.sent(stream, None, now, out));
            return None;
        };
        self.session.spent(records.iter().map(Record::wire_bytes).sum());
        self.given = Some((stream, last));
        Some(Out::Publish(Up::Records(Records { stream, records })))
    }

    /// Finds out whether the store's record at a position is of this process run.
    fn compare(&mut self, stream: u8, seq: u64, epoch: u64, now: Millis) {
        let found = self.outbox.read(stream, seq, seq, 1);
        let ours = found.is_ok_and(|records| {
            let first = records.first();
            first.is_some_and(|record| (record.seq.0, record.epoch.0) == (seq, epoch))
        });
        if !ours {
            tracing::warn!(
                stream,
                seq,
                "the control plane holds records of another life of this store: was an old copy \
                 of it restored?"
            );
        }
        self.input(Input::Compared { stream, ours }, now);
    }

    fn append(&mut self, digest: Digest, bytes: &[u8], complete: bool, now: Millis) {
        let Some(open) = self.fetching else { return };
        assert_eq!(open, digest, "one artifact is fetched at a time");
        match self.partial.append(bytes) {
            Ok(()) if !complete => {}
            Ok(()) => {
                self.fetching = None;
                let result = Ok(self.partial.complete());
                self.tell(Heard::Fetched { digest, result });
            }
            Err(error) => {
                self.close_partial();
                self.input(Input::CancelFetch, now);
                self.cannot_write(digest, &error);
            }
        }
    }

    fn close_partial(&mut self) {
        self.fetching = None;
        self.partial.close();
    }

    fn cannot_write(&self, digest: Digest, error: &std::io::Error) {
        let result = Err(format!("cannot write the artifact: {error}"));
        self.tell(Heard::Fetched { digest, result });
    }

    fn hello(&self) -> Up {
        let streams = self.session.positions().map(|(stream, stored, durable)| StreamPosition {
            stream,
            first: stored + 1,
            last: durable.max(stored),
        });
        Up::Hello(Box::new(Hello {
            agent_version: self.version.clone(),
            platform: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            epoch: self.epoch,
            streams: streams.collect(),
            state: self.state.clone(),
        }))
    }

    fn publish_if_up(&mut self, up: Up) {
        // What is lost here is said again: states with the next hello, the rest when asked.
        if self.is_up() {
            self.effects.push_back(Effect::Publish(up));
        }
    }
}

#[cfg(test)]
mod tests;
