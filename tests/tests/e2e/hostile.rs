//! Clients that break the rules, and clients that keep them in bad faith. Each is a row: what it
//! sends, and how it has to end. Beside all of them a well-behaved client publishes at a steady
//! rate and must notice nothing.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use edge_broker::codec::{Connect, Packet, Version};
use system_tests::connections::Latency;
use system_tests::gateway::{Gateway, Setup};
use system_tests::mqtt::Login;
use system_tests::pki;
use system_tests::swarm::Link;
use system_tests::watchers::Watchers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

mod cases;

use cases::malformed_when_connected;
use cases::{Abusive, Ends, Malformed, abusive, connect, malformed_connects};

/// Patience with a connection that has to be closed.
const CLOSED_MAX: Duration = Duration::from_secs(20);
/// What the well-behaved client may notice.
const P99_MAX_MS: f64 = 250.0;

/// Everything until the server closes.
async fn end(link: &mut Link) -> Ends {
    let mut last = Ends::Closed;
    while let Ok(packet) = link.next().await {
        last = match packet {
            Packet::ConnAck(ack) => Ends::ConnAck(ack.reason),
            Packet::Disconnect(why) => Ends::Disconnect(why.reason),
            _ => last,
        };
    }
    last
}

impl Malformed {
    async fn check(self, address: SocketAddr) -> Result<()> {
        let Self { what, version, connected, bytes, ends } = self;
        let mut link = if connected {
            Link::join(address, None, Connect::new(version, "hostile")).await?.0
        } else {
            Link::open(address, None, version).await?
        };
        // It may be closed before all of it is written.
        let _ = link.write(&bytes).await;
        let ended = timeout(CLOSED_MAX, end(&mut link)).await;
        let ended = ended.with_context(|| format!("{what} ({version:?}): not closed"))?;
        assert_eq!(ended, ends, "{what} ({version:?})");
        Ok(())
    }
}

impl Abusive {
    async fn check(self, address: SocketAddr) -> Result<()> {
        let mut link = match &self.connect {
            Some(connect) => Link::join(address, None, connect.clone()).await?.0,
            None => Link::open(address, None, Version::V5).await?,
        };
        let Some(ends) = self.ends else {
            // It never reads; it is stopped by its own socket, or by a closed connection.
            let abusing = self.send(&mut link);
            let _ = timeout(Duration::from_secs(6), abusing).await;
            return Ok(());
        };
        let begin = Instant::now();
        let _ = timeout(CLOSED_MAX, self.send(&mut link)).await;
        let left = CLOSED_MAX.saturating_sub(begin.elapsed());
        let ended = timeout(left, end(&mut link)).await;
        assert_eq!(
            ended.with_context(|| format!("{}: not closed", self.what))?,
            ends,
            "{}",
            self.what
        );
        Ok(())
    }

    /// Until the connection breaks, or the pieces are sent.
    async fn send(&self, link: &mut Link) {
        loop {
            for piece in &self.pieces {
                if link.write(piece).await.is_err() {
                    return;
                }
                sleep(self.pause).await;
            }
            if !self.again {
                return;
            }
        }
    }
}

fn gateway(dir: &std::path::Path) -> Result<Gateway> {
    let more = format!(
        "[[devices]]\nname = \"press-1\"\ntoken_sha256 = \"{}\"\n",
        system_tests::ledger::hash(b"token")
    );
    let mut gateway = Gateway::new(dir, &Setup { more, ..Setup::open("besieged") })?;
    gateway.start()?;
    Ok(gateway)
}

/// A well-behaved client beside what `attack` does; it has to be served as ever. What the machine
/// itself costs at the moment is seen by another one at a gateway that nobody attacks.
fn beside_a_good_client(login: Login, attack: impl Future<Output = Result<()>>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut spared = gateway(dir.path())?;
    let every = Duration::from_millis(10);
    let good = Watchers::start(vec![login], every)?;
    let control = Watchers::start(vec![Login::anonymous(spared.address(), "control")], every)?;
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    io.block_on(attack)?;
    let (good, control) = (latency(good)?, latency(control)?);
    println!("publish to PUBACK: {good}; at a gateway that nobody attacks: {control}");
    assert!(good.samples >= 20, "too short: {good}");
    let bound_ms = P99_MAX_MS + 2.0 * control.p99_ms;
    assert!(good.p99_ms <= bound_ms, "the good client noticed: {good}; elsewhere {control}");
    spared.stop()
}

/// What one watcher saw to the end.
fn latency(watchers: Watchers) -> Result<Latency> {
    let seen = watchers.stop()?.remove(0);
    assert_eq!(seen.lost, None, "the good client was lost");
    Ok(Latency::of(seen.samples.iter().map(|sample| sample.took).collect()))
}

#[test]
fn malformed_packets_end_their_own_connection_with_the_reason() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    let address = gateway.address();
    beside_a_good_client(Login::anonymous(address, "good"), async {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) {
            for case in malformed_when_connected().into_iter().chain(malformed_connects()) {
                case.check(address).await?;
            }
        }
        Ok(())
    })?;
    gateway.stop()
}

#[test]
fn slow_deaf_and_flooding_clients_disturb_nobody() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path())?;
    let address = gateway.address();
    beside_a_good_client(Login::anonymous(address, "good"), async {
        let all: Vec<_> =
            abusive().into_iter().map(|case| tokio::spawn(case.check(address))).collect();
        for case in all {
            case.await??;
        }
        Ok(())
    })?;
    gateway.stop()
}

/// What the TLS port says to bytes that are no TLS.
async fn garbage(address: SocketAddr, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address).await?;
    let _ = socket.write_all(&bytes).await;
    let mut answer = Vec::new();
    // A reset is as good as an end.
    let _ = timeout(CLOSED_MAX, socket.read_to_end(&mut answer)).await.context("not closed")?;
    Ok(answer)
}

#[test]
fn garbage_on_the_tls_port_is_closed() -> Result<()> {
    const ALERT: u8 = 0x15;
    let dir = tempfile::tempdir()?;
    let identity = pki::server_identity(&dir.path().join("pki"))?;
    let setup = Setup::open("besieged").with_tls(&identity);
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    let address = gateway.address();
    let login = Login { ca: Some(identity.ca), ..Login::anonymous(address, "good") };
    let cases: [(&str, Vec<u8>); 6] = [
        ("MQTT without TLS", connect(b"MQTT", 5, 2, &[0, 0, 0])),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("zeros", vec![0; 10_000]),
        (
            "a record longer than records are",
            [&[0x16, 3, 1, 0xFF, 0xFF][..], &vec![0; 20_000]].concat(),
        ),
        ("a hello cut short", vec![0x16, 3, 1, 0, 4, 1, 0, 0, 0]),
        ("the first byte of a hello, then nothing", vec![0x16]),
    ];
    beside_a_good_client(login, async {
        let all: Vec<_> = cases
            .into_iter()
            .map(|(what, bytes)| (what, tokio::spawn(garbage(address, bytes))))
            .collect();
        for (what, answer) in all {
            let answer = answer.await?.context(what)?;
            let is_alert = answer.first().is_none_or(|first| *first == ALERT);
            assert!(is_alert, "{what}: {answer:x?}");
        }
        Ok(())
    })?;
    gateway.stop()
}
