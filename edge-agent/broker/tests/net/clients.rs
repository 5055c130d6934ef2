//! rumqttc 3.1.1 and 5 over plain TCP and TLS: publish and subscribe at every QoS, sessions,
//! retained messages, wills.

use std::collections::BTreeSet;
use std::time::Duration;

use edge_broker::codec::Version;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, Transport, v5};
use tokio::time::timeout;

use crate::owner::{PASSWORD, Server, Setup};
use crate::raw::Raw;
use crate::tls::Authority;

const PATIENCE: Duration = Duration::from_secs(10);

/// One rumqttc client of either version, driven by hand.
enum Client {
    V3(AsyncClient, Box<EventLoop>),
    V5(v5::AsyncClient, Box<v5::EventLoop>),
}

/// What a test looks at.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Welcome { session_present: bool },
    Subscribed,
    Acked,
    Message { payload: String, retain: bool },
    Other,
}

#[derive(Clone, Copy)]
struct Wish<'a> {
    version: Version,
    name: &'a str,
    clean: bool,
    will: bool,
    tls: Option<&'a Authority>,
}

impl Client {
    fn new(server: &Server, wish: Wish<'_>) -> Self {
        let (host, port) = ("localhost", server.address.port());
        let transport = wish.tls.map_or(Transport::Tcp, |tls| {
            Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(tls.client(None)))
        });
        match wish.version {
            Version::V311 => {
                let mut options = MqttOptions::new(wish.name, host, port);
                options.set_credentials("dev", PASSWORD).set_clean_session(wish.clean);
                options.set_transport(transport).set_keep_alive(Duration::from_secs(5));
                if wish.will {
                    let will = rumqttc::LastWill::new("will", "gone", QoS::AtLeastOnce, false);
                    options.set_last_will(will);
                }
                let (client, events) = AsyncClient::new(options, 100);
                Self::V3(client, Box::new(events))
            }
            Version::V5 => {
                let mut options = v5::MqttOptions::new(wish.name, host, port);
                options.set_credentials("dev", PASSWORD).set_clean_start(wish.clean);
                options.set_transport(transport).set_keep_alive(Duration::from_secs(5));
                let expiry = (!wish.clean).then_some(600);
                options.set_connect_properties(v5::mqttbytes::v5::ConnectProperties {
                    session_expiry_interval: expiry,
                    ..v5::mqttbytes::v5::ConnectProperties::new()
                });
                if wish.will {
                    let will = v5::mqttbytes::v5::LastWill::new(
                        "will",
                        "gone",
                        v5::mqttbytes::QoS::AtLeastOnce,
                        false,
                        None,
                    );
                    options.set_last_will(will);
                }
                let (client, events) = v5::AsyncClient::new(options, 100);
                Self::V5(client, Box::new(events))
            }
        }
    }

    /// Connects and tells whether the session was there.
    async fn connect(server: &Server, wish: Wish<'_>) -> (Self, bool) {
        let mut client = Self::new(server, wish);
        loop {
            if let Got::Welcome { session_present } = client.next().await {
                return (client, session_present);
            }
        }
    }

    async fn next(&mut self) -> Got {
        match self {
            Self::V3(_, events) => match timeout(PATIENCE, events.poll()).await.unwrap().unwrap() {
                Event::Incoming(Packet::ConnAck(ack)) => {
                    Got::Welcome { session_present: ack.session_present }
                }
                Event::Incoming(Packet::SubAck(_)) => Got::Subscribed,
                Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Got::Acked,
                Event::Incoming(Packet::Publish(publish)) => Got::Message {
                    payload: String::from_utf8(publish.payload.to_vec()).unwrap(),
                    retain: publish.retain,
                },
                _ => Got::Other,
            },
            Self::V5(_, events) => {
                use v5::mqttbytes::v5::Packet;
                match timeout(PATIENCE, events.poll()).await.unwrap().unwrap() {
                    v5::Event::Incoming(Packet::ConnAck(ack)) => {
                        Got::Welcome { session_present: ack.session_present }
                    }
                    v5::Event::Incoming(Packet::SubAck(_)) => Got::Subscribed,
                    v5::Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Got::Acked,
                    v5::Event::Incoming(Packet::Publish(publish)) => Got::Message {
                        payload: String::from_utf8(publish.payload.to_vec()).unwrap(),
                        retain: publish.retain,
                    },
                    _ => Got::Other,
                }
            }
        }
    }

    async fn message(&mut self) -> (String, bool) {
        loop {
            if let Got::Message { payload, retain } = self.next().await {
                return (payload, retain);
            }
        }
    }

    async fn subscribe(&mut self, filter: &str, qos: u8) {
        match self {
            Self::V3(client, _) => {
                client.subscribe(filter, rumqttc::qos(qos).unwrap()).await.unwrap();
            }
            Self::V5(client, _) => {
                client.subscribe(filter, v5::mqttbytes::qos(qos).unwrap()).await.unwrap();
            }
        }
        while self.next().await != Got::Subscribed {}
    }

    async fn publish(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) {
        let payload = payload.to_owned();
        match self {
            Self::V3(client, _) => {
                let qos = rumqttc::qos(qos).unwrap();
                client.publish(topic, qos, retain, payload).await.unwrap();
            }
            Self::V5(client, _) => {
                let qos = v5::mqttbytes::qos(qos).unwrap();
                client.publish(topic, qos, retain, payload).await.unwrap();
            }
        }
        let wanted = if qos == 0 { Got::Other } else { Got::Acked };
        while self.next().await != wanted {}
    }
}

/// Every combination of version and transport.
async fn everywhere(test: impl AsyncFn(&Server, Version, Option<&Authority>)) {
    let authority = Authority::new();
    for tls in [None, Some(&authority)] {
        for version in [Version::V311, Version::V5] {
            let tls_config = tls.map(|authority| authority.server(false));
            let server = Server::start(Setup { tls: tls_config, ..Setup::default() });
            test(&server, version, tls).await;
            server.stop().await;
        }
    }
}

fn wish<'a>(version: Version, name: &'a str, tls: Option<&'a Authority>) -> Wish<'a> {
    Wish { version, name, clean: true, will: false, tls }
}

#[tokio::test]
async fn every_qos_goes_both_ways() {
    everywhere(async |server, version, tls| {
        let (mut sub, _) = Client::connect(server, wish(version, "sub", tls)).await;
        let (mut publisher, _) = Client::connect(server, wish(version, "pub", tls)).await;
        sub.subscribe("a/+", 2).await;
        for qos in 0..3 {
            for n in 0..20 {
                publisher.publish("a/b", &format!("{qos}-{n}"), qos, false).await;
                assert_eq!(sub.message().await, (format!("{qos}-{n}"), false));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_kept_session_resumes() {
    everywhere(async |server, version, tls| {
        let kept = Wish { clean: false, ..wish(version, "kept", tls) };
        let (mut sub, present) = Client::connect(server, kept).await;
        assert!(!present);
        sub.subscribe("a", 1).await;
        drop(sub);
        let (mut publisher, _) = Client::connect(server, wish(version, "pub", tls)).await;
        for n in 0..200 {
            publisher.publish("a", &n.to_string(), 1, false).await;
        }
        let (mut sub, present) = Client::connect(server, kept).await;
        assert!(present);
        let mut got = BTreeSet::new();
        while got.len() < 200 {
            let (payload, _) = sub.message().await;
            got.insert(payload.parse::<u32>().unwrap());
        }
        assert_eq!(got.len(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_retained_message_greets() {
    everywhere(async |server, version, tls| {
        let (mut publisher, _) = Client::connect(server, wish(version, "pub", tls)).await;
        publisher.publish("a", "kept", 1, true).await;
        let (mut sub, _) = Client::connect(server, wish(version, "sub", tls)).await;
        sub.subscribe("#", 1).await;
        assert_eq!(sub.message().await, ("kept".to_owned(), true));
    })
    .await;
}

#[tokio::test]
async fn a_will_is_published() {
    everywhere(async |server, version, tls| {
        let (mut sub, _) = Client::connect(server, wish(version, "sub", tls)).await;
        sub.subscribe("will", 1).await;
        let doomed = Wish { will: true, ..wish(version, "doomed", tls) };
        let (client, _) = Client::connect(server, doomed).await;
        drop(client);
        assert_eq!(sub.message().await, ("gone".to_owned(), false));
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_told_so() {
    let server = Server::plain();
    for version in [Version::V311, Version::V5] {
        let mut raw = Raw::open(server.address, version).await;
        let connect = edge_broker::codec::Connect {
            username: Some("dev".to_owned()),
            password: Some("wrong".into()),
            ..edge_broker::codec::Connect::new(version, "c")
        };
        raw.send(&[edge_broker::codec::Packet::Connect(Box::new(connect))]).await;
        let Some(edge_broker::codec::Packet::ConnAck(connack)) = raw.recv().await else { panic!() };
        let reason = edge_broker::codec::ReasonCode::BadUserNameOrPassword;
        assert_eq!(connack.reason, reason);
        assert_eq!(raw.recv().await, None);
    }
}
