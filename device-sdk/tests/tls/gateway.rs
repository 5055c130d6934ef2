//! The listener of a Holm gateway, as edge-agent sets it up, over TCP.

use std::sync::Arc;
use std::time::Instant;

use device_protocol::provision::{Credential, Provision};
use device_sdk::tls::{Error, Memory, RECORD_4_KIB, Random, Refusal, connect};
use edge_broker::transport::tls::{
    RECORD_BYTES_DEFAULT, RECORD_BYTES_MAX, TlsSettings, server_config,
};
use embedded_io_async::{Read, Write};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::pki::{NAME, World, pem};
use crate::support::{Wire, provision, run};

/// A world whose certificates are valid at the time of this machine, which the listener judges by.
pub(crate) fn world_of_today() -> (World, u64) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    (World::valid(now - 3600, now + 3600), now)
}

fn listener(world: &World, record_bytes_max: usize) -> Arc<ServerConfig> {
    server_config(TlsSettings {
        cert_chain_pem: world.gateway.pem().as_bytes(),
        key_pem: pem("PRIVATE KEY", &world.gateway.key.serialize_der()).as_bytes(),
        client_ca_pem: Some(world.device_ca.pem().as_bytes()),
        allow_tls12: false,
        record_bytes_max,
        time: None,
    })
    .expect("a listener")
}

/// Takes one connection, echoes a megabyte at most, and says who it was.
async fn echo(socket: TcpListener, config: Arc<ServerConfig>) -> Option<Vec<u8>> {
    let (stream, _) = socket.accept().await.expect("a connection");
    let mut stream = TlsAcceptor::from(config).accept(stream).await.ok()?;
    let shown = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
        stream.write_all(&bytes[..length]).await.ok()?;
        stream.flush().await.ok()?;
    }
    shown.or(Some(Vec::new()))
}

/// The device connects, sends `bytes` and reads as many.
async fn there_and_back(
    stream: TcpStream,
    provision: &Provision<'_>,
    now: u64,
    bytes: &[u8],
) -> Result<Vec<u8>, Error> {
    let mut memory = Box::new(Memory::<RECORD_4_KIB, 2048>::new());
    let random = &mut Random::new([5; 32]);
    let mut stream = connect(Wire(stream), &mut memory, provision, Some(now), random).await?;
    stream.write_all(bytes).await?;
    stream.flush().await?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).await.map_err(|error| match error {
        embedded_io_async::ReadExactError::UnexpectedEof => Error::Closed,
        embedded_io_async::ReadExactError::Other(error) => error,
    })?;
    stream.close().await?;
    Ok(back)
}

fn visit(
    config: Arc<ServerConfig>,
    provision: &Provision<'_>,
    now: u64,
    bytes: &[u8],
) -> (Result<Vec<u8>, Error>, Option<Vec<u8>>) {
    run(async {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let device = async {
            let stream = TcpStream::connect(address).await.expect("a connection");
            there_and_back(stream, provision, now, bytes).await
        };
        tokio::join!(device, echo(socket, config))
    })
}

#[test]
fn a_device_with_a_certificate_talks_to_the_listener() {
    let (world, now) = world_of_today();
    let bytes: Vec<u8> = (0..40_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let device = Provision { issued_unix_s: now, ..provision(&world) };
    let (back, shown) = visit(listener(&world, RECORD_BYTES_DEFAULT), &device, now, &bytes);
    assert!(back == Ok(bytes), "what comes back is what was sent");
    assert_eq!(shown.as_deref(), Some(&world.device.der[..]), "the gateway knows the device");
}

#[test]
fn a_device_with_a_token_needs_no_certificate() {
    let (world, now) = world_of_today();
    let credential = Credential::Token { gateway_ca: &world.gateway_ca.der, token: "t" };
    let device = Provision { credential, issued_unix_s: now, ..provision(&world) };
    let (back, shown) = visit(listener(&world, RECORD_BYTES_DEFAULT), &device, now, b"hello");
    assert_eq!((back, shown), (Ok(b"hello".to_vec()), Some(Vec::new())));
}

/// Why the listener has a setting: rustls does not negotiate the length.
#[test]
fn large_records_need_the_setting_of_the_listener() {
    let (world, now) = world_of_today();
    let device = Provision { issued_unix_s: now, ..provision(&world) };
    let bytes = vec![7; 20_000];
    let (back, _) = visit(listener(&world, RECORD_BYTES_MAX), &device, now, &bytes);
    assert_eq!(back, Err(Error::Refused(Refusal::RecordLength)));
}

#[test]
fn a_gateway_of_another_ca_or_name_is_refused_and_a_foreign_device_is_told() {
    let (world, now) = world_of_today();
    let (other, _) = world_of_today();
    let device = Provision { issued_unix_s: now, ..provision(&world) };
    let (back, shown) = visit(listener(&other, RECORD_BYTES_DEFAULT), &device, now, b"hello");
    assert_eq!((back, shown), (Err(Error::Refused(Refusal::Issuer)), None));
    let elsewhere = Provision { server_name: "barn-4.local", ..device.clone() };
    let (back, shown) = visit(listener(&world, RECORD_BYTES_DEFAULT), &elsewhere, now, b"hello");
    assert_eq!((back, shown), (Err(Error::Refused(Refusal::Name)), None));
    let Credential::Certificate { gateway_ca, .. } = device.credential else { unreachable!() };
    let credential = Credential::Certificate {
        gateway_ca,
        certificate: &other.device.der,
        key: other.device.scalar(),
    };
    let foreign = Provision { credential, ..device };
    let (back, shown) = visit(listener(&world, RECORD_BYTES_DEFAULT), &foreign, now, b"hello");
    // The gateway's alert may be overtaken by the end of the connection.
    let told = matches!(back, Err(Error::Ended | Error::Closed | Error::Transport(_)));
    assert!(told && shown.is_none(), "{back:?} {shown:?}");
}

/// Prints figures: `cargo test -p device-sdk --features tls --test tls -- --ignored --nocapture figures`.
#[test]
#[ignore = "prints figures"]
fn figures() {
    let (world, now) = world_of_today();
    let device = Provision { issued_unix_s: now, ..provision(&world) };
    let config = listener(&world, RECORD_BYTES_DEFAULT);
    let mut times: Vec<_> = (0..21)
        .map(|_| {
            let begin = Instant::now();
            let (back, _) = visit(Arc::clone(&config), &device, now, b"x");
            assert!(back.is_ok());
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!("handshake, echo and goodbye over loopback: median {:?}, of 21", times[10]);
    for record in [RECORD_BYTES_DEFAULT, RECORD_BYTES_MAX] {
        println!(
            "records of {record} B: {:?} for 64 MiB from the gateway's side",
            throughput(&world, record)
        );
    }
}

/// How long rustls takes to encrypt 64 MiB in messages of 128 KiB, with a rustls client that reads them.
fn throughput(world: &World, record: usize) -> std::time::Duration {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(world.gateway_ca.der.clone().into()).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = NAME.try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).expect("a client");
    let mut server = rustls::ServerConnection::new(listener(world, record)).expect("a server");
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        client.write_tls(&mut wire).expect("written");
        server.read_tls(&mut &wire[..]).expect("read");
        server.process_new_packets().expect("sound");
        wire.clear();
        server.write_tls(&mut wire).expect("written");
        client.read_tls(&mut &wire[..]).expect("read");
        client.process_new_packets().expect("sound");
    }
    server.set_buffer_limit(None);
    let message = vec![7; 128 << 10];
    let begin = Instant::now();
    for _ in 0..512 {
        std::io::Write::write_all(&mut server.writer(), &message).expect("room");
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("written");
        }
    }
    begin.elapsed()
}
