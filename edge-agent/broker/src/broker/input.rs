//! What goes into the broker.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use edge_core::id::DeviceId;
use edge_core::topic::{Topic, TopicFilter};

use crate::codec::{DecodeError, Packet, ReasonCode, Version};

/// A network connection; the transport numbers them and never reuses a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Something that happened outside the broker.
#[derive(Debug)]
pub enum Input {
    /// A connection was opened (its TLS handshake is done).
    Opened {
        /// The connection.
        conn: ConnId,
        /// Who is at the other end.
        peer: Arc<Peer>,
    },
    /// The packets of one read, in order.
    Packets {
        /// The connection.
        conn: ConnId,
        /// At least one; of the first read after `Opened` only the CONNECT.
        packets: Vec<Packet>,
    },
    /// The bytes received are no packet. Nothing more will be read.
    Malformed {
        /// The connection.
        conn: ConnId,
        /// The rule they break.
        error: DecodeError,
    },
    /// Bytes of earlier [`Send`](super::Effect::Send)s have been taken by the socket. May lag
    /// behind by 32 KiB, and by 4 KiB once all is written.
    Written {
        /// The connection.
        conn: ConnId,
        /// How many.
        bytes: usize,
    },
    /// The connection is gone.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// The answer to [`Authenticate`](super::Effect::Authenticate).
    AuthDone {
        /// The connection.
        conn: ConnId,
        /// Who it is, or the reason to refuse: bad user name or password, not authorized, server
        /// busy, banned.
        outcome: Result<Arc<Principal>, ReasonCode>,
    },
    /// The deadline of [`next_deadline`](super::Broker::next_deadline) has passed.
    Tick,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The client certificate, where one was shown and verified against the listener's CA.
    pub certificate: Option<PeerCertificate>,
    /// Its name, where it comes over a connection within the process whose maker knows it.
    pub vouched: Option<String>,
}

/// Identity from a verified client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Common name of the subject.
    pub common_name: String,
    /// Serial number, as the certificate has it.
    pub serial: Vec<u8>,
    /// SHA-256 of the certificate (DER).
    pub fingerprint: [u8; 32],
    /// The last moment it is valid, in seconds since 1970.
    pub not_after_unix_s: i64,
}

/// What the owner is given to authenticate a client.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthRequest {
    /// Protocol version.
    pub version: Version,
    /// Client identifier; empty where the server will assign one.
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Bytes>,
    /// The other end, with its certificate.
    pub peer: Arc<Peer>,
}

impl std::fmt::Debug for AuthRequest {
    /// Without the password: this may end in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthRequest")
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// An authenticated client and its grants.
///
/// Sessions belong to an identity: another identity with the same client id has its own session
/// and can neither read nor end this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name of the device or gateway.
    pub identity: DeviceId,
    /// Topics it may publish to.
    pub publish: Vec<TopicFilter>,
    /// Filters it may subscribe to, or to any part of.
    pub subscribe: Vec<TopicFilter>,
}

impl Principal {
    /// Whether a publish to `topic` is granted.
    #[must_use]
    pub fn may_publish(&self, topic: &Topic) -> bool {
        self.publish.iter().any(|grant| grant.matches(topic))
    }

    /// Whether a subscription to `filter` is granted; of a shared one, to what is behind its name.
    #[must_use]
    pub fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        let shared = filter.shared();
        let filter = shared.as_ref().unwrap_or(filter);
        self.subscribe.iter().any(|grant| grant.covers(filter))
    }
}

/// The owner's word on a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// All it causes is in the open batch: ack once that is durable.
    Accepted,
    /// It is not taken and leaves no trace. MQTT 5 clients are told the reason (not authorized,
    /// quota exceeded, implementation specific error ...); a 3.1.1 client cannot be told and is
    /// disconnected [MQTT-3.3.5-2], unless it was QoS 0.
    Refused(ReasonCode),
    /// The same, and an MQTT 5 client that wants it is told in words (3.4.2.2.2, 3.5.2.2.2).
    Explained(ReasonCode, &'static str),
}

/// The claim to an ack of one delivery: to be given back with [`settle`](super::Broker::settle).
///
/// Not `Clone`: one delivery is settled once. The token of a session that has ended does nothing.
#[must_use = "a delivery that is never settled is never acked"]
#[derive(Debug, PartialEq, Eq)]
pub struct AckToken {
    pub(super) session: super::SessionId,
    pub(super) serial: u64,
}
