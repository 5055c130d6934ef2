//! The uplink's transport: rumqttc over TLS, MQTT 3.1.1 (nothing upstream may require MQTT 5).
//!
//! Rules learnt from this client, each kept by the shape of this file:
//! - P1 it drops what is in flight when a session is lost: it is never a buffer; the [`Session`]
//!   sends again from the store on every connect.
//! - P2 the poll loop awaits nothing but `poll()` and its own back-off: what arrives goes into an
//!   unbounded channel whose length is watched; over [`INBOUND_MAX`] the connection is dropped.
//! - P3 nothing is acked by hand: every statement of the control plane is idempotent.
//! - P4 one producer publishes in order; the broker on the other side acks in order.
//! - P5 it subscribes again on every connect, whatever the server says of a session.
//! - P6 keep-alive is [`KEEP_ALIVE`], P7 TCP_NODELAY is on.
//! - P8 MQTT 3.1.1 has no inbound flow control: what may arrive is bounded by what was asked for.
//!
//! [`Session`]: super::session::Session

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, QoS, Transport};
use tokio::sync::mpsc;

use super::backoff::Backoff;

/// Keep-alive of the uplink.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Messages that may wait between transport and session.
pub const INBOUND_MAX: usize = 1_024;
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
    /// MQTT client id: the gateway's name.
    pub client_id: String,
    /// User name and password, while enrolling.
    pub login: Option<(String, String)>,
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
    /// A message arrived.
    Message(Bytes),
}

/// The sending half.
#[derive(Clone, Debug)]
pub struct Sender {
    client: AsyncClient,
}

impl Sender {
    /// Hands a message to the client; waits while it holds its bound. It is lost where the
    /// connection ends: whoever sends keeps it until it is answered.
    pub async fn publish(&self, topic: &str, retain: bool, payload: Vec<u8>) {
        if let Err(err) = self.client.publish(topic, QoS::AtLeastOnce, retain, payload).await {
            tracing::debug!(%err, "uplink publish");
        }
    }
}

impl Sender {
    /// Says goodbye: no last will is sent.
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
    let mut options = MqttOptions::new(&endpoint.client_id, &endpoint.host, endpoint.port);
    options.set_clean_session(true).set_keep_alive(KEEP_ALIVE).set_inflight(16);
    options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
    if let Some((user, password)) = &endpoint.login {
        options.set_credentials(user, password);
    }
    if let Some((topic, payload)) = &endpoint.will {
        let will = LastWill::new(topic, payload.clone(), QoS::AtLeastOnce, true);
        options.set_last_will(will);
    }
    let tls = rumqttc::TlsConfiguration::Rustls(Arc::clone(&endpoint.tls));
    options.set_transport(Transport::tls_with_config(tls));
    let (client, mut events) = AsyncClient::new(options, REQUESTS_MAX);
    events.network_options.set_tcp_nodelay(true);
    events.network_options.set_connection_timeout(10);

    let (out, reports) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let poller = Poller {
        client: client.clone(),
        subscribe: endpoint.subscribe,
        out,
        waiting: Arc::clone(&waiting),
        backoff,
    };
    (Sender { client }, Receiver { reports, waiting }, poller.run(events))
}

struct Poller {
    client: AsyncClient,
    subscribe: String,
    out: mpsc::UnboundedSender<Report>,
    waiting: Arc<AtomicUsize>,
    backoff: Backoff,
}

impl Poller {
    async fn run(mut self, mut events: EventLoop) {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(packet)) => {
                    if !self.incoming(packet) {
                        events.clean();
                        self.lost("the control plane sends faster than it is understood").await;
                    }
                }
                Ok(Event::Outgoing(_)) => {}
                Err(err) => {
                    // What waited in the client belongs to the lost connection.
                    events.clean();
                    events.pending.clear();
                    self.lost(&err.to_string()).await;
                }
            }
            if self.out.is_closed() {
                return;
            }
        }
    }

    /// False when the connection should be given up.
    fn incoming(&mut self, packet: Packet) -> bool {
        match packet {
            Packet::ConnAck(_) => {
                // A full request queue at this moment means that it holds what was meant for the
                // connection before; giving up this one clears it.
                self.client.try_subscribe(&self.subscribe, QoS::AtLeastOnce).is_ok()
            }
            Packet::SubAck(ack) => {
                let granted = ack
                    .return_codes
                    .iter()
                    .all(|code| matches!(code, rumqttc::SubscribeReasonCode::Success(_)));
                if granted {
                    self.backoff.succeeded();
                    self.report(Report::Connected);
                } else {
                    tracing::error!(topic = self.subscribe, "the control plane refuses the topic");
                }
                granted
            }
            Packet::Publish(publish) => {
                self.report(Report::Message(publish.payload));
                self.waiting.load(Ordering::Relaxed) <= INBOUND_MAX
            }
            _ => true,
        }
    }

    async fn lost(&mut self, why: &str) {
        self.report(Report::Disconnected(why.to_owned()));
        tokio::time::sleep(self.backoff.next_wait()).await;
    }

    fn report(&self, report: Report) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A closed channel ends the loop at its next turn.
        let _ = self.out.send(report);
    }
}
