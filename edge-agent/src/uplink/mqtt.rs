//! The uplink's transport: an MQTT 3.1.1 client over TLS (nothing upstream may require MQTT 5).
//!
//! Rules, each met by a test of `tests/uplink`:
//! - P1 it is never a buffer: what waits or is unacked goes with its connection, and the [`Session`]
//!   sends again from the store on every connect.
//! - P2 it waits for the server, for an order and for its own back-off, and for nobody else: what
//!   arrives goes into an unbounded channel whose length is watched; over [`INBOUND_MAX`] the
//!   connection is dropped. A publish waits only while the connection lives, and at most two
//!   keep-alives; then the connection is given up. A server that takes no bytes for
//!   10 s is given up.
//! - P3 it acks at once, whatever publishes of its own are unacked: every statement of the control
//!   plane is idempotent.
//! - P4 packet ids go round in order, and one that is not acked is not used again: it makes the
//!   publish behind it wait, at most for three keep-alives.
//! - P5 it subscribes on every connect, whatever the server says of a session; without an answer
//!   within a keep-alive the connection is dropped.
//! - P6 a peer that is silent is given up after two keep-alives ([`KEEP_ALIVE`]); P7 TCP_NODELAY is
//!   on.
//! - P8 MQTT 3.1.1 has no inbound flow control: what may arrive is bounded by what was asked for,
//!   and by P2.
//!
//! [`Session`]: super::session::Session

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use edge_broker::codec::{ConnAck, Packet, ReasonCode};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::connection::{Connection, Lost};
use super::backoff::Backoff;
use super::dial;
use super::proxy::Route;

mod connection;

/// Keep-alive of the uplink.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Messages that may wait between transport and session.
pub const INBOUND_MAX: usize = 1_024;
/// Orders that may wait for the connection.
const REQUESTS_MAX: usize = 64;
/// How long it may take until the server has let the client in.
const CONNECT_MAX: Duration = Duration::from_secs(10);

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

/// What the transport reports.
#[derive(Debug)]
pub enum Report {
    /// Connected and subscribed.
    Connected,
    /// The connection is gone; the text says why.
    Disconnected(String),
    /// There is no connection until somebody mends what the text says.
    Barred(String),
    /// The server does not know the user or the password: to ask again changes nothing.
    Unknown,
    /// A message arrived.
    Message(Bytes),
}

/// What the connection is told to do.
#[derive(Debug)]
enum Order {
    Publish { topic: String, retain: bool, payload: Vec<u8> },
    Disconnect,
}

/// The sending half.
#[derive(Clone, Debug)]
pub struct Sender {
    orders: mpsc::Sender<Order>,
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
        let publish = self.orders.send(Order::Publish { topic: topic.to_owned(), retain, payload });
        tokio::select! {
            // First: nothing goes into the queue of the next connection.
            biased;
            _ = up.wait_for(|up| !up) => tracing::debug!(topic, "no connection to publish on"),
            published = timeout(self.publish_max, publish) => match published {
                Ok(Ok(())) => {}
                Ok(Err(_)) => tracing::debug!(topic, "the uplink is gone"),
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
        let _ = self.orders.send(Order::Disconnect).await;
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
    let (orders, ordered) = mpsc::channel(REQUESTS_MAX);
    let (out, reports) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let give_up = Arc::new(Notify::new());
    let (telling, up) = watch::channel(false);
    let publish_max = endpoint.keep_alive * 2;
    let client = Client {
        endpoint,
        orders: ordered,
        out,
        waiting: Arc::clone(&waiting),
        up: telling,
        give_up: Arc::clone(&give_up),
        backoff,
    };
    (Sender { orders, up, give_up, publish_max }, Receiver { reports, waiting }, client.run())
}

struct Client {
    endpoint: Endpoint,
    orders: mpsc::Receiver<Order>,
    out: mpsc::UnboundedSender<Report>,
    waiting: Arc<AtomicUsize>,
    up: watch::Sender<bool>,
    give_up: Arc<Notify>,
    backoff: Backoff,
}

/// How a connection ended.
enum End {
    /// As it was told to.
    Goodbye,
    /// It is lost, and why.
    Lost(Report),
}

impl From<Lost> for End {
    fn from(Lost(why): Lost) -> Self {
        Self::Lost(Report::Disconnected(why))
    }
}

impl Client {
    async fn run(mut self) {
        loop {
            let End::Lost(report) = self.live().await else { return };
            // What waits belongs to the lost connection.
            self.up.send_replace(false);
            while self.orders.try_recv().is_ok() {}
            self.report(report);
            sleep(self.backoff.next_wait()).await;
            if self.out.is_closed() {
                return;
            }
        }
    }

    /// One connection, from its beginning to its end.
    async fn live(&mut self) -> End {
        let opened = match timeout(CONNECT_MAX, self.open()).await {
            Ok(opened) => opened,
            Err(_) => {
                let to = sync_protocol::enroll::endpoint(&self.endpoint.host, self.endpoint.port);
                let text = format!("no connection to {to} within {} s", CONNECT_MAX.as_secs());
                return End::Lost(Report::Disconnected(text));
            }
        };
        match opened {
            Ok(connection) => self.converse(connection).await.unwrap_or_else(End::from),
            Err(report) => End::Lost(report),
        }
    }

    /// Up to the server's word that the client is let in.
    async fn open(&self) -> Result<Connection, Report> {
        let Endpoint { host, port, route, tls, .. } = &self.endpoint;
        let stream = dial::dial(host, *port, route, Arc::clone(tls)).await;
        let stream = stream.map_err(|error| {
            let why = error.to_string();
            if error.is_lasting() { Report::Barred(why) } else { Report::Disconnected(why) }
        })?;
        let lost = |Lost(why)| Report::Disconnected(why);
        let mut connection = Connection::begin(stream, &self.endpoint).await.map_err(lost)?;
        loop {
            match connection.take().map_err(lost)? {
                Some(Packet::ConnAck(ack)) => return let_in(&ack).map(|()| connection),
                Some(_) => return Err(lost(Lost::new("it answers with something else"))),
                None => connection.read().await.map_err(lost)?,
            }
        }
    }

    async fn converse(&mut self, mut connection: Connection) -> Result<End, Lost> {
        let keep_alive = self.endpoint.keep_alive;
        connection.subscribe(&self.endpoint.subscribe).await?;
        let (mut answer_by, mut ping_at) =
            (Some(Instant::now() + keep_alive), Instant::now() + keep_alive);
        loop {
            while let Some(packet) = connection.take()? {
                if let Packet::SubAck(_) = packet {
                    answer_by = None;
                }
                self.packet(packet, &mut connection).await?;
            }
            connection.flush().await?;
            tokio::select! {
                read = connection.read() => read?,
                order = self.orders.recv(), if connection.may_publish() => match order {
                    Some(Order::Publish { topic, retain, payload }) => {
                        connection.publish(&topic, retain, payload).await?;
                    }
                    Some(Order::Disconnect) | None => {
                        connection.goodbye().await;
                        return Ok(End::Goodbye);
                    }
                },
                () = sleep_until(ping_at) => {
                    connection.ping().await?;
                    ping_at = Instant::now() + keep_alive;
                }
                () = sleep_until(answer_by.unwrap_or(ping_at)), if answer_by.is_some() => {
                    return Err(Lost::new("the subscription was not answered"));
                }
                () = self.give_up.notified() => return Err(Lost::new("it was given up")),
            }
        }
    }

    async fn packet(&mut self, packet: Packet, connection: &mut Connection) -> Result<(), Lost> {
        match packet {
            Packet::SubAck(ack) => {
                if ack.reasons.iter().any(|reason| reason.as_u8() >= 0x80) {
                    let topic = &self.endpoint.subscribe;
                    return Err(Lost(format!("the control plane refuses the topic {topic}")));
                }
                self.backoff.succeeded();
                self.up.send_replace(true);
                self.report(Report::Connected);
            }
            Packet::Publish(publish) => {
                connection.ack(&publish)?;
                self.report(Report::Message(publish.payload));
                if self.is_flooded() {
                    // A burst may fill the channel before the reader had its turn.
                    tokio::task::yield_now().await;
                }
                if self.is_flooded() {
                    return Err(Lost::new("it sends faster than it is understood"));
                }
            }
            other => connection.heard(&other)?,
        }
        Ok(())
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

fn let_in(ack: &ConnAck) -> Result<(), Report> {
    match ack.reason {
        ReasonCode::Success => Ok(()),
        ReasonCode::BadUserNameOrPassword => Err(Report::Unknown),
        reason => Err(Report::Disconnected(format!("the control plane refuses: {reason}"))),
    }
}
