//! A control plane's MQTT side under full control of the test: MQTT 3.1.1 over TLS, nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use edge_agent::tls::{TimeFloor, enrolled};
use edge_agent::uplink::mqtt::Endpoint;
use edge_agent::uplink::proxy::Route;
use edge_broker::codec::{
    Ack, AckList, ConnAck, ConnAckProperties, Connect, Decoder, Packet, PacketId, Publish,
    ReasonCode, Version, encode,
};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, ServerConnection, StreamOwned, WantsVerifier,
};
use sync_protocol::id::InstanceId;
use sync_protocol::topics;
use sync_protocol::wire::{Down, Hello, Message, Records, StreamMark, Up, Welcome};

pub(crate) const GATEWAY: &str = "gw";
/// Longest wait for anything on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A listening control plane.
pub(crate) struct Peer {
    listener: TcpListener,
    server: Arc<ServerConfig>,
    ca: CertificateDer<'static>,
    own: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Peer {
    pub(crate) fn new() -> Self {
        Self::with(ConfigBuilder::<ServerConfig, WantsVerifier>::with_no_client_auth)
    }

    /// One that trusts no certificate of a gateway.
    pub(crate) fn distrustful() -> Self {
        let other = CertificateParams::new(Vec::new()).expect("parameters");
        let other = CertifiedIssuer::self_signed(other, KeyPair::generate().expect("a key"));
        let mut roots = RootCertStore::empty();
        roots.add(other.expect("a CA").der().clone()).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        let verifier = verifier.build().expect("a verifier");
        Self::with(|server| server.with_client_cert_verifier(verifier))
    }

    fn with(
        asks: impl FnOnce(
            ConfigBuilder<ServerConfig, WantsVerifier>,
        ) -> ConfigBuilder<ServerConfig, WantsServerCert>,
    ) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let ca = ca.expect("a CA");
        let key = KeyPair::generate().expect("a key");
        let names = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
        let certificate = names.signed_by(&key, &ca).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3");
        let server = asks(server).with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        );
        Self {
            listener: TcpListener::bind("127.0.0.1:0").expect("a port"),
            server: Arc::new(server.expect("a server configuration")),
            ca: ca.der().clone(),
            own: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }

    /// How a gateway connects here.
    pub(crate) fn endpoint(&self, keep_alive: Duration) -> Endpoint {
        let key = PrivateKeyDer::Pkcs8(self.key.clone().into());
        let provider = rustls::crypto::ring::default_provider();
        let own = CertifiedKey::from_der(vec![self.own.clone()], key, &provider);
        let own = SingleCertAndKey::from(own.expect("they fit"));
        let tls = enrolled(self.ca.clone(), Arc::new(own), TimeFloor::new(0));
        Endpoint {
            host: "127.0.0.1".to_owned(),
            port: self.listener.local_addr().expect("bound").port(),
            route: Route::Direct,
            client_id: GATEWAY.to_owned(),
            login: None,
            keep_alive,
            subscribe: topics::down(GATEWAY),
            will: None,
            tls: tls.expect("a client configuration"),
        }
    }

    /// The next connection, up to its CONNECT.
    pub(crate) fn accept(&self) -> Link {
        let (socket, _) = self.listener.accept().expect("a connection");
        socket.set_nodelay(true).expect("an option");
        let server = ServerConnection::new(Arc::clone(&self.server)).expect("TLS");
        let mut link = Link {
            wire: StreamOwned::new(server, socket),
            decoder: Decoder::server(1 << 20),
            inbound: BytesMut::new(),
            connect: None,
            next_id: 0,
        };
        match link.next() {
            Packet::Connect(connect) => link.connect = Some(*connect),
            other => panic!("not a CONNECT: {other:?}"),
        }
        link
    }

    /// Refuses the next connection in its handshake; what the gateway sent after its own part of that
    /// is not read.
    pub(crate) fn refuse(&self) {
        let (mut socket, _) = self.listener.accept().expect("a connection");
        let mut server = ServerConnection::new(Arc::clone(&self.server)).expect("TLS");
        while server.is_handshaking() {
            if server.complete_io(&mut socket).is_err() {
                return;
            }
        }
        panic!("the gateway is let in");
    }

    /// The next connection, accepted, subscribed and welcomed.
    pub(crate) fn welcome(&self, stored: &[StreamMark]) -> (Link, Hello) {
        let mut link = self.accept();
        link.take_session(false);
        let hello = link.hello();
        link.say_welcome(stored);
        (link, hello)
    }
}

/// One connection of the gateway.
pub(crate) struct Link {
    wire: StreamOwned<ServerConnection, TcpStream>,
    decoder: Decoder,
    inbound: BytesMut,
    connect: Option<Connect>,
    next_id: u16,
}

impl Link {
    /// The CONNECT it began with.
    pub(crate) fn connect(&self) -> &Connect {
        self.connect.as_ref().expect("read when it was accepted")
    }

    /// Accepts the client, and the subscription that must follow.
    pub(crate) fn take_session(&mut self, session_present: bool) {
        self.accept_client(session_present);
        let packet_id = self.subscription();
        self.grant(packet_id);
    }

    pub(crate) fn accept_client(&mut self, session_present: bool) {
        let properties = ConnAckProperties::default();
        let reason = ReasonCode::Success;
        self.send(&Packet::ConnAck(Box::new(ConnAck { session_present, reason, properties })));
    }

    /// The SUBSCRIBE that a client owes after each CONNACK.
    pub(crate) fn subscription(&mut self) -> PacketId {
        match self.next() {
            Packet::Subscribe(subscribe) => {
                let filters: Vec<_> = subscribe.filters.iter().map(|(f, _)| f.as_str()).collect();
                assert_eq!(filters, [topics::down(GATEWAY)]);
                subscribe.packet_id
            }
            other => panic!("not a SUBSCRIBE: {other:?}"),
        }
    }

    pub(crate) fn grant(&mut self, packet_id: PacketId) {
        self.send(&Packet::SubAck(AckList { packet_id, reasons: vec![ReasonCode::GrantedQoS1] }));
    }

    pub(crate) fn send(&mut self, packet: &Packet) {
        self.try_send(packet).expect("the gateway takes it");
    }

    pub(crate) fn try_send(&mut self, packet: &Packet) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        encode(packet, Version::V311, &mut bytes);
        self.wire.write_all(&bytes)?;
        self.wire.flush()
    }

    /// The next packet; pings are answered and passed over.
    pub(crate) fn next(&mut self) -> Packet {
        let packet = self.next_within(PATIENCE).expect("a connection");
        packet.expect("a packet in time")
    }

    /// The next packet, if one comes; an error when the connection has ended.
    pub(crate) fn next_within(&mut self, within: Duration) -> std::io::Result<Option<Packet>> {
        let deadline = Instant::now() + within;
        let mut chunk = [0; 16 << 10];
        loop {
            let packet = self.decoder.decode(&mut self.inbound).expect("well-formed MQTT");
            match packet {
                Some(Packet::PingReq) => self.try_send(&Packet::PingResp)?,
                Some(packet) => return Ok(Some(packet)),
                None => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    self.wire.sock.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
                    match self.wire.read(&mut chunk) {
                        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                        Ok(n) => self.inbound.extend_from_slice(&chunk[..n]),
                        Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(None),
                        Err(err) => return Err(err),
                    }
                }
            }
        }
    }

    /// The next publish, not acked.
    pub(crate) fn publish(&mut self) -> (PacketId, Publish) {
        loop {
            match self.next() {
                Packet::Publish(publish) => {
                    return (publish.packet_id.expect("QoS 1"), publish);
                }
                Packet::PubAck(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    pub(crate) fn ack(&mut self, packet_id: PacketId) {
        self.send(&Packet::PubAck(Ack::ok(packet_id)));
    }

    /// The next message of the sync protocol, acked; presence is passed over.
    pub(crate) fn up(&mut self) -> Up {
        loop {
            let (packet_id, publish) = self.publish();
            self.ack(packet_id);
            if publish.topic.as_str() == topics::up(GATEWAY) {
                return Up::decode(&publish.payload).expect("the sync protocol");
            }
        }
    }

    pub(crate) fn hello(&mut self) -> Hello {
        match self.up() {
            Up::Hello(hello) => *hello,
            other => panic!("not a hello: {other:?}"),
        }
    }

    pub(crate) fn records(&mut self) -> Records {
        match self.up() {
            Up::Records(records) => records,
            other => panic!("no records: {other:?}"),
        }
    }

    pub(crate) fn say_welcome(&mut self, stored: &[StreamMark]) {
        let instance = InstanceId([1; 16]);
        let stored = stored.to_vec();
        self.say(&Down::Welcome(Welcome { instance, unix_ms: 1_800_000_000_000, stored }));
    }

    /// Publishes a message of the control plane with QoS 1; gives its packet id.
    pub(crate) fn say(&mut self, down: &Down) -> PacketId {
        self.try_say(down).expect("the gateway takes it")
    }

    pub(crate) fn try_say(&mut self, down: &Down) -> std::io::Result<PacketId> {
        self.next_id = self.next_id % 60_000 + 1;
        let packet_id = PacketId::new(self.next_id).expect("not zero");
        self.try_send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Topic::new(&topics::down(GATEWAY)).expect("a topic"),
            packet_id: Some(packet_id),
            expiry_s: None,
            subscription_ids: Vec::new(),
            properties: Properties::default(),
            payload: down.encode().expect("within bounds").into(),
        }))?;
        Ok(packet_id)
    }

    /// Waits until the gateway has closed the connection; what still comes is passed over.
    pub(crate) fn closed(mut self) {
        while let Ok(packet) = self.next_within(PATIENCE) {
            assert!(packet.is_some(), "the connection is still open after {PATIENCE:?}");
        }
    }
}
