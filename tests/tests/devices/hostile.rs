//! The firmware with TLS against gateways that are none: refused, and never a panic.

#[allow(dead_code, reason = "shared with the tests of the device SDK, which use all of it")]
#[path = "../../../device-sdk/tests/tls/evil.rs"]
mod evil;
#[allow(dead_code, reason = "as above")]
#[path = "../../../device-sdk/tests/tls/pki.rs"]
mod pki;

use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use device_protocol::provision::{
    Credential, GATEWAYS_MAX, Gateway, IMAGE_BYTES, Provision, encode_image,
};
use rcgen::SanType;
use system_tests::qemu::{Device, Options, firmware};
use system_tests::random::Random;
use system_tests::sensors::{FOLDER, PATIENCE, write_flash};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use self::evil::{DATA, Evil, HANDSHAKE, Heard, Step, message};
use self::pki::{DAY, NAME, NOW, Pair, World, at, authority};
use crate::skipped;

/// How long the mad gateway goes on.
const FUZZ: Duration = Duration::from_secs(60);

/// A flash of a device of that world, whose gateway is at `port` of the host.
fn provision(world: &World, port: u16, flash: &Path) -> Result<()> {
    let mut gateways = heapless::Vec::<_, GATEWAYS_MAX>::new();
    let gateway = Gateway { host: "10.0.2.2", port };
    gateways.push(gateway).ok().context("room for a gateway")?;
    let credential = Credential::Certificate {
        gateway_ca: &world.gateway_ca.der,
        certificate: &world.device.der,
        key: world.device.scalar(),
    };
    let provision = Provision {
        device: "press-7",
        issued_unix_s: NOW,
        gateways,
        server_name: NAME,
        credential,
        author_key: None,
    };
    let mut image = [0; IMAGE_BYTES];
    encode_image(&provision, 1, &mut image)?;
    write_flash(flash, &image)
}

/// An emulated device of `world` with the firmware of profile `min` and TLS.
fn boot(world: &World, port: u16, dir: &Path) -> Result<Device> {
    let firmware = firmware(FOLDER, &["tls"])?;
    let flash = dir.join("press-7.flash");
    provision(world, port, &flash)?;
    let mut options = Options::new(&firmware.path, &["backoff_ms_max=100", "period_ms=1000"]);
    options.flash = Some(flash);
    Device::start("press-7", dir, &options)
}

/// One connection of the device to a server that follows the script; what it heard.
async fn meet(listener: &TcpListener, script: &[Step], seed: u64) -> Result<Heard> {
    let (mut socket, _) = listener.accept().await?;
    let (near, mut far) = duplex(1 << 16);
    let server = async {
        match Evil::hello(near, seed, |_| {}).await {
            Some(evil) => evil.play(script).await,
            None => Heard::default(),
        }
    };
    let wire = carry(&mut socket, &mut far);
    let heard = async {
        tokio::select! {
            heard = server => heard,
            never = wire => match never {},
        }
    };
    Ok(tokio::time::timeout(PATIENCE, heard).await?)
}

/// Carries bytes both ways, and the end of each way. A device that gives up a connection resets it: nothing here waits for
/// it to fall silent.
async fn carry(socket: &mut TcpStream, far: &mut DuplexStream) -> Infallible {
    let (mut from_device, mut to_device) = socket.split();
    let (mut from_server, mut to_server) = tokio::io::split(far);
    let up = async {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = from_device.read(&mut bytes).await {
            if to_server.write_all(&bytes[..length]).await.is_err() {
                break;
            }
        }
        // The server may be gone already.
        let _ = to_server.shutdown().await;
    };
    let down = async {
        // The device may be gone already.
        let _ = tokio::io::copy(&mut from_server, &mut to_device).await;
        let _ = to_device.shutdown().await;
    };
    tokio::join!(up, down);
    std::future::pending().await
}

fn block_on<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(what)
}

/// A server with that leaf and its key, honest otherwise.
fn showing(leaf: &Pair, behind: &[&Pair]) -> Vec<Step> {
    let chain = [leaf].into_iter().chain(behind.iter().copied()).map(|pair| pair.der.clone());
    vec![
        Step::EncryptedExtensions,
        Step::Certificate(chain.collect()),
        Step::CertificateVerify(leaf.scalar()),
        Step::Finished,
    ]
}

/// Gateways that must be refused: what is wrong, what the device says, and what the server does.
fn impostors(world: &World) -> Result<Vec<(&'static str, &'static str, Vec<Step>)>> {
    let stranger = authority("gateways of test");
    let foreign = stranger.sign(pki::gateway());
    let mut params = pki::gateway();
    params.subject_alt_names = vec![SanType::DnsName("barn-4.local".try_into()?)];
    let other_name = world.gateway_ca.sign(params);
    let mut params = pki::gateway();
    (params.not_before, params.not_after) = (at(NOW - 9 * DAY), at(NOW - 8 * DAY));
    let expired = world.gateway_ca.sign(params);
    let by_device = world.device.sign(pki::gateway());
    let issuer = "the provisioned gateway CA did not sign its certificate";
    Ok(vec![
        ("wrong CA", issuer, showing(&foreign, &[&stranger])),
        ("wrong host name", "another name than the provisioned", showing(&other_name, &[])),
        ("expired", "its certificate has expired", showing(&expired, &[])),
        ("leaf as CA", issuer, showing(&by_device, &[&world.device, &world.device_ca])),
        (
            "certificate skipped",
            "it did not prove who it is",
            vec![Step::EncryptedExtensions, Step::Finished],
        ),
    ])
}

#[test]
fn impostors_are_refused_by_the_firmware_and_hear_nothing() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let world = World::new();
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut device = boot(&world, listener.local_addr()?.port(), dir.path())?;
        for (what, refusal, script) in impostors(&world)? {
            let heard = meet(&listener, &script, 1).await.context(what)?;
            ensure!(heard == Heard::default(), "{what}: the server heard {heard:?}");
            device.console_line(refusal, PATIENCE).context(what)?;
            eprintln!("{what}: refused");
        }
        // The same device believes its own gateway.
        let honest = [showing(&world.gateway, &[]), vec![Step::Open]].concat();
        let heard = meet(&listener, &honest, 1).await?;
        ensure!(heard.data.first() == Some(&0x10), "a CONNECT: {heard:?}");
        Ok(())
    })
}

fn bytes(random: &mut Random, most: usize) -> Vec<u8> {
    (0..random.below(most)).map(|_| random.bits().to_le_bytes()[0]).collect()
}

/// What a mad gateway says in one connection: TLS records and MQTT packets as chance has them.
fn madness(world: &World, random: &mut Random) -> Vec<Step> {
    let mut script = [showing(&world.gateway, &[]), vec![Step::Open]].concat();
    let connack = vec![0x20, 3, 0, 0, 0];
    if !random.one_in(3) {
        script.push(Step::Encrypted(DATA, connack));
        for _ in 0..random.below(4) {
            let head =
                [0x20, 0x30, 0x32, 0x3D, 0x40, 0x50, 0x90, 0xD0, 0xE0, 0xF0][random.below(10)];
            let body = bytes(random, 200);
            let length = if random.one_in(4) { 0xFF } else { body.len().to_le_bytes()[0] & 0x7F };
            script.push(Step::Encrypted(DATA, [&[head, length][..], &body].concat()));
        }
    }
    let kind = [0, 20, 21, 22, 23, 24, 99][random.below(7)];
    let junk =
        if random.one_in(3) { message(kind, &bytes(random, 200)) } else { bytes(random, 300) };
    let step = match random.below(4) {
        0 => Step::Clear(kind, junk),
        1 => Step::Wire(junk),
        2 => Step::Encrypted(HANDSHAKE, junk),
        _ => Step::Encrypted(kind, junk),
    };
    let place = if random.one_in(3) { random.below(script.len()) } else { script.len() };
    script.insert(place, step);
    script
}

#[test]
fn a_mad_gateway_makes_no_firmware_panic() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let world = World::new();
    let mut random = Random::new(4);
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut device = boot(&world, listener.local_addr()?.port(), dir.path())?;
        let (begun, mut connections) = (Instant::now(), 0);
        while begun.elapsed() < FUZZ {
            let script = madness(&world, &mut random);
            let met = meet(&listener, &script, random.bits()).await;
            met.with_context(|| {
                format!("connection {connections}: {script:?}\n{}", device.console())
            })?;
            connections += 1;
        }
        device.console_line("Connecting", PATIENCE)?;
        let console = device.console();
        ensure!(!console.contains("panic: ") && !console.contains("hard fault: "), "{console}");
        eprintln!("{connections} connections, no panic");
        ensure!(connections >= 10, "only {connections} connections: it proves little");
        Ok(())
    })
}
