//! Carries out the session's effects: reads the outbox, publishes, writes fetched artifacts.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edge_core::time::Millis;
use sync_protocol::enroll::EnrollRequest;
use sync_protocol::id::Digest;
use sync_protocol::topics;
use sync_protocol::wire::{
    Down, Hello, Message, Presence, Records, StateReport, StreamPosition, Up,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::mqtt::{self, Receiver, Report, Sender};
use super::session::{Effect, Input, Session};
use super::{Heard, Outbox, Say, Setup, convert};
use crate::credentials::Credentials;

/// How long a stop waits for the client to say goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

struct Driver<O, H> {
    session: Session,
    sender: Sender,
    outbox: O,
    heard: H,
    gateway: String,
    credentials: Option<Arc<Credentials>>,
    epoch: u64,
    state: StateReport,
    partial_dir: PathBuf,
    partial: Option<(Digest, File)>,
    started: Instant,
}

pub(super) async fn run(
    setup: Setup,
    outbox: impl Outbox,
    mut saying: mpsc::UnboundedReceiver<Say>,
    stopped: oneshot::Receiver<()>,
    heard: impl Fn(Heard) + Send + 'static,
) {
    let (sender, mut receiver, polling) = mqtt::connect(setup.endpoint, Backoff::new(setup.seed));
    let polling = tokio::spawn(polling);
    let mut driver = Driver {
        session: Session::new(setup.streams.iter().map(|(stream, ..)| *stream), setup.rate),
        sender,
        outbox,
        heard,
        gateway: setup.gateway,
        credentials: setup.credentials,
        epoch: setup.epoch,
        state: setup.state,
        partial_dir: setup.partial_dir,
        partial: None,
        started: Instant::now(),
    };
    for (stream, stored, durable) in setup.streams {
        driver.input(Input::Stored { stream, seq: stored }).await;
        driver.input(Input::Durable { stream, seq: durable }).await;
    }
    // A stop does not wait for what is being sent: the store keeps it.
    tokio::select! {
        () = driver.converse(&mut receiver, &mut saying) => {}
        _ = stopped => {}
    }
    driver.goodbye(&mut receiver).await;
    polling.abort();
}

impl<O: Outbox, H: Fn(Heard)> Driver<O, H> {
    /// Until the transport or the loop is gone.
    async fn converse(
        &mut self,
        receiver: &mut Receiver,
        saying: &mut mpsc::UnboundedReceiver<Say>,
    ) {
        loop {
            let deadline = self.session.deadline();
            let due =
                self.started + Duration::from_millis(deadline.map_or(u64::MAX >> 24, |at| at.0));
            tokio::select! {
                report = receiver.next() => match report {
                    Some(report) => self.report(report).await,
                    None => return,
                },
                say = saying.recv() => match say {
                    Some(say) => self.say(say).await,
                    None => return,
                },
                () = sleep_until(due) => self.input(Input::Tick).await,
            }
        }
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Connected => {
                self.present(Presence::Online { epoch: self.epoch }).await;
                self.input(Input::Connected).await;
            }
            Report::Disconnected(reason) => {
                tracing::info!(reason, "control plane unreachable");
                self.input(Input::Disconnected).await;
                (self.heard)(Heard::Link { up: false, reason });
            }
            Report::Message(bytes) => match Down::decode(&bytes) {
                Ok(down) => {
                    let was_up = self.session.is_up();
                    self.input(Input::Down(Box::new(down))).await;
                    if !was_up && self.session.is_up() {
                        (self.heard)(Heard::Link { up: true, reason: String::new() });
                    }
                }
                Err(err) => tracing::warn!(%err, "the control plane is not understood"),
            },
        }
    }

    async fn say(&mut self, say: Say) {
        match say {
            Say::Durable { stream, seq } => self.input(Input::Durable { stream, seq }).await,
            Say::State(state) => {
                self.state = state.clone();
                self.publish_if_up(&Up::StateReport(state)).await;
            }
            Say::Health(health) => self.publish_if_up(&Up::Health(health)).await,
            Say::Reply(reply) => self.publish_if_up(&Up::Reply(reply)).await,
            Say::Logs(logs) => self.publish_if_up(&Up::Logs(logs)).await,
            Say::CancelFetch => {
                self.partial = None;
                self.input(Input::CancelFetch).await;
            }
            Say::Fetch { digest, bytes_max } => match self.open_partial(digest) {
                Ok(have) => self.input(Input::Fetch { digest, have, bytes_max }).await,
                Err(err) => {
                    let reason = format!("cannot write the artifact: {err}");
                    (self.heard)(Heard::Fetched { digest, result: Err(reason) });
                }
            },
        }
    }

    async fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.session.handle(input, self.now(), &mut effects);
        while !effects.is_empty() {
            let mut more = Vec::new();
            for effect in effects {
                self.effect(effect, &mut more).await;
            }
            effects = more;
        }
    }

    async fn effect(&mut self, effect: Effect, more: &mut Vec<Effect>) {
        match effect {
            Effect::SayHello => self.publish(&self.hello()).await,
            Effect::Publish(up) => self.publish(&up).await,
            Effect::SendRun { stream, from, to } => self.send_run(stream, from, to, more).await,
            Effect::Compare { stream, seq, epoch } => {
                let ours = self.is_ours(stream, seq, epoch);
                if !ours {
                    tracing::warn!(
                        stream,
                        seq,
                        "the control plane holds records of another life of this store: was an \
                         old copy of it restored?"
                    );
                }
                self.session.handle(Input::Compared { stream, ours }, self.now(), more);
            }
            Effect::GoOnAfter { stream, seq } => (self.heard)(Heard::GoOnAfter { stream, seq }),
            Effect::Renumber { stream, positions } => {
                (self.heard)(Heard::Renumber { stream, positions });
            }
            Effect::Gap { stream, seq } => (self.heard)(Heard::Gap { stream, seq }),
            Effect::GiveUp(why) => self.sender.give_up(why),
            Effect::Receipt { stream, seq } => (self.heard)(Heard::Receipt { stream, seq }),
            Effect::Time(unix_ms) => (self.heard)(Heard::Time(unix_ms)),
            Effect::Desired(desired) => (self.heard)(Heard::Desired(desired)),
            Effect::Command(command) => (self.heard)(Heard::Command(command)),
            Effect::RenewCertificate => self.renew_certificate().await,
            Effect::Certificate(der) => self.take_certificate(der),
            Effect::Append { digest, bytes, complete } => {
                self.append(digest, &bytes, complete, more);
            }
            Effect::FetchFailed { digest, reason } => {
                self.partial = None;
                (self.heard)(Heard::Fetched { digest, result: Err(reason) });
            }
        }
    }

    /// Where this fails the control plane says it again at the next connection.
    async fn renew_certificate(&self) {
        let Some(credentials) = &self.credentials else { return };
        match credentials.request() {
            Ok(csr) => self.publish(&Up::CertificateRequest(EnrollRequest { csr })).await,
            Err(err) => tracing::error!(%err, "no key can be made for a new certificate"),
        }
    }

    fn take_certificate(&self, der: Vec<u8>) {
        let Some(credentials) = &self.credentials else { return };
        match credentials.take(der) {
            Ok(()) => tracing::info!("the gateway's certificate is renewed"),
            Err(err) => tracing::warn!(%err, "the new certificate is not taken, the old one stays"),
        }
    }

    async fn send_run(&mut self, stream: u8, from: u64, to: u64, more: &mut Vec<Effect>) {
        let bytes_max = self.session.run_bytes_max(self.now());
        let last = match self.outbox.read(stream, from, to, bytes_max) {
            Ok(records) => {
                let records: Vec<_> = records.into_iter().map(convert::record).collect();
                let last = records.last().map(|record| record.seq);
                if last.is_some() {
                    let bytes = records.iter().map(sync_protocol::record::Record::wire_bytes).sum();
                    self.session.spent(bytes);
                    self.publish(&Up::Records(Records { stream, records })).await;
                }
                last
            }
            Err(err) => {
                tracing::error!(%err, stream, "outbox cannot be read");
                return self.session.not_read(stream, self.now(), more);
            }
        };
        self.session.sent(stream, last, self.now(), more);
    }

    /// Whether the store's record at a position is of this process run.
    fn is_ours(&self, stream: u8, seq: u64, epoch: u64) -> bool {
        let found = self.outbox.read(stream, seq, seq, 1);
        found.is_ok_and(|records| {
            records.first().is_some_and(|record| record.seq.0 == seq && record.epoch.0 == epoch)
        })
    }

    fn append(&mut self, digest: Digest, bytes: &[u8], complete: bool, more: &mut Vec<Effect>) {
        let Some((open, file)) = &mut self.partial else { return };
        assert_eq!(*open, digest, "one artifact is fetched at a time");
        let written = file.write_all(bytes);
        let result = match written {
            Ok(()) if !complete => return,
            Ok(()) => Ok(self.partial_path(digest)),
            Err(err) => Err(format!("cannot write the artifact: {err}")),
        };
        self.partial = None;
        if result.is_err() {
            self.session.handle(Input::CancelFetch, self.now(), more);
        }
        (self.heard)(Heard::Fetched { digest, result });
    }

    fn partial_path(&self, digest: Digest) -> PathBuf {
        self.partial_dir.join(digest.to_string())
    }

    fn open_partial(&mut self, digest: Digest) -> io::Result<u64> {
        let path = self.partial_path(digest);
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let have = file.metadata()?.len();
        self.partial = Some((digest, file));
        Ok(have)
    }

    fn hello(&self) -> Up {
        let streams = self.session.positions().map(|(stream, stored, durable)| StreamPosition {
            stream,
            first: stored + 1,
            last: durable.max(stored),
        });
        Up::Hello(Box::new(Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            epoch: self.epoch,
            streams: streams.collect(),
            state: self.state.clone(),
        }))
    }

    async fn publish_if_up(&self, up: &Up) {
        // What is lost here is said again: states with the next hello, the rest when asked.
        if self.session.is_up() {
            self.publish(up).await;
        }
    }

    async fn publish(&self, up: &Up) {
        match up.encode() {
            Ok(bytes) => self.sender.publish(&topics::up(&self.gateway), false, bytes).await,
            Err(err) => tracing::error!(%err, "a message to the control plane is over its bounds"),
        }
    }

    async fn present(&self, presence: Presence) {
        if let Ok(bytes) = presence.encode() {
            self.sender.publish(&topics::presence(&self.gateway), true, bytes).await;
        }
    }

    async fn goodbye(&self, receiver: &mut Receiver) {
        if self.session.is_up() {
            let goodbye = async {
                self.present(Presence::Offline).await;
                self.sender.disconnect().await;
                while receiver.next().await.is_some() {}
            };
            let _ = tokio::time::timeout(GOODBYE_MAX, goodbye).await;
        }
    }
}
