//! A device with the image that `holm device add` wrote, through its own TLS, at a gateway with the listener that
//! `holm device listener` issued.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use device_protocol::provision::{COPY_BYTES, Credential, Provision, newest};
use device_sdk::tls::{Error, Memory, RECORD_4_KIB, Random, Refusal, Stream, connect};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use system_tests::author::Author;
use system_tests::gateway::{Gateway, Setup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::PATIENCE;

/// A socket of tokio, as devices see transports.
struct Wire(TcpStream);

impl ErrorType for Wire {
    type Error = ErrorKind;
}

impl Read for Wire {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0.read(out).await.map_err(|_| ErrorKind::Other)
    }
}

impl Write for Wire {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0.write(bytes).await.map_err(|_| ErrorKind::Other)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.0.flush().await.map_err(|_| ErrorKind::Other)
    }
}

/// A field with its length in two bytes.
fn field(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("short");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// An MQTT packet.
fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![head];
    let mut left = body.len();
    loop {
        let more = if left > 0x7F { 0x80 } else { 0 };
        packet.push(u8::try_from(left & 0x7F).expect("seven bits") | more);
        left >>= 7;
        if left == 0 {
            break;
        }
    }
    [packet, body.to_vec()].concat()
}

/// CONNECT of MQTT 3.1.1, as the device was provisioned.
fn hello(provision: &Provision<'_>) -> Vec<u8> {
    let name = field(provision.device.as_bytes());
    let (flags, login) = match provision.credential {
        Credential::Token { token, .. } => (0xC2, [name.clone(), field(token.as_bytes())].concat()),
        _ => (2, Vec::new()),
    };
    packet(0x10, &[&b"\0\x04MQTT\x04"[..], &[flags, 0, 60], &name, &login].concat())
}

fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    packet(0x32, &[&field(topic.as_bytes())[..], &[0, 1], payload].concat())
}

const WELCOME: [u8; 4] = [0x20, 2, 0, 0];
const BAD_LOGIN: [u8; 4] = [0x20, 2, 0, 4];
const PUBLISHED: [u8; 4] = [0x40, 2, 0, 1];

async fn expect<const N: usize>(stream: &mut Stream<'_, Wire>) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    match stream.read_exact(&mut bytes).await {
        Ok(()) => Ok(bytes),
        Err(error) => bail!("no answer: {error:?}"),
    }
}

/// One conversation of a device with the image in `file`: its CONNACK, and what `then` does with the connection.
fn talk(
    file: &Path,
    address: SocketAddr,
    then: impl AsyncFnOnce(&mut Stream<'_, Wire>) -> Result<()>,
) -> Result<[u8; 4]> {
    let image = std::fs::read(file)?;
    let (first, second) = image.split_at(COPY_BYTES);
    let found = newest([first, second]).map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let provision = found.provision;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let conversation = async {
        let socket = TcpStream::connect(address).await?;
        let mut memory = Box::new(Memory::<RECORD_4_KIB, 2048>::new());
        let random = &mut Random::new([3; 32]);
        let mut stream = connect(Wire(socket), &mut memory, &provision, Some(now), random).await?;
        stream.write_all(&hello(&provision)).await?;
        stream.flush().await?;
        let answer = expect(&mut stream).await?;
        if answer == WELCOME {
            then(&mut stream).await?;
            stream.close().await?;
        }
        anyhow::Ok(answer)
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, conversation).await })?
}

async fn publish_one(stream: &mut Stream<'_, Wire>, topic: &str) -> Result<()> {
    stream.write_all(&publish(topic, b"21.5")).await?;
    stream.flush().await?;
    ensure!(expect(stream).await? == PUBLISHED);
    Ok(())
}

#[test]
fn provisioned_devices_publish_through_their_own_tls() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(&dir.path().join("author"))?;
    let path = |name: &str| dir.path().join(name);
    let text = |name: &str| path(name).to_str().map(str::to_owned).context("UTF-8");
    author.holm(&["device", "ca"])?;
    let out = text("")?;
    author.holm(&["device", "listener", "barn", "--host", "127.0.0.1", "--out", &out])?;
    let setup = Setup {
        name: "barn".to_owned(),
        tls: Some((path("barn.pem"), path("barn.key"))),
        client_ca: Some(path("device-ca.pem")),
        ..Setup::default()
    };
    let mut gateway = Gateway::new(&path("gateway"), &setup)?;
    let address = gateway.address();
    let (at, agent_toml) = (address.to_string(), text("gateway/agent.toml")?);
    let add = |name: &str, more: &[&str]| {
        let file = text(&format!("{name}.provision"))?;
        let words = ["device", "add", name, "--gateway", &at, "--out", &file];
        author.holm(&[&words[..], more].concat())
    };
    let both = ["--agent-toml", &agent_toml, "--subscribe", "sensors/{device}/#"];
    add("press-7", &both)?;
    add("press-8", &[&both[..], &["--token"]].concat())?;
    add("stranger", &[])?;
    add("elsewhere", &["--server-name", "10.0.0.1"])?;
    assert!(add("press-7", &both).is_err(), "a device is provisioned once");
    gateway.start()?;

    for name in ["press-7", "press-8"] {
        let topic = format!("sensors/{name}/t");
        let file = path(&format!("{name}.provision"));
        let answer = talk(&file, address, async |stream| publish_one(stream, &topic).await)?;
        assert_eq!(answer, WELCOME, "{name}");
    }
    let answer = talk(&path("stranger.provision"), address, async |_| Ok(()))?;
    assert_eq!(answer, BAD_LOGIN, "its certificate is right, and nobody told the gateway");
    let error = talk(&path("elsewhere.provision"), address, async |_| Ok(())).unwrap_err();
    let refusal = error.downcast_ref::<Error>().copied();
    assert_eq!(refusal, Some(Error::Refused(Refusal::Name)), "{error:#}");

    // A message of many records comes back whole into buffers of 4 KiB.
    let large: Vec<u8> = (0..20_000u32).map(|n| n.to_le_bytes()[0]).collect();
    talk(&path("press-7.provision"), address, async |stream| {
        let filter = [&[0, 2][..], &field(b"sensors/press-7/#"), &[0]].concat();
        stream.write_all(&packet(0x82, &filter)).await?;
        stream.flush().await?;
        ensure!(expect(stream).await? == [0x90, 3, 0, 2, 0]);
        let message = publish("sensors/press-7/large", &large);
        stream.write_all(&message).await?;
        stream.flush().await?;
        // The delivery is QoS 0 and has no packet id; it may come before the PUBACK or behind it.
        let topic = field(b"sensors/press-7/large");
        let delivery = packet(0x30, &[&topic[..], &large].concat());
        let mut heard = vec![0; delivery.len() + PUBLISHED.len()];
        let read = stream.read_exact(&mut heard).await;
        ensure!(read.is_ok(), "{read:?}");
        ensure!(
            heard == [&delivery[..], &PUBLISHED].concat()
                || heard == [&PUBLISHED[..], &delivery].concat()
        );
        Ok(())
    })?;
    gateway.stop()?;

    // A gateway of other authorities on the same port hears nothing from the device.
    let impostor = Author::new(&path("impostor"))?;
    impostor.holm(&["device", "ca"])?;
    let words = ["device", "listener", "barn", "--host", "127.0.0.1", "--replace", "--out", &out];
    impostor.holm(&words)?;
    gateway.start()?;
    let error = talk(&path("press-7.provision"), address, async |_| Ok(())).unwrap_err();
    let refusal = error.downcast_ref::<Error>().copied();
    assert_eq!(refusal, Some(Error::Refused(Refusal::Issuer)), "{error:#}");
    gateway.stop()
}
