//! Connections to the gateway: TCP, and TLS over it where it is built in.

use board_mps2::log;
use device_sdk::{Device, Dial};
use embassy_net::Stack;
use embassy_net::tcp::{ConnectError, TcpSocket};
use embassy_time::Duration;
use static_cell::StaticCell;

use crate::identity::Identity;

const BUFFER_BYTES: usize = 1024;
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
    buffers: &'static mut [[u8; BUFFER_BYTES]; 2],
    #[cfg(feature = "tls")]
    tls: Tls,
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
        let buffers = BUFFERS.init([[0; BUFFER_BYTES]; 2]);
        #[cfg(feature = "tls")]
        let tls = {
            static MEMORY: StaticCell<device_sdk::tls::Memory> = StaticCell::new();
            Tls { memory: MEMORY.init(device_sdk::tls::Memory::new()), device, random }
        };
        Self {
            stack,
            identity,
            buffers,
            #[cfg(feature = "tls")]
            tls,
        }
    }
}

impl Dial for Dialer {
    #[cfg(feature = "tls")]
    type Transport<'t> = device_sdk::tls::Stream<'t, TcpSocket<'t>>;
    #[cfg(not(feature = "tls"))]
    type Transport<'t> = TcpSocket<'t>;
    type Error = ();

    /// Says on the console why there is no connection: the client only tries again.
    async fn dial(&mut self) -> Result<Self::Transport<'_>, ()> {
        self.connect().await.map_err(|error| log!("{error}"))
    }
}

impl Dialer {
    async fn connect(&mut self) -> Result<<Self as Dial>::Transport<'_>, DialError> {
        self.stack.wait_config_up().await;
        let [receive, send] = &mut *self.buffers;
        let mut socket = TcpSocket::new(self.stack, receive, send);
        socket.set_timeout(Some(SILENCE_MAX));
        socket.set_keep_alive(Some(SILENCE_MAX / 2));
        socket.set_nagle_enabled(false);
        socket.connect(self.identity.gateway()).await.map_err(DialError::Tcp)?;
        #[cfg(feature = "tls")]
        {
            let Tls { memory, device, random } = &mut self.tls;
            let now_unix_s = device.now().unix_ms().map(|ms| ms / 1000);
            let provision = &self.identity.provision;
            let opened = device_sdk::tls::connect(socket, memory, provision, now_unix_s, random);
            opened.await.map_err(DialError::Tls)
        }
        #[cfg(not(feature = "tls"))]
        Ok(socket)
    }
}
