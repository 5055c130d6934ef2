//! The uplink's transport: rumqttc over TLS, MQTT 3.1.1 (nothing upstream may require MQTT 5).
//!
//! rumqttc makes no connection itself: [`dial`] does, and a relay (`relay.rs`) hands each one over. All
//! of it, to the server's word that the client is let in, has 10 s.
//!
//! Rules learnt from this client, each kept by the shape of this file:
//! - P1 it drops what is in flight when a session is lost: it is never a buffer; the [`Session`]
//!   sends again from the store on every connect.
//! - P2 the poll loop awaits nothing but the dialling, `poll()`, the order to give up and its own
//!   back-off: what arrives goes into an unbounded channel whose length is watched; over
//!   [`INBOUND_MAX`] the connection is dropped. A publish waits for the client only while the
//!   connection lives, and at most two keep-alives; then the connection is given up.
//! - P3 nothing is acked by hand: an ack by hand waits behind publishes that the server does not
//!   ack. Every statement of the control plane is idempotent, so the client may ack at once.
//! - P4 one producer publishes in order; the broker on the other side should ack in order. One
//!   that does not makes the client wait for the missing ack, at most for two keep-alives; what
//!   it remembers of that goes with the connection.
//! - P5 it subscribes again on every connect, whatever the server says of a session; without an
//!   answer within a keep-alive the connection is dropped.
//! - P6 a peer that is silent is given up after two keep-alives ([`KEEP_ALIVE`]); P7 TCP_NODELAY is
//!   on (`dial` sets it).
//! - P8 MQTT 3.1.1 has no inbound flow control: what may arrive is bounded by what was asked for,
//!   and by P2.
//!
//! `tests/uplink` holds a test for each.
//!
//! [`Session`]: super::session::Session
//! [`dial`]: super::dial::dial

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, MqttState, Outgoing,
    Packet, QoS, StateError, Transport, mqttbytes,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::backoff::Backoff;
use super::dial::dial;
use super::proxy::Route;
use super::relay::Relay;

/// Keep-alive of the uplink.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Messages that may wait between transport and session.
pub const INBOUND_MAX: usize = 1_024;
/// How long it may take until the server has let the client in.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long the client may wait until its bytes are taken.
const FLUSH_MAX_S: u64 = 10;
/// Publishes without an ack, at most.
const INFLIGHT_MAX: u16 = 16;
/// Requests the client may hold.
const REQUESTS_MAX: usize = 64;
/// Longest packet in either direction.
const PACKET_BYTES_MAX: usize = sync_protocol::limits::MESSAGE_BYTES_MAX + 4_096;

/// Where and as whom to connect.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Host name or address, as in the server's certificate.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Directly, or through a proxy.
    pub route: Route,
    /// MQTT client id: the gateway's name.
    pub client_id: String,
    /// User name and password, while enrolling.
    pub login: Option<(String, String)>,
    /// Keep-alive, whole seconds; [`KEEP_ALIVE`] but in tests.
    pub keep_alive: Duration,
    /// Topic that is subscribed on every connect.
    pub subscribe: String,
    /// Last will: topic and payload, retained.
    pub will: Option<(String, Vec<u8>)>,
    /// TLS.
    pub tls: Arc<rustls::ClientConfig>,
}

impl Endpoint {
    fn no_connection(&self) -> String {
        let to = sync_protocol::enroll::endpoint(&self.host, self.port);
        format!("no connection to {to} within {} s", CONNECT_MAX.as_secs())
    }
}

/// What the transport reports.
#[derive(Debug)]
pub enum Report {
    /// Connected and subscribed.
    Connected,
    /// The connection is gone; the text says why.
    Disconnected(String),
    /// There is no connection until somebody mends what the text says.
    Barred(String),
    /// A message arrived.
    Message(Bytes),
}

/// The sending half.
#[derive(Clone, Debug)]
pub struct Sender {
    client: AsyncClient,
    /// Whether the connection stands; at once, while reports may wait.
    up: watch::Receiver<bool>,
    give_up: Arc<Notify>,
    /// How long the client may take no publish, because the server acks none.
    publish_max: Duration,
}

impl Sender {
    /// Hands a message to the client; waits while it holds its bound, at most two keep-alives. It
    /// is lost where the connection ends: whoever sends keeps it until it is answered.
    pub async fn publish(&self, topic: &str, retain: bool, payload: Vec<u8>) {
        let mut up = self.up.clone();
        let publish = self.client.publish(topic, QoS::AtLeastOnce, retain, payload);
        tokio::select! {
            // First: nothing goes into the queue of the next connection.
            biased;
            _ = up.wait_for(|up| !up) => tracing::debug!(topic, "no connection to publish on"),
            published = timeout(self.publish_max, publish) => match published {
                Ok(Ok(())) => {}
                Ok(Err(err)) => tracing::debug!(%err, "uplink publish"),
                Err(_) => self.give_up("it acks nothing"),
            },
        }
    }

    /// Gives the connection up, if there is one; a new one is made after the back-off.
    pub fn give_up(&self, why: &str) {
        tracing::warn!(why, "the connection to the control plane is given up");
        self.give_up.notify_waiters();
    }

    /// Says goodbye: no last will is sent. The receiver ends when that is done.
    pub async fn disconnect(&self) {
        // A client that is gone has nothing to disconnect.
        let _ = self.client.disconnect().await;
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver {
    reports: mpsc::UnboundedReceiver<Report>,
    waiting: Arc<AtomicUsize>,
}

impl Receiver {
    /// The next report; `None` when the transport task is gone.
    pub async fn next(&mut self) -> Option<Report> {
        let report = self.reports.recv().await;
        self.waiting.fetch_sub(usize::from(report.is_some()), Ordering::Relaxed);
        report
    }
}

/// Connects and keeps connecting until the returned task is aborted.
pub fn connect(
    endpoint: Endpoint,
    backoff: Backoff,
) -> (Sender, Receiver, impl Future<Output = ()>) {
    let (client, mut events) = AsyncClient::new(options(&endpoint, ""), REQUESTS_MAX);
    events.network_options.set_connection_timeout(FLUSH_MAX_S);

    let (out, reports) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let give_up = Arc::new(Notify::new());
    let (telling, up) = watch::channel(false);
    let publish_max = endpoint.keep_alive * 2;
    let poller = Poller {
        endpoint,
        client: client.clone(),
        relay: None,
        out,
        waiting: Arc::clone(&waiting),
        up: telling,
        give_up: Arc::clone(&give_up),
        suback_by: None,
        backoff,
    };
    (Sender { client, up, give_up, publish_max }, Receiver { reports, waiting }, poller.run(events))
}

/// What the client is told of a connection: it meets it at `socket`.
fn options(endpoint: &Endpoint, socket: &str) -> MqttOptions {
    // The port is not used.
    let mut options = MqttOptions::new(&endpoint.client_id, socket, endpoint.port);
    options.set_transport(Transport::unix());
    options.set_clean_session(true).set_keep_alive(endpoint.keep_alive);
    options.set_inflight(INFLIGHT_MAX);
    options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
    if let Some((user, password)) = &endpoint.login {
        options.set_credentials(user, password);
    }
    if let Some((topic, payload)) = &endpoint.will {
        let will = LastWill::new(topic, payload.clone(), QoS::AtLeastOnce, true);
        options.set_last_will(will);
    }
    options
}

struct Poller {
    endpoint: Endpoint,
    client: AsyncClient,
    /// Carries the connection, where there is one.
    relay: Option<Relay>,
    out: mpsc::UnboundedSender<Report>,
    waiting: Arc<AtomicUsize>,
    up: watch::Sender<bool>,
    give_up: Arc<Notify>,
    /// When the subscription must have been answered.
    suback_by: Option<Instant>,
    backoff: Backoff,
}

impl Poller {
    async fn run(mut self, mut events: EventLoop) {
        loop {
            let lost = match self.poll(&mut events).await {
                Ok(Event::Incoming(packet)) => {
                    self.incoming(packet).await.err().map(Report::Disconnected)
                }
                // The goodbye is written; with the client gone the relay ends behind it.
                Ok(Event::Outgoing(Outgoing::Disconnect)) => {
                    drop(events);
                    if let Some(relay) = self.relay.take() {
                        relay.finish().await;
                    }
                    return;
                }
                Ok(Event::Outgoing(_)) => None,
                Err(report) => Some(report),
            };
            if let Some(report) = lost {
                // What waited in the client belongs to the lost connection. Its state goes too: it
                // would keep a publish that met a missing ack (P4), and send nothing ever after.
                self.up.send_replace(false);
                events.clean();
                events.pending.clear();
                events.state = MqttState::new(INFLIGHT_MAX, false);
                self.relay = None;
                self.suback_by = None;
                self.report(report);
                tokio::time::sleep(self.backoff.next_wait()).await;
            }
            if self.out.is_closed() {
                return;
            }
        }
    }

    /// The next event; an error when the connection is lost or to be given up. (A poll that is cut
    /// off may leave half a packet behind: that connection is not used again.)
    async fn poll(&mut self, events: &mut EventLoop) -> Result<Event, Report> {
        let give_up = Arc::clone(&self.give_up);
        tokio::select! {
            event = self.event(events) => event,
            () = give_up.notified() => Err(Report::Disconnected("it was given up".to_owned())),
        }
    }

    async fn event(&mut self, events: &mut EventLoop) -> Result<Event, Report> {
        let late = |why: &str| Err(Report::Disconnected(why.to_owned()));
        if self.relay.is_none() {
            let opened = timeout(CONNECT_MAX, self.open(events)).await;
            return opened.unwrap_or_else(|_| late(&self.endpoint.no_connection()));
        }
        let never = Instant::now() + Duration::from_secs(86_400);
        match timeout_at(self.suback_by.unwrap_or(never), self.next(events)).await {
            Ok(next) => next,
            Err(_) if self.suback_by.is_none() => late("a day without a sign of life"),
            Err(_) => late("the subscription was not answered"),
        }
    }

    /// Connects; the event is the server's word that the client is let in.
    async fn open(&mut self, events: &mut EventLoop) -> Result<Event, Report> {
        let Endpoint { host, port, route, tls, .. } = &self.endpoint;
        let server = dial(host, *port, route, Arc::clone(tls)).await.map_err(|error| {
            let why = error.to_string();
            if error.is_lasting() { Report::Barred(why) } else { Report::Disconnected(why) }
        })?;
        let relay = Relay::open(server).map_err(|error| {
            Report::Disconnected(format!("no socket within the agent: {error}"))
        })?;
        events.mqtt_options = options(&self.endpoint, relay.name());
        self.relay = Some(relay);
        self.next(events).await
    }

    async fn next(&self, events: &mut EventLoop) -> Result<Event, Report> {
        let polled = events.poll().await;
        polled.map_err(|error| Report::Disconnected(self.reason(&error)))
    }

    /// Why a connection ended: where all that the client saw is an end, the relay knows more.
    fn reason(&self, error: &ConnectionError) -> String {
        use StateError::{ConnectionAborted, Deserialization, Io};
        let is_end = matches!(
            error,
            ConnectionError::Io(_)
                | ConnectionError::MqttState(
                    Io(_) | ConnectionAborted | Deserialization(mqttbytes::Error::Io(_))
                )
        );
        let why = self.relay.as_ref().and_then(Relay::why).filter(|_| is_end);
        why.map_or_else(|| error.to_string(), str::to_owned)
    }

    /// An error when the connection should be given up.
    async fn incoming(&mut self, packet: Packet) -> Result<(), String> {
        match packet {
            Packet::ConnAck(_) => {
                self.suback_by = Some(Instant::now() + self.endpoint.keep_alive);
                // A full request queue at this moment means that it holds what was meant for the
                // connection before; giving up this one clears it.
                let topic = &self.endpoint.subscribe;
                let subscribed = self.client.try_subscribe(topic, QoS::AtLeastOnce);
                subscribed.map_err(|_| "the queue to the connection before was full".to_owned())
            }
            Packet::SubAck(ack) => {
                let granted = ack
                    .return_codes
                    .iter()
                    .all(|code| matches!(code, rumqttc::SubscribeReasonCode::Success(_)));
                if !granted {
                    let topic = &self.endpoint.subscribe;
                    return Err(format!("the control plane refuses the topic {topic}"));
                }
                self.suback_by = None;
                self.backoff.succeeded();
                self.up.send_replace(true);
                self.report(Report::Connected);
                Ok(())
            }
            Packet::Publish(publish) => {
                self.report(Report::Message(publish.payload));
                if self.is_flooded() {
                    // A burst may fill the channel before the reader had its turn.
                    tokio::task::yield_now().await;
                }
                if self.is_flooded() {
                    return Err("it sends faster than it is understood".to_owned());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn is_flooded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > INBOUND_MAX
    }

    fn report(&self, report: Report) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A closed channel ends the loop at its next turn.
        let _ = self.out.send(report);
    }
}
