//! embedded-tls 0.19 as it stands, without our fence: why there is one.
//!
//! Each test shows an attack that works, or bytes that make it panic. `attacks.rs` and `records.rs` show that the fence
//! stops the same. One that fails here says that the crate was mended there.

use std::panic::{AssertUnwindSafe, catch_unwind};

use embedded_io_async::Write;
use embedded_tls::pki::CertVerifier;
use embedded_tls::{
    Aes128GcmSha256, Certificate, CryptoProvider, CryptoRngCore, TlsClock, TlsConfig,
    TlsConnection, TlsContext, TlsError, TlsVerifier,
};
use p256::ecdsa::DerSignature;
use rand_core::SeedableRng;
use tokio::io::{DuplexStream, duplex};

use crate::evil::{ALERT, DATA, Evil, HANDSHAKE, Heard, Step, message};
use crate::pki::{NAME, NOW, World, gateway};
use crate::support::{SAID, Wire, opened, run};

struct Clock;

impl TlsClock for Clock {
    fn now() -> Option<u64> {
        Some(NOW)
    }
}

struct Provider<'a> {
    rng: rand_chacha::ChaCha12Rng,
    verifier: CertVerifier<'a, Aes128GcmSha256, Clock, 2048>,
}

impl CryptoProvider for Provider<'_> {
    type CipherSuite = Aes128GcmSha256;
    type Signature = DerSignature;

    fn rng(&mut self) -> impl CryptoRngCore {
        &mut self.rng
    }

    fn verifier(&mut self) -> Result<&mut impl TlsVerifier<Aes128GcmSha256>, TlsError> {
        Ok(&mut self.verifier)
    }
}

async fn client(wire: DuplexStream, world: &World) -> Result<(), TlsError> {
    let (mut read, mut write) = (vec![0; 16_640], vec![0; 4096]);
    let mut tls = TlsConnection::new(Wire(wire), &mut read, &mut write);
    let config = TlsConfig::new().with_server_name(NAME);
    let provider = Provider {
        rng: rand_chacha::ChaCha12Rng::seed_from_u64(1),
        verifier: CertVerifier::new(Certificate::X509(&world.gateway_ca.der)),
    };
    tls.open(TlsContext::new(&config, provider)).await?;
    tls.write_all(SAID).await?;
    tls.flush().await?;
    while tls.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}

/// What the server heard; `None` if the client panicked.
fn meet(world: &World, script: &[Step]) -> Option<Heard> {
    let both = || {
        run(async {
            let (here, there) = duplex(1 << 16);
            let server = async {
                let evil = Evil::hello(there, 1, |_| {}).await.expect("a ClientHello");
                evil.play(script).await
            };
            tokio::join!(client(here, world), server).1
        })
    };
    catch_unwind(AssertUnwindSafe(both)).ok()
}

/// Ends the client's reading.
fn goodbye() -> Step {
    Step::Encrypted(ALERT, vec![1, 0])
}

#[test]
fn it_talks_to_a_server_that_proves_nothing() {
    let world = World::new();
    let script = [Step::EncryptedExtensions, Step::Finished, Step::Open, goodbye()];
    assert_eq!(meet(&world, &script).expect("no panic").data, SAID);
}

#[test]
fn it_takes_a_device_for_a_ca() {
    let world = World::new();
    let device = world.gateway_ca.sign(crate::pki::device("press-8"));
    let leaf = device.sign(gateway());
    let script = [
        Step::EncryptedExtensions,
        Step::Certificate(vec![leaf.der.clone(), device.der.clone()]),
        Step::CertificateVerify(leaf.scalar()),
        Step::Finished,
        Step::Open,
        goodbye(),
    ];
    assert_eq!(meet(&world, &script).expect("no panic").data, SAID);
}

#[test]
fn it_takes_a_certificate_of_a_client_for_a_servers() {
    let world = World::new();
    let mut params = crate::pki::device("press-8");
    params.subject_alt_names = gateway().subject_alt_names;
    let leaf = world.gateway_ca.sign(params);
    let script = [
        Step::EncryptedExtensions,
        Step::Certificate(vec![leaf.der.clone()]),
        Step::CertificateVerify(leaf.scalar()),
        Step::Finished,
        Step::Open,
        goodbye(),
    ];
    assert_eq!(meet(&world, &script).expect("no panic").data, SAID);
}

#[test]
fn it_panics_on_a_proof_without_a_certificate() {
    let world = World::new();
    let verify = Step::CertificateVerify(world.gateway.scalar());
    assert_eq!(meet(&world, &[Step::EncryptedExtensions, verify]), None);
}

#[test]
fn it_panics_on_an_empty_record_before_any_proof() {
    let world = World::new();
    assert_eq!(meet(&world, &[Step::Encrypted(0, Vec::new())]), None);
}

#[test]
fn it_panics_on_handshake_messages_of_an_open_connection() {
    let world = World::new();
    let certificate = message(11, &[0, 0, 0, 0]);
    for step in
        [Step::Encrypted(HANDSHAKE, certificate.clone()), Step::Clear(HANDSHAKE, certificate)]
    {
        assert_eq!(meet(&world, &[opened(&world), vec![step]].concat()), None);
    }
    // The honest server is no trouble.
    let script = [opened(&world), vec![Step::Encrypted(DATA, b"x".to_vec()), goodbye()]].concat();
    assert_eq!(meet(&world, &script).expect("no panic").data, SAID);
}
