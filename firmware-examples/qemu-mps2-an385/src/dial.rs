//! Connections to the gateway: TCP, and TLS over it where it is built in.
//!
//! # Invariants
//! - A connection that is given up is reset, so that the gateway knows at once. The socket outlives it for that: embassy-net
//!   forgets a socket that is dropped, with the reset that it has not sent yet.

use board_mps2::log;
use device_sdk::{Device, Dial};
use embassy_net::Stack;
use embassy_net::tcp::{ConnectError, Error as TcpError, TcpSocket};
use embassy_time::{Duration, with_timeout};
use embedded_io_async::{ErrorType, Read, Write};
use static_cell::StaticCell;

use crate::identity::Identity;

const BUFFER_BYTES: usize = 1024;
/// Time for the reset of the former connection to leave, before the next one is made all the same.
const RESET_MAX: Duration = Duration::from_secs(1);
/// Silence after which a connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Entropy for what is needed at each connection.
#[cfg(feature = "tls")]
pub(crate) type Random = device_sdk::tls::Random;
#[cfg(not(feature = "tls"))]
pub(crate) type Random = ();

/// What is drawn from the entropy of a start: its number, and a source of more.
pub(crate) fn random(seed: [u8; 32]) -> (u64, Random) {
    #[cfg(feature = "tls")]
    {
        let mut random = Random::new(seed);
        (random.boot_id(), random)
    }
    #[cfg(not(feature = "tls"))]
    (u64::from_le_bytes(*seed.first_chunk().expect("invariant: 32 bytes")), ())
}

/// See the module.
pub(crate) struct Dialer {
    stack: Stack<'static>,
    identity: Identity,
    socket: TcpSocket<'static>,
    #[cfg(feature = "tls")]
    tls: Tls,
}

/// The one connection; resets it when it is dropped.
pub(crate) struct Line<'t>(&'t mut TcpSocket<'static>);

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ErrorType for Line<'_> {
    type Error = TcpError;
}

impl Read for Line<'_> {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, TcpError> {
        self.0.read(out).await
    }
}

impl Write for Line<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, TcpError> {
        self.0.write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), TcpError> {
        self.0.flush().await
    }
}

#[cfg(feature = "tls")]
struct Tls {
    memory: &'static mut device_sdk::tls::Memory,
    device: &'static Device<'static>,
    random: Random,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum DialError {
    /// Nobody listens there, or no answer comes.
    Tcp(ConnectError),
    /// Gateway and device do not trust each other.
    #[cfg(feature = "tls")]
    Tls(device_sdk::tls::Error),
}

impl core::fmt::Display for DialError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Tcp(error) => write!(f, "no connection: {}", why(*error)),
            #[cfg(feature = "tls")]
            Self::Tls(error) => write!(f, "{error}"),
        }
    }
}

const fn why(error: ConnectError) -> &'static str {
    match error {
        ConnectError::InvalidState => "the socket is in use",
        ConnectError::ConnectionReset => "nobody listens there",
        ConnectError::TimedOut => "no answer in time",
        ConnectError::NoRoute => "no route",
    }
}

impl Dialer {
    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_variables, reason = "only TLS asks for the time")
    )]
    pub(crate) fn new(
        stack: Stack<'static>,
        identity: Identity,
        device: &'static Device<'static>,
        random: Random,
    ) -> Self {
        static BUFFERS: StaticCell<[[u8; BUFFER_BYTES]; 2]> = StaticCell::new();
        let [receive, send] = BUFFERS.init([[0; BUFFER_BYTES]; 2]);
        let mut socket = TcpSocket::new(stack, receive, send);
        socket.set_timeout(Some(SILENCE_MAX));
        socket.set_keep_alive(Some(SILENCE_MAX / 2));
        socket.set_nagle_enabled(false);
        #[cfg(feature = "tls")]
        let tls = {
            static MEMORY: StaticCell<device_sdk::tls::Memory> = StaticCell::new();
            Tls { memory: MEMORY.init(device_sdk::tls::Memory::new()), device, random }
        };
        Self {
            stack,
            identity,
            socket,
            #[cfg(feature = "tls")]
            tls,
        }
    }
}

impl Dial for Dialer {
    #[cfg(feature = "tls")]
    type Transport<'t> = device_sdk::tls::Stream<'t, Line<'t>>;
    #[cfg(not(feature = "tls"))]
    type Transport<'t> = Line<'t>;
    type Error = ();

    /// Says on the console why there is no connection: the client only tries again.
    async fn dial(&mut self) -> Result<Self::Transport<'_>, ()> {
        self.connect().await.map_err(|error| log!("{error}"))
    }
}

impl Dialer {
    async fn connect(&mut self) -> Result<<Self as Dial>::Transport<'_>, DialError> {
        self.stack.wait_config_up().await;
        let line = Line(&mut self.socket);
        let _ = with_timeout(RESET_MAX, line.0.flush()).await;
        line.0.connect(self.identity.gateway()).await.map_err(DialError::Tcp)?;
        #[cfg(feature = "tls")]
        {
            let Tls { memory, device, random } = &mut self.tls;
            let now_unix_s = device.now().unix_ms().map(|ms| ms / 1000);
            let provision = &self.identity.provision;
            let opened = device_sdk::tls::connect(line, memory, provision, now_unix_s, random);
            opened.await.map_err(DialError::Tls)
        }
        #[cfg(not(feature = "tls"))]
        Ok(line)
    }
}
