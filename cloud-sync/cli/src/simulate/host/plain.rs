//! A virtual device without the SDK, as firmware is that was not made for Holm: an MQTT 5 client that publishes JSON, one
//! message at a time, and numbers its messages in user properties.
//!
//! # Invariants
//! - A reading leaves the queue when the gateway has acknowledged it, or has refused its form for good.
//! - It keeps its number over connections: what is sent again is sent as the same.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use edge_core::message::{PROPERTY_BOOT_ID, PROPERTY_SEQUENCE};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop};

use super::{ANSWER_MS_MAX, BACKOFF_MS_MIN, KEEP_ALIVE_S};
use crate::simulate::client;
use crate::simulate::ledger::Id;
use crate::simulate::queue::VirtualQueue;
use crate::simulate::random::Random;
use crate::simulate::shared::{Shared, Standing};

/// What a gateway says it can never take.
const FOR_GOOD: [PubAckReason; 2] =
    [PubAckReason::TopicNameInvalid, PubAckReason::PayloadFormatInvalid];

/// A client and its queue.
pub(super) struct Plain<'q, 's> {
    shared: &'s Shared,
    device: usize,
    /// Where its link begins.
    link: &'q str,
    queue: RefCell<&'q mut VirtualQueue<'s>>,
    /// The connection that stands.
    client: RefCell<Option<AsyncClient>>,
    /// On its way; it was the first of the queue then.
    sent: Cell<Option<Id>>,
    refused: Cell<u64>,
}

impl<'q, 's> Plain<'q, 's> {
    /// Not connected.
    pub(super) fn new(
        shared: &'s Shared,
        device: usize,
        link: &'q str,
        queue: &'q mut VirtualQueue<'s>,
    ) -> Self {
        Self {
            shared,
            device,
            link,
            queue: RefCell::new(queue),
            client: RefCell::default(),
            sent: Cell::default(),
            refused: Cell::default(),
        }
    }

    /// Readings that the gateway has refused for good.
    pub(super) fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Keeps a reading, and sends it when it is its turn.
    ///
    /// # Errors
    /// It is longer than the queue.
    pub(super) fn keep(&self, body: &[u8]) -> Result<(), device_sdk::queue::QueueError> {
        self.queue.borrow_mut().keep(body)?;
        self.send();
        Ok(())
    }

    /// Connects, again and again.
    ///
    /// # Errors
    /// It cannot be configured.
    pub(super) async fn run(&self, random: &mut Random) -> Result<(), String> {
        loop {
            self.shared.handles[self.device].view().standing = Standing::Offline;
            let (client, mut events) = self.connection()?;
            self.follow(client, &mut events).await;
            self.client.replace(None);
            self.sent.set(None);
            let most_ms = u64::from(self.shared.profile.backoff_max_ms);
            let wait = Duration::from_millis(BACKOFF_MS_MIN.into());
            tokio::time::sleep(wait + Duration::from_millis(random.bits() % most_ms)).await;
        }
    }

    fn connection(&self) -> Result<(AsyncClient, EventLoop), String> {
        let name = &self.shared.handles[self.device].plan.name;
        let credentials = &self.shared.credentials;
        let mut options = client::as_device(credentials, self.link, name.clone(), name)?;
        options.set_keep_alive(Duration::from_secs(KEEP_ALIVE_S.into()));
        options.set_connection_timeout(u64::from(ANSWER_MS_MAX / 1_000));
        Ok(AsyncClient::new(options, 1))
    }

    /// From the first word to the end of the connection.
    async fn follow(&self, client: AsyncClient, events: &mut EventLoop) {
        let mut waiting = Some(client);
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    self.client.replace(waiting.take());
                    let mut view = self.shared.handles[self.device].view();
                    (view.connects, view.standing) = (view.connects + 1, Standing::Online);
                    drop(view);
                    self.send();
                }
                Ok(Event::Incoming(Packet::PubAck(ack))) => {
                    if !self.answered(ack.reason) {
                        return;
                    }
                    self.send();
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Sends the first of the queue, if none is on its way.
    fn send(&self) {
        let (client, queue) = (self.client.borrow(), self.queue.borrow());
        let (Some(client), Some((id, body))) = (client.as_ref(), queue.first()) else { return };
        if self.sent.get().is_some() {
            return;
        }
        let number = |name: &str, value: String| (name.to_owned(), value);
        let properties = PublishProperties {
            user_properties: vec![
                number(PROPERTY_BOOT_ID, format!("{:016x}", id.boot)),
                number(PROPERTY_SEQUENCE, id.sequence.to_string()),
            ],
            ..PublishProperties::default()
        };
        let topic = self.shared.profile.topic_of(&self.shared.handles[self.device].plan.name);
        let qos = QoS::AtLeastOnce;
        let body = body.to_vec();
        let sent = client.try_publish_with_properties(topic, qos, false, body, properties);
        self.sent.set(sent.is_ok().then_some(id));
    }

    /// The gateway has answered; whether the connection goes on.
    fn answered(&self, reason: PubAckReason) -> bool {
        let sent = self.sent.take();
        let is_for_good = FOR_GOOD.contains(&reason);
        let is_taken =
            matches!(reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
        if is_taken || is_for_good {
            // The full queue may have dropped it meanwhile.
            let mut queue = self.queue.borrow_mut();
            if queue.first().is_some_and(|(id, _)| Some(id) == sent) {
                queue.settle();
            }
        }
        self.refused.set(self.refused.get() + u64::from(is_for_good));
        is_taken || is_for_good
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::fake::{self, Gateway};

    /// What a device has kept, has had acknowledged and refused after so long with a gateway that answers with this code.
    async fn after(publish: u8, enough: impl Fn(&Plain<'_, '_>) -> bool) -> (u64, u64, u64) {
        let gateway = fake::start(Gateway { publish, ..Gateway::default() }).await;
        let lines = "queue = \"1 KiB\"\nbackoff_max = \"500 ms\"";
        let shared = fake::shared_with(lines, &gateway, 1);
        let mut queue = VirtualQueue::new(&shared, 0);
        queue.start(7);
        let client = Plain::new(&shared, 0, &gateway, &mut queue);
        for _ in 0..5 {
            client.keep(b"{\"temperature\":1}").unwrap();
        }
        let mut random = Random::of(1, "test", 0);
        let done = async {
            while !enough(&client) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = client.run(&mut random) => panic!("{ended:?}"),
            () = done => {}
        }
        let totals = shared.ledger().totals();
        (totals.kept, totals.acked, client.refused())
    }

    #[tokio::test]
    async fn what_is_acknowledged_or_refused_for_good_leaves_the_queue_and_all_else_stays() {
        let is_empty = |client: &Plain<'_, '_>| client.queue.borrow().first().is_none();
        assert_eq!(after(0, is_empty).await, (5, 5, 0));
        assert_eq!(after(0x99, is_empty).await, (5, 5, 5), "its form is wrong");
        let again = |client: &Plain<'_, '_>| client.shared.handles[0].view().connects >= 2;
        assert_eq!(after(0x87, again).await, (5, 0, 0), "it may be allowed later");
    }

    #[test]
    fn what_the_full_queue_dropped_on_its_way_is_not_taken_for_another() {
        let shared = fake::shared_with("queue = \"1 KiB\"", "127.0.0.1:1", 1);
        let mut queue = VirtualQueue::new(&shared, 0);
        queue.start(7);
        let client = Plain::new(&shared, 0, "127.0.0.1:1", &mut queue);
        client.keep(&[1; 400]).unwrap();
        let (handle, _events) = client.connection().unwrap();
        client.client.replace(Some(handle));
        client.send();
        assert_eq!(client.sent.get(), Some(Id { boot: 7, sequence: 0 }));
        client.keep(&[2; 400]).unwrap();
        client.keep(&[3; 400]).unwrap();
        assert!(client.answered(PubAckReason::Success));
        let totals = shared.ledger().totals();
        assert_eq!((totals.acked, totals.dropped), (0, 1));
        assert_eq!(client.queue.borrow().first().unwrap().0.sequence, 1);
    }
}
