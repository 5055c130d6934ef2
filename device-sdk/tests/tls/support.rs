//! Client and peer over a pipe or a socket, in one thread.

use std::future::Future;
use std::time::Duration;

use device_protocol::provision::{Credential, Gateway, Provision};
use device_sdk::tls::{Error, Memory, Random, connect};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::evil::{Evil, Heard, Step};
use crate::pki::{NAME, NOW, World};

/// A stream of tokio, as devices see streams.
pub(crate) struct Wire<T>(pub(crate) T);

impl<T> ErrorType for Wire<T> {
    type Error = ErrorKind;
}

impl<T: tokio::io::AsyncRead + Unpin> Read for Wire<T> {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0.read(out).await.map_err(|_| ErrorKind::Other)
    }
}

impl<T: tokio::io::AsyncWrite + Unpin> Write for Wire<T> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0.write(bytes).await.map_err(|_| ErrorKind::Other)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.0.flush().await.map_err(|_| ErrorKind::Other)
    }
}

/// Runs to the end, within a minute.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    let bounded = async { tokio::time::timeout(Duration::from_secs(60), future).await };
    runtime.block_on(bounded).expect("it ends within a minute")
}

/// What the device of a world is given.
pub(crate) fn provision<'a>(world: &'a World) -> Provision<'a> {
    Provision {
        device: "press-7",
        issued_unix_s: NOW,
        gateways: heapless::Vec::from_slice(&[Gateway { host: NAME, port: 8883 }]).expect("room"),
        server_name: NAME,
        credential: Credential::Certificate {
            gateway_ca: &world.gateway_ca.der,
            certificate: &world.device.der,
            key: world.device.scalar(),
        },
        author_key: None,
    }
}

pub(crate) const SAID: &[u8] = b"first words of the device";

/// The device connects, says something and listens until the other side is gone.
pub(crate) async fn device(
    wire: DuplexStream,
    provision: &Provision<'_>,
    now: Option<u64>,
) -> Result<Vec<u8>, Error> {
    let mut memory = Box::new(Memory::<4357, 2048>::new());
    let mut random = Random::new([9; 32]);
    let mut stream = connect(Wire(wire), &mut memory, provision, now, &mut random).await?;
    stream.write_all(SAID).await?;
    stream.flush().await?;
    let (mut heard, mut room) = (Vec::new(), [0; 256]);
    loop {
        match stream.read(&mut room).await? {
            0 => return Ok(heard),
            length => heard.extend(&room[..length]),
        }
    }
}

/// The device meets a scripted server: how it ends for the device, and what the server heard.
pub(crate) fn meet(
    provision: &Provision<'_>,
    now: Option<u64>,
    script: &[Step],
) -> (Result<Vec<u8>, Error>, Heard) {
    run(async {
        let (here, there) = duplex(1 << 16);
        let server = async {
            let evil = Evil::hello(there, 1, |_| {}).await.expect("a ClientHello");
            evil.play(script).await
        };
        tokio::join!(device(here, provision, now), server)
    })
}

/// What an honest gateway says.
pub(crate) fn honest(world: &World) -> Vec<Step> {
    vec![
        Step::EncryptedExtensions,
        Step::CertificateRequest,
        Step::Certificate(vec![world.gateway.der.clone()]),
        Step::CertificateVerify(world.gateway.scalar()),
        Step::Finished,
    ]
}

/// [`honest`], and the connection is opened.
pub(crate) fn opened(world: &World) -> Vec<Step> {
    let mut script = honest(world);
    // Without a request the client's flight is its Finished alone.
    script.remove(1);
    script.push(Step::Open);
    script
}
