//! Runs the conversation over the MQTT client: sends what it makes, hands it what comes.

use std::time::Duration;

use edge_core::time::Millis;
use sync_protocol::topics;
use sync_protocol::wire::{Down, Message, Presence, Up};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::conversation::{Conversation, Out, Start};
use super::mqtt::{self, Receiver, Report, Sender};
use super::{Say, Setup};

/// How long a stop waits for the client to say goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// Longest sleep of a conversation in which nothing is due.
const SLEEP_MAX: Duration = Duration::from_secs(86_400);

struct Driver {
    conversation: Conversation,
    sender: Sender,
    gateway: String,
    started: Instant,
}

/// Until `stopped`, or until nobody says anything any more.
pub(super) async fn run(
    setup: Setup,
    mut saying: mpsc::UnboundedReceiver<Say>,
    stopped: oneshot::Receiver<()>,
) {
    let (sender, mut receiver, polling) = mqtt::connect(setup.endpoint, Backoff::new(setup.seed));
    let gateway = setup.gateway;
    let start = Start {
        version: setup.version,
        epoch: setup.epoch,
        streams: setup.streams,
        state: setup.state,
        credentials: setup.credentials,
        rate: setup.rate,
        outbox: setup.outbox,
        partial: setup.partial,
        heard: setup.heard,
    };
    let polling = tokio::spawn(polling);
    let conversation = Conversation::new(start, Millis(0));
    let mut driver = Driver { conversation, sender, gateway, started: Instant::now() };
    // A stop does not wait for what is being sent: the store keeps it.
    tokio::select! {
        () = driver.converse(&mut receiver, &mut saying) => {}
        _ = stopped => {}
    }
    driver.goodbye(&mut receiver).await;
    polling.abort();
}

impl Driver {
    /// Until the transport or the loop is gone.
    async fn converse(
        &mut self,
        receiver: &mut Receiver,
        saying: &mut mpsc::UnboundedReceiver<Say>,
    ) {
        loop {
            self.send().await;
            let due = match self.conversation.deadline() {
                Some(at) => self.started + Duration::from_millis(at.0),
                None => Instant::now() + SLEEP_MAX,
            };
            tokio::select! {
                report = receiver.next() => match report {
                    Some(report) => self.report(report).await,
                    None => return,
                },
                say = saying.recv() => match say {
                    Some(say) => self.conversation.say(say, self.now()),
                    None => return,
                },
                () = sleep_until(due) => self.conversation.tick(self.now()),
            }
        }
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Sends what the conversation has made; it makes no more than the client takes.
    async fn send(&mut self) {
        while let Some(out) = self.conversation.next(self.now()) {
            match out {
                Out::Publish(up) => self.publish(&up).await,
                Out::GiveUp(why) => self.sender.give_up(why),
            }
        }
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Connected => {
                self.present(Presence::Online { epoch: self.conversation.epoch() }).await;
                self.conversation.connected(self.now());
            }
            Report::Disconnected(reason) | Report::Barred(reason) => {
                tracing::info!(reason, "control plane unreachable");
                self.conversation.disconnected(reason, self.now());
            }
            Report::Message(bytes) => match Down::decode(&bytes) {
                Ok(down) => self.conversation.hear(down, self.now()),
                Err(err) => tracing::warn!(%err, "the control plane is not understood"),
            },
        }
    }

    async fn publish(&mut self, up: &Up) {
        match up.encode() {
            Ok(bytes) => self.sender.publish(&topics::up(&self.gateway), false, bytes).await,
            Err(err) => tracing::error!(%err, "a message to the control plane is over its bounds"),
        }
    }

    async fn present(&mut self, presence: Presence) {
        if let Ok(bytes) = presence.encode() {
            self.sender.publish(&topics::presence(&self.gateway), true, bytes).await;
        }
    }

    async fn goodbye(&mut self, receiver: &mut Receiver) {
        if self.conversation.is_up() {
            let goodbye = async {
                self.present(Presence::Offline).await;
                self.sender.disconnect().await;
                while receiver.next().await.is_some() {}
            };
            let _ = tokio::time::timeout(GOODBYE_MAX, goodbye).await;
        }
    }
}
