//! Thousands of handshakes with something wrong in them, from seeds: no panic, and nobody is believed who lacks the key.
//!
//! A failure names its seed. `HOLM_FUZZ_CASES` asks for more than the usual number.

use device_sdk::tls::{Error, Random};
use rand_core::RngCore;
use tokio::io::duplex;

use crate::evil::{Evil, Heard, Step, message};
use crate::pki::{NOW, World};
use crate::support::{device, provision, run};

fn cases(usual: u64) -> u64 {
    std::env::var("HOLM_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn random(seed: u64) -> Random {
    let mut entropy = [0; 32];
    entropy[..8].copy_from_slice(&seed.to_le_bytes());
    Random::new(entropy)
}

fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.next_u64() % bound.max(1) as u64).expect("small")
}

/// Changes, cuts, doubles or lengthens bytes.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=below(random, 3) {
        let at = below(random, bytes.len());
        match below(random, 6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), random.next_u64().to_le_bytes()[0]),
            2 => {
                let rest = bytes[at.min(bytes.len())..].to_vec();
                bytes.extend(rest.iter().take(64));
            }
            3 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][below(random, 5)],
            _ if !bytes.is_empty() => bytes[at] ^= 1 << below(random, 8),
            _ => bytes.push(0),
        }
    }
    bytes.truncate(16_000);
}

/// A case: the device against that script, and a ServerHello changed by `change`.
fn meet(
    world: &World,
    script: &[Step],
    change: impl FnOnce(&mut Vec<u8>),
) -> (Result<Vec<u8>, Error>, Heard) {
    run(async {
        let (here, there) = duplex(1 << 17);
        let server = async {
            match Evil::hello(there, 1, change).await {
                Some(evil) => evil.play(script).await,
                None => Heard::default(),
            }
        };
        let provision = provision(world);
        tokio::join!(device(here, &provision, Some(NOW)), server)
    })
}

/// An attacker without the gateway's key, who changes every message as chance has it, is never believed.
#[test]
fn mutated_handshakes_are_never_believed() {
    let world = World::new();
    let stranger = world.device.scalar();
    for seed in 0..cases(1500) {
        let random = &mut random(seed);
        let mut messages = vec![
            message(8, &[0, 0]),
            message(13, &[0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]),
            certificate(&world),
        ];
        if below(random, 3) > 0 {
            let at = below(random, messages.len());
            mutate(random, &mut messages[at]);
        }
        let mut script: Vec<_> = messages.into_iter().map(Step::Message).collect();
        if below(random, 2) == 0 {
            let at = below(random, script.len());
            let step = script.remove(at);
            script.insert(below(random, script.len() + 1), step);
        }
        if below(random, 4) > 0 {
            script.push(Step::CertificateVerify(stranger));
        }
        script.push(Step::Finished);
        if below(random, 3) == 0 {
            script = vec![Step::Together(script)];
        }
        let (result, heard) = meet(&world, &script, |_| {});
        assert!(result.is_err() && heard == Heard::default(), "seed {seed}: {result:?} {heard:?}");
    }
}

fn certificate(world: &World) -> Vec<u8> {
    let der = &world.gateway.der;
    let length = |extra: usize| u32::try_from(der.len() + extra).expect("short").to_be_bytes();
    let body = [&[0][..], &length(5)[1..], &length(0)[1..], der, &[0, 0]].concat();
    message(11, &body)
}

/// Changed bytes of the gateway's certificate alone: what the CA signed is what counts.
#[test]
fn mutated_certificates_are_never_believed() {
    let world = World::new();
    for seed in 0..cases(1500) {
        let random = &mut random(seed);
        let mut der = world.gateway.der.clone();
        mutate(random, &mut der);
        if der == world.gateway.der {
            continue;
        }
        // The right key signs, so only the certificate stands in the way.
        let script = [
            Step::EncryptedExtensions,
            Step::Certificate(vec![der]),
            Step::CertificateVerify(world.gateway.scalar()),
            Step::Finished,
        ];
        let (result, heard) = meet(&world, &script, |_| {});
        assert!(result.is_err() && heard == Heard::default(), "seed {seed}: {result:?} {heard:?}");
    }
}

/// The rightful gateway gone mad: anything on the open connection, and any ServerHello, ends in an error or is read.
#[test]
fn nothing_makes_the_device_panic() {
    let world = World::new();
    for seed in 0..cases(1500) {
        let random = &mut random(seed);
        let mut bytes = vec![0; below(random, 200)];
        random.fill_bytes(&mut bytes);
        let kind = [0, 20, 21, 22, 22, 22, 23, 24, 99][below(random, 9)];
        if kind == 22 && below(random, 3) > 0 {
            let inner = [2, 4, 4, 8, 11, 13, 15, 20, 24][below(random, 9)];
            bytes = message(inner, &bytes);
        }
        let step = match below(random, 4) {
            0 => Step::Clear(kind, bytes),
            1 => Step::Wire(bytes),
            _ => Step::Encrypted(kind, bytes),
        };
        let mut script = crate::support::opened(&world);
        let at = if below(random, 3) == 0 { below(random, script.len()) } else { script.len() };
        script.insert(at, step);
        script.push(Step::Encrypted(21, vec![1, 0]));
        let _ = meet(&world, &script, |_| {});
        let script = crate::support::opened(&world);
        let _ = meet(&world, &script, |hello| mutate(random, hello));
    }
}
