//! Bytes that no honest peer sends: an error, never a panic, and no read that loses its place.

use device_protocol::provision::{Credential, Provision};
use device_sdk::tls::{Error, Memory, Random, Refusal, connect};
use embedded_io_async::{Read, Write};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::evil::{ALERT, DATA, Evil, HANDSHAKE, Step, message};
use crate::pki::{NOW, World};
use crate::support::{Wire, honest, meet, opened, provision, run};

fn ends(world: &World, script: &[Step], error: Error) {
    let (result, _) = meet(&provision(world), Some(NOW), script);
    assert_eq!(result, Err(error), "{script:?}");
}

#[test]
fn records_that_must_not_come_end_the_connection() {
    let world = World::new();
    let record = Error::Refused(Refusal::Record);
    let certificate = message(11, &[0, 0, 0, 0]);
    for (step, error) in [
        // Each of these makes the crate panic, the first three in the handshake and so before any proof.
        (Step::Wire([&[DATA, 3, 3, 0, 16][..], &[0; 16]].concat()), record),
        (Step::Encrypted(0, Vec::new()), record),
        (Step::Encrypted(HANDSHAKE, certificate.clone()), Error::Record),
        (Step::Clear(HANDSHAKE, certificate), record),
        // These it would believe.
        (Step::Clear(ALERT, vec![1, 0]), record),
        (Step::Clear(20, vec![1]), record),
        (Step::Encrypted(0, vec![0; 40]), Error::Record),
        (Step::Encrypted(HANDSHAKE, message(24, &[0])), Error::Record),
        (Step::Encrypted(ALERT, vec![2, 42]), Error::Ended),
        (Step::Encrypted(ALERT, vec![2]), Error::Record),
        (Step::Clear(99, vec![1]), record),
        (Step::Wire(vec![DATA, 3, 3, 0xFF, 0xFF]), record),
        (Step::Wire(vec![DATA, 3, 1, 0, 32]), record),
        (Step::Wire(vec![DATA, 3, 3, 0x20, 0]), Error::Refused(Refusal::RecordLength)),
    ] {
        ends(&world, &[opened(&world), vec![step]].concat(), error);
    }
}

#[test]
fn a_handshake_is_short_and_encrypted_after_the_hello() {
    let world = World::new();
    let early = |step: Step| vec![Step::EncryptedExtensions, step];
    ends(
        &world,
        &early(Step::Clear(HANDSHAKE, message(8, &[0, 0]))),
        Error::Refused(Refusal::Record),
    );
    ends(&world, &early(Step::Encrypted(DATA, b"early".to_vec())), Error::Record);
    ends(&world, &early(Step::Clear(ALERT, vec![2, 40])), Error::Handshake);
    ends(&world, &vec![Step::Clear(20, vec![1]); 20], Error::Refused(Refusal::Records));
    // A message behind the Finished, in its record.
    let mut script = honest(&world);
    let finished = script.pop().expect("a Finished");
    script.push(Step::Together(vec![finished, Step::EncryptedExtensions]));
    ends(&world, &script, Error::Record);
}

#[test]
fn a_server_that_leaves_is_told_from_one_that_says_goodbye() {
    let world = World::new();
    let provision = provision(&world);
    let refused = run(async {
        let (here, mut there) = duplex(1 << 16);
        let server = async move {
            let mut header = [0; 5];
            there.read_exact(&mut header).await.expect("a ClientHello");
            there.write_all(&[ALERT, 3, 3, 0, 2, 2, 70]).await.expect("an alert");
            let _ = there.read_to_end(&mut Vec::new()).await;
        };
        tokio::join!(crate::support::device(here, &provision, Some(NOW)), server).0
    });
    assert_eq!(refused, Err(Error::Alert(70)), "protocol_version: the server speaks TLS 1.2 only");
    let gone = run(async {
        let (here, there) = duplex(1 << 16);
        let server = async {
            let evil = Evil::hello(there, 1, |_| {}).await.expect("a ClientHello");
            drop(evil.follow(&opened(&world)).await);
        };
        tokio::join!(crate::support::device(here, &provision, Some(NOW)), server).0
    });
    assert_eq!(gone, Err(Error::Closed));
}

/// Reads are cancelled after every few bytes of the wire; nothing is lost.
#[test]
fn cancelled_reads_lose_nothing() {
    let world = World::new();
    let provision = provision(&world);
    let words: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; 1 + 7 * usize::from(n)]).collect();
    let heard = run(async {
        let (here, slow) = duplex(1 << 16);
        let (mut trickle, there) = duplex(1 << 16);
        let server = async {
            let evil = Evil::hello(there, 1, |_| {}).await.expect("a ClientHello");
            let records = words.iter().map(|word| Step::Encrypted(DATA, word.clone()));
            evil.play(&opened(&world).into_iter().chain(records).collect::<Vec<_>>()).await;
        };
        // Between both: bytes towards the device come three at a time, with a turn of the runtime between.
        let between = async move {
            let (mut from, mut to) = tokio::io::split(slow);
            let (mut evil_out, mut evil_in) = tokio::io::split(&mut trickle);
            let up = tokio::io::copy(&mut from, &mut evil_in);
            let down = async {
                let mut bytes = [0; 3];
                while let Ok(length @ 1..) = evil_out.read(&mut bytes).await {
                    if to.write_all(&bytes[..length]).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! { _ = up => {}, () = down => {} }
        };
        let device = async {
            let mut memory = Box::new(Memory::<4357, 2048>::new());
            let random = &mut Random::new([9; 32]);
            let mut stream = connect(Wire(here), &mut memory, &provision, Some(NOW), random)
                .await
                .expect("open");
            let (mut heard, mut room, mut cancelled) = (Vec::<u8>::new(), [0; 64], 0);
            let total: usize = words.iter().map(Vec::len).sum();
            while heard.len() < total {
                // The read is dropped at its first suspension.
                let read = tokio::select! {
                    biased;
                    read = stream.read(&mut room) => Some(read.expect("a record")),
                    () = std::future::ready(()) => None,
                };
                match read {
                    Some(length) => heard.extend(&room[..length]),
                    None => {
                        cancelled += 1;
                        tokio::task::yield_now().await;
                    }
                }
            }
            assert!(cancelled > 500, "{cancelled}");
            heard
        };
        tokio::select! {
            heard = device => heard,
            () = async {
                tokio::join!(server, between);
                std::future::pending::<()>().await;
            } => unreachable!(),
        }
    });
    assert_eq!(heard, words.concat());
}

/// Half a record may be out: going on would use its nonce twice.
#[test]
fn a_cancelled_write_ends_the_connection() {
    let world = World::new();
    let provision = provision(&world);
    run(async {
        // The pipe is full after the handshake and a little more.
        let (here, there) = duplex(600);
        let server = async {
            let evil = Evil::hello(there, 1, |_| {}).await.expect("a ClientHello");
            let _stays = evil.follow(&opened(&world)).await;
            std::future::pending::<()>().await;
        };
        let device = async {
            let mut memory = Box::new(Memory::<4357, 2048>::new());
            let random = &mut Random::new([9; 32]);
            let mut stream = connect(Wire(here), &mut memory, &provision, Some(NOW), random)
                .await
                .expect("open");
            let all = async {
                stream.write_all(&[1; 1500]).await?;
                stream.flush().await
            };
            tokio::select! {
                biased;
                result = all => panic!("the pipe takes only 600 bytes: {result:?}"),
                () = tokio::task::yield_now() => {}
            }
            assert_eq!(stream.write(b"more").await, Err(Error::Cancelled));
            assert_eq!(stream.flush().await, Err(Error::Cancelled));
            assert_eq!(stream.read(&mut [0; 8]).await, Err(Error::Cancelled));
        };
        tokio::select! { () = device => {}, () = server => {} }
    });
}

#[test]
fn what_cannot_work_is_said_before_anything_is_sent() {
    let world = World::new();
    let provisioned = provision(&world);
    let plain = Provision { credential: Credential::Plain { token: "" }, ..provision(&world) };
    let key = Credential::Certificate { gateway_ca: &[1], certificate: &[1], key: [0; 32] };
    let no_key = Provision { credential: key, ..provision(&world) };
    run(async {
        let (here, _there) = duplex(1 << 16);
        let random = &mut Random::new([9; 32]);
        let mut small = Memory::<700, 2048>::new();
        let result = connect(Wire(here), &mut small, &provisioned, None, random).await;
        assert_eq!(result.err(), Some(Error::Buffers));
        for (provision, error) in [(plain, Error::Plain), (no_key, Error::DeviceKey)] {
            let (here, _there) = duplex(1 << 16);
            let mut memory = Box::new(Memory::<4357, 2048>::new());
            let result = connect(Wire(here), &mut memory, &provision, None, random).await;
            assert_eq!(result.err(), Some(error));
        }
    });
}
