//! A gateway's end of the uplink, played by a plain MQTT 3.1.1 client.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Packet, QoS,
    SubscribeReasonCode, TlsConfiguration, Transport,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sync_protocol::enroll::{EnrollReply, EnrollRequest, Enrolled, Token};
use sync_protocol::record::{Quality, Record, RecordBody, Stamp, Telemetry};
use sync_protocol::wire::{
    Desired, Down, Hello, Message as _, Records, StateReport, StreamPosition, Up, Welcome,
};
use sync_protocol::{EventId, topics};
use tokio::sync::mpsc;

use crate::harness::Cloud;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a gateway has after it enrolled.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) enrolled: Enrolled,
    key: Vec<u8>,
}

impl Identity {
    /// The same with a certificate for its key that ended so many days ago.
    pub(crate) fn expired(&self, cloud: &Cloud, days: i64) -> Self {
        let read = |name: &str| {
            std::fs::read_to_string(cloud.report.gateway_ca.with_file_name(name)).unwrap()
        };
        let ca = CertificateDer::from_pem_slice(read("gateway-ca.pem").as_bytes()).unwrap();
        let ca_key = rcgen::KeyPair::from_pem(&read("gateway-ca.key")).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_der(&ca, ca_key).unwrap();
        let mut params = rcgen::CertificateParams::default();
        let (_, own) = x509_parser::parse_x509_certificate(&self.enrolled.certificate).unwrap();
        params.serial_number = Some(own.raw_serial().to_vec().into());
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, self.name.as_str());
        params.not_after = time::OffsetDateTime::now_utc() - time::Duration::days(days);
        params.not_before = params.not_after - time::Duration::days(365);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = rcgen::KeyPair::try_from(self.key.clone()).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        self.with(certificate, self.key.clone())
    }

    /// The same with another certificate and its key.
    pub(crate) fn with(&self, certificate: Vec<u8>, key: Vec<u8>) -> Self {
        let enrolled = Enrolled { certificate, ..self.enrolled.clone() };
        Self { name: self.name.clone(), enrolled, key }
    }
}

/// Why a connection is not there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Connect(ConnectReturnCode),
    Subscribe,
    Lost,
}

/// A connected gateway.
pub(crate) struct Gateway {
    pub(crate) name: String,
    pub(crate) client: AsyncClient,
    pub(crate) downs: mpsc::UnboundedReceiver<Down>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn roots(cloud: &Cloud) -> RootCertStore {
    let pem = std::fs::read(&cloud.report.gateway_ca).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    roots
}

fn tls(cloud: &Cloud, identity: Option<&Identity>) -> Transport {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(cloud));
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let certificate = CertificateDer::from(identity.enrolled.certificate.clone());
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.clone()));
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config)))
}

fn options(cloud: &Cloud, client_id: &str, identity: Option<&Identity>) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, "localhost", cloud.mqtt.port());
    options.set_transport(tls(cloud, identity)).set_max_packet_size(300 * 1024, 300 * 1024);
    options
}

/// Polls until `pick` finds what it looks for.
async fn until<T>(
    events: &mut EventLoop,
    mut pick: impl FnMut(Packet) -> Option<T>,
) -> Result<T, Refusal> {
    let wait = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(packet)) => {
                    if let Some(found) = pick(packet) {
                        return Ok(found);
                    }
                }
                Ok(Event::Outgoing(_)) => {}
                Err(ConnectionError::ConnectionRefused(code)) => {
                    return Err(Refusal::Connect(code));
                }
                Err(_) => return Err(Refusal::Lost),
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("an answer in time")
}

async fn subscribe(
    client: &AsyncClient,
    events: &mut EventLoop,
    topic: String,
) -> Result<(), Refusal> {
    client.subscribe(topic, QoS::AtLeastOnce).await.unwrap();
    let granted = until(events, |packet| match packet {
        Packet::SubAck(ack) => Some(!ack.return_codes.contains(&SubscribeReasonCode::Failure)),
        _ => None,
    });
    if granted.await? { Ok(()) } else { Err(Refusal::Subscribe) }
}

/// A key and a signing request for it.
pub(crate) fn request() -> (EnrollRequest, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    (EnrollRequest { csr: csr.der().to_vec() }, key.serialize_der())
}

/// Exchanges a token and a request for an answer.
pub(crate) async fn exchange(
    cloud: &Cloud,
    token: &Token,
    request: &EnrollRequest,
) -> Result<EnrollReply, Refusal> {
    let mut options = options(cloud, "enrolling", None);
    options.set_credentials(&token.gateway, token.password());
    let (client, mut events) = AsyncClient::new(options, 10);
    subscribe(&client, &mut events, topics::enroll_reply(&token.gateway)).await?;
    let topic = topics::enroll_request(&token.gateway);
    client.publish(topic, QoS::AtLeastOnce, false, request.encode().unwrap()).await.unwrap();
    until(&mut events, |packet| match packet {
        Packet::Publish(publish) => Some(EnrollReply::decode(&publish.payload).unwrap()),
        _ => None,
    })
    .await
}

/// Adds and enrols a gateway.
pub(crate) async fn enrol(cloud: &Cloud, name: &str) -> Identity {
    let token = cloud.add_gateway(name).await;
    let (request, key) = request();
    match exchange(cloud, &token, &request).await.unwrap() {
        EnrollReply::Accepted(enrolled) => {
            Identity { name: name.to_owned(), enrolled: *enrolled, key }
        }
        EnrollReply::Refused { reason } => panic!("{reason}"),
    }
}

/// Connects with any client id and subscription.
pub(crate) async fn connect_as(
    cloud: &Cloud,
    identity: &Identity,
    client_id: &str,
    down_of: &str,
) -> Result<Gateway, Refusal> {
    let (client, mut events) = AsyncClient::new(options(cloud, client_id, Some(identity)), 500);
    subscribe(&client, &mut events, topics::down(down_of)).await?;
    let (sender, downs) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        while let Ok(event) = events.poll().await {
            if let Event::Incoming(Packet::Publish(publish)) = event {
                // The test may have seen enough.
                let _ = sender.send(Down::decode(&publish.payload).unwrap());
            }
        }
    });
    Ok(Gateway { name: identity.name.clone(), client, downs, task })
}

/// Connects as a gateway should.
pub(crate) async fn connect(cloud: &Cloud, identity: &Identity) -> Gateway {
    connect_as(cloud, identity, &identity.name, &identity.name).await.unwrap()
}

impl Gateway {
    pub(crate) async fn say(&self, up: &Up) {
        self.publish(topics::up(&self.name), up.encode().unwrap()).await;
    }

    pub(crate) async fn publish(&self, topic: String, payload: Vec<u8>) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
    }

    /// The next message; `None` when the connection is gone.
    pub(crate) async fn next(&mut self) -> Option<Down> {
        tokio::time::timeout(PATIENCE, self.downs.recv()).await.expect("a message in time")
    }

    pub(crate) async fn say_hello(&self, epoch: u64, first: u64, last: u64) {
        let hello = Hello {
            agent_version: "0.1.0".into(),
            platform: "test".into(),
            epoch,
            streams: vec![StreamPosition { stream: 1, first, last }],
            state: StateReport::default(),
        };
        self.say(&Up::Hello(Box::new(hello))).await;
    }

    /// Says hello and gives what is answered.
    pub(crate) async fn hello(&mut self, epoch: u64, first: u64, last: u64) -> (Welcome, Desired) {
        self.say_hello(epoch, first, last).await;
        let welcome = match self.next().await {
            Some(Down::Welcome(welcome)) => welcome,
            other => panic!("{other:?}"),
        };
        match self.next().await {
            Some(Down::Desired(desired)) => (welcome, desired),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn send(&self, records: Vec<Record>) {
        self.say(&Up::Records(Records { stream: 1, records })).await;
    }

    /// Waits for a receipt of at least `seq`.
    pub(crate) async fn receipted(&mut self, seq: u64) -> u64 {
        loop {
            match self.next().await {
                Some(Down::Receipt(receipt)) if receipt.seq >= seq => return receipt.seq,
                Some(_) => {}
                None => panic!("the connection is gone"),
            }
        }
    }

    /// The highest receipt that came before the connection was gone.
    pub(crate) async fn receipts_so_far(&mut self) -> u64 {
        let mut highest = 0;
        while let Some(down) = self.next().await {
            if let Down::Receipt(receipt) = down {
                highest = highest.max(receipt.seq);
            }
        }
        highest
    }

    /// Waits until the other side closes.
    pub(crate) async fn closed(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// A record whose payload is its position.
pub(crate) fn record(seq: u64) -> Record {
    Record {
        seq,
        epoch: 7,
        time: Stamp { unix_ms: seq, quality: Quality::Synced },
        body: RecordBody::Telemetry(Telemetry {
            function: "app/f".into(),
            event: EventId { epoch: 7, n: seq },
            device: Some(format!("d{}", seq % 3)),
            name: "position".into(),
            content_type: "application/json".into(),
            payload: seq.to_string().into_bytes(),
        }),
    }
}

pub(crate) fn run(range: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    range.map(record).collect()
}
