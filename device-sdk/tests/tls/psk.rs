//! Pre-shared keys, with a broker that speaks them: Mosquitto. A Holm gateway does not, since rustls does not.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use device_protocol::provision::{Credential, Provision};
use device_sdk::tls::{Error, Memory, RECORD_4_KIB, Random, Refusal, connect};
use embedded_io_async::{Read, Write};
use tokio::net::TcpStream;

use crate::evil::Step;
use crate::pki::{NOW, World, pem};
use crate::support::{Wire, honest, meet, provision, run};

const IDENTITY: &[u8] = b"press-7";
const KEY: [u8; 16] = *b"sixteen bytes ok";

struct Broker(Child, u16);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Mosquitto with these lines in its listener; none where it is not installed, which is said.
fn mosquitto(dir: &Path, listener: &str) -> Option<Broker> {
    let program = ["/usr/sbin/mosquitto", "mosquitto"].into_iter().find(|program| {
        Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    let Some(program) = program else {
        eprintln!("SKIPPED: mosquitto is not installed, pre-shared keys are not tested");
        return None;
    };
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let port = port.expect("a port").port();
    let config = dir.join("mosquitto.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\ntls_version tlsv1.3\n{listener}"
    );
    fs::write(&config, text).expect("written");
    let child = Command::new(program).arg("-c").arg(&config).stderr(Stdio::null()).spawn();
    let broker = Broker(child.expect("a process"), port);
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(broker);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("mosquitto does not listen");
}

/// MQTT 3.1.1: CONNECT, QoS 1 PUBLISH; what comes back must be CONNACK and PUBACK.
const CONNECT: &[u8] = b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03dev";
const PUBLISH: &[u8] = b"\x32\x07\0\x01a\0\x01hi";
const ANSWERS: &[u8] = b"\x20\x02\0\0\x40\x02\0\x01";

fn publish(port: u16, provision: &Provision<'_>, now: u64) -> Result<Vec<u8>, Error> {
    run(async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
        let mut memory = Box::new(Memory::<RECORD_4_KIB, 2048>::new());
        let random = &mut Random::new([5; 32]);
        let mut stream = connect(Wire(stream), &mut memory, provision, Some(now), random).await?;
        stream.write_all(CONNECT).await?;
        stream.write_all(PUBLISH).await?;
        stream.flush().await?;
        let mut answers = vec![0; ANSWERS.len()];
        let mut filled = 0;
        while filled < answers.len() {
            match stream.read(&mut answers[filled..]).await? {
                0 => return Err(Error::Closed),
                length => filled += length,
            }
        }
        Ok(answers)
    })
}

fn by_key<'a>(world: &'a World, key: &'a [u8]) -> Provision<'a> {
    Provision { credential: Credential::Psk { identity: IDENTITY, key }, ..provision(world) }
}

#[test]
fn a_shared_key_opens_mosquitto_and_a_wrong_one_does_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let keys = dir.path().join("keys");
    let hex: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(&keys, format!("press-7:{hex}\n")).expect("written");
    let listener = format!("psk_hint holm\npsk_file {}\n", keys.display());
    let Some(broker) = mosquitto(dir.path(), &listener) else { return };
    let world = World::new();
    assert_eq!(publish(broker.1, &by_key(&world, &KEY), NOW), Ok(ANSWERS.to_vec()));
    let wrong = publish(broker.1, &by_key(&world, b"sixteen bytes no"), NOW);
    assert!(matches!(wrong, Err(Error::Alert(_) | Error::Closed)), "{wrong:?}");
}

/// Who does not know the key is not believed, with or without a certificate.
#[test]
fn a_server_without_the_key_is_refused() {
    let world = World::new();
    let device = by_key(&world, &KEY);
    for script in [vec![Step::EncryptedExtensions, Step::Finished], honest(&world)] {
        let (result, heard) = meet(&device, Some(NOW), &script);
        assert!(matches!(result, Err(Error::Record)), "{result:?}");
        assert!(heard.data.is_empty());
    }
}

/// The same device with certificates: OpenSSL honours the length of records that the device asks for.
#[test]
fn certificates_open_mosquitto() {
    let dir = tempfile::tempdir().expect("a folder");
    let (world, now) = crate::gateway::world_of_today();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let listener = format!(
        "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
        file("ca.pem", world.device_ca.pem()),
        file("cert.pem", world.gateway.pem()),
        file("key.pem", pem("PRIVATE KEY", &world.gateway.key.serialize_der())),
    );
    let Some(broker) = mosquitto(dir.path(), &listener) else { return };
    let device = Provision { issued_unix_s: now, ..provision(&world) };
    assert_eq!(publish(broker.1, &device, now), Ok(ANSWERS.to_vec()));
    let elsewhere = Provision { server_name: "barn-4.local", ..device };
    let refused = publish(broker.1, &elsewhere, now);
    assert_eq!(refused, Err(Error::Refused(Refusal::Name)));
}
