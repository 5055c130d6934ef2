//! A TLS 1.3 server that follows a script instead of the protocol, and can so be any attacker.
//!
//! TLS_AES_128_GCM_SHA256 and P-256 only. It can leave out, repeat, reorder and change messages; keys and Finished are
//! always right for what was really said, since an attacker in the middle knows both.

use aes_gcm::Aes128Gcm;
use aes_gcm::aead::{AeadInPlace, KeyInit};
use hmac::{Hmac, Mac};
use p256::PublicKey;
use p256::ecdh::EphemeralSecret;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use rand_core::SeedableRng;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

/// What it does after its ServerHello, in order.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    EncryptedExtensions,
    CertificateRequest,
    Certificate(Vec<Vec<u8>>),
    /// By the key with this scalar.
    CertificateVerify([u8; 32]),
    Finished,
    /// A handshake message as it is, in the transcript.
    Message(Vec<u8>),
    /// An encrypted record of that inner type, not in the transcript.
    Encrypted(u8, Vec<u8>),
    /// A record in the clear.
    Clear(u8, Vec<u8>),
    /// Bytes on the wire.
    Wire(Vec<u8>),
    /// Waits for the client's Finished, and goes over to the keys of the open connection.
    Open,
    /// All handshake messages up to here that follow this go into one record.
    Together(Vec<Step>),
}

/// What the client sent after the ServerHello, as far as anybody can read it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Any byte at all, in bytes.
    pub(crate) bytes: usize,
    /// Application data, decrypted.
    pub(crate) data: Vec<u8>,
}

struct Keys {
    cipher: Aes128Gcm,
    iv: [u8; 12],
    count: u64,
}

impl Keys {
    fn new(secret: &[u8]) -> Self {
        let key = expand(secret, "key", &[], 16);
        let iv = expand(secret, "iv", &[], 12).try_into().expect("12 bytes");
        Self { cipher: Aes128Gcm::new_from_slice(&key).expect("a key"), iv, count: 0 }
    }

    fn nonce(&mut self) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, count) in nonce[4..].iter_mut().zip(self.count.to_be_bytes()) {
            *byte ^= count;
        }
        self.count += 1;
        nonce
    }

    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut inner = content.to_vec();
        if kind != 0 {
            inner.push(kind);
        }
        let header = header(DATA, inner.len() + 16);
        let nonce = self.nonce();
        let tag = self.cipher.encrypt_in_place_detached(&nonce.into(), &header, &mut inner);
        inner.extend(tag.expect("encrypted"));
        [header.to_vec(), inner].concat()
    }

    /// Inner type and content.
    fn open(&mut self, record: &[u8]) -> Option<(u8, Vec<u8>)> {
        let (header, rest) = record.split_at(5);
        let (inner, tag) = rest.split_last_chunk::<16>()?;
        let mut inner = inner.to_vec();
        let nonce = self.nonce();
        let tag = (*tag).into();
        self.cipher.decrypt_in_place_detached(&nonce.into(), header, &mut inner, &tag).ok()?;
        let kind = inner.pop()?;
        Some((kind, inner))
    }
}

fn header(kind: u8, length: usize) -> [u8; 5] {
    let [high, low] = u16::try_from(length).expect("a record").to_be_bytes();
    [kind, 3, 3, high, low]
}

fn mac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("any key");
    mac.update(bytes);
    mac.finalize().into_bytes().to_vec()
}

/// HKDF-Expand-Label (RFC 8446, 7.1); one block is enough.
fn expand(secret: &[u8], label: &str, context: &[u8], length: u16) -> Vec<u8> {
    let label = format!("tls13 {label}");
    let mut info = length.to_be_bytes().to_vec();
    info.push(u8::try_from(label.len()).expect("short"));
    info.extend(label.as_bytes());
    info.push(u8::try_from(context.len()).expect("short"));
    info.extend(context);
    info.push(1);
    mac(secret, &info)[..usize::from(length)].to_vec()
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a message").to_be_bytes();
    [&[kind][..], &length[1..], body].concat()
}

fn field(bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a field").to_be_bytes();
    [&length[4 - bytes..], content].concat()
}

/// The server.
pub(crate) struct Evil {
    wire: DuplexStream,
    transcript: Vec<u8>,
    handshake_secret: Vec<u8>,
    server_secret: Vec<u8>,
    server: Keys,
    client: Keys,
    heard: Heard,
}

impl Evil {
    /// Reads the ClientHello and answers it; `change` may change the ServerHello message.
    pub(crate) async fn hello(
        mut wire: DuplexStream,
        seed: u64,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Self> {
        let hello = read_record(&mut wire).await?[5..].to_vec();
        let (session, peer) = key_share(&hello)?;
        let rng = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
        let secret = EphemeralSecret::random(&mut { rng });
        let public = p256::EncodedPoint::from(secret.public_key());
        let shared = secret.diffie_hellman(&PublicKey::from_sec1_bytes(&peer).ok()?);
        let share = [&[0, 23][..], &field(2, public.as_bytes())].concat();
        let extensions = [&[0, 43, 0, 2, 3, 4, 0, 51][..], &field(2, &share)].concat();
        let body =
            [&[3, 3][..], &[7; 32], &field(1, &session), &[0x13, 0x01, 0], &field(2, &extensions)];
        let mut server_hello = message(2, &body.concat());
        change(&mut server_hello);
        let mut record = header(HANDSHAKE, server_hello.len()).to_vec();
        record.extend(&server_hello);
        wire.write_all(&record).await.ok()?;
        let transcript = [hello, server_hello].concat();
        let early = mac(&[0; 32], &[0; 32]);
        let derived = expand(&early, "derived", &Sha256::digest([]), 32);
        let handshake_secret = mac(&derived, shared.raw_secret_bytes());
        let hash = Sha256::digest(&transcript);
        let server_secret = expand(&handshake_secret, "s hs traffic", &hash, 32);
        let client_secret = expand(&handshake_secret, "c hs traffic", &hash, 32);
        let (server, client) = (Keys::new(&server_secret), Keys::new(&client_secret));
        let heard = Heard::default();
        Some(Self { wire, transcript, handshake_secret, server_secret, server, client, heard })
    }

    /// Follows the script, says no more, and listens until the client is gone. Stops where the client does.
    pub(crate) async fn play(self, script: &[Step]) -> Heard {
        let mut played = self.follow(script).await;
        let _ = played.wire.shutdown().await;
        played.listen().await;
        played.heard
    }

    /// Follows the script and stays.
    pub(crate) async fn follow(mut self, script: &[Step]) -> Self {
        for step in script {
            if self.step(step).await.is_none() {
                break;
            }
        }
        self
    }

    async fn step(&mut self, step: &Step) -> Option<()> {
        let record = match step {
            Step::Encrypted(kind, content) => self.server.seal(*kind, content),
            Step::Clear(kind, content) => [&header(*kind, content.len())[..], content].concat(),
            Step::Wire(bytes) => bytes.clone(),
            Step::Open => return self.open().await,
            Step::Together(steps) => {
                let messages: Vec<_> = steps.iter().map(|step| self.say(step)).collect();
                self.server.seal(HANDSHAKE, &messages.concat())
            }
            step => {
                let message = self.say(step);
                self.server.seal(HANDSHAKE, &message)
            }
        };
        self.wire.write_all(&record).await.ok()
    }

    /// A handshake message, which is in the transcript from now on.
    fn say(&mut self, step: &Step) -> Vec<u8> {
        let message = match step {
            Step::EncryptedExtensions => message(8, &[0, 0]),
            Step::CertificateRequest => message(13, &[0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]),
            Step::Certificate(chain) => {
                let entry = |der: &Vec<u8>| [field(3, der), vec![0, 0]].concat();
                let entries: Vec<_> = chain.iter().map(entry).collect();
                message(11, &[vec![0], field(3, &entries.concat())].concat())
            }
            Step::CertificateVerify(scalar) => {
                let hash = Sha256::digest(&self.transcript);
                let signed =
                    [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &hash].concat();
                let key = SigningKey::from_slice(scalar).expect("a key");
                let signature: DerSignature = key.sign(&signed);
                message(15, &[vec![4, 3], field(2, signature.as_bytes())].concat())
            }
            Step::Finished => {
                let key = expand(&self.server_secret, "finished", &[], 32);
                message(20, &mac(&key, &Sha256::digest(&self.transcript)))
            }
            Step::Message(message) => message.clone(),
            other => panic!("{other:?} is no handshake message"),
        };
        self.transcript.extend(&message);
        message
    }

    /// The client's flight, and the keys after it (RFC 8446, 7.1).
    async fn open(&mut self) -> Option<()> {
        let derived = expand(&self.handshake_secret, "derived", &Sha256::digest([]), 32);
        let main = mac(&derived, &[0; 32]);
        let hash = Sha256::digest(&self.transcript);
        loop {
            let record = self.hear().await?;
            if record[0] != DATA {
                continue;
            }
            let (kind, content) = self.client.open(&record)?;
            if kind == HANDSHAKE && content[0] == 20 {
                break;
            }
        }
        self.server = Keys::new(&expand(&main, "s ap traffic", &hash, 32));
        self.client = Keys::new(&expand(&main, "c ap traffic", &hash, 32));
        Some(())
    }

    async fn hear(&mut self) -> Option<Vec<u8>> {
        let record = read_record(&mut self.wire).await?;
        self.heard.bytes += record.len();
        Some(record)
    }

    async fn listen(&mut self) {
        while let Some(record) = self.hear().await {
            if let Some((DATA, content)) = self.client.open(&record) {
                self.heard.data.extend(content);
            }
        }
    }
}

async fn read_record(wire: &mut DuplexStream) -> Option<Vec<u8>> {
    let mut record = vec![0; 5];
    wire.read_exact(&mut record).await.ok()?;
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    wire.read_exact(&mut record[5..]).await.ok()?;
    Some(record)
}

/// Session id and key share on P-256 of a ClientHello.
fn key_share(hello: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let take = |at: &mut usize, bytes: usize| {
        let length =
            hello.get(*at..*at + bytes)?.iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
        let content = hello.get(*at + bytes..*at + bytes + length)?;
        *at += bytes + length;
        Some(content)
    };
    let mut at = 4 + 2 + 32;
    let session = take(&mut at, 1)?.to_vec();
    take(&mut at, 2)?;
    take(&mut at, 1)?;
    at += 2;
    while at < hello.len() {
        let kind = hello.get(at..at + 2)?;
        at += 2;
        let content = take(&mut at, 2)?;
        if kind == [0, 51] {
            // One share: length of the list, group, length, point.
            return (content.get(2..4)? == [0, 23]).then(|| (session, content[6..].to_vec()));
        }
    }
    None
}
