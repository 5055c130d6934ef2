//! Connections to the gateway: TCP, and TLS over it where it is built in.

use device_sdk::{Device, Dial};
use embassy_net::dns::DnsQueryType;
use embassy_net::tcp::{ConnectError, TcpSocket};
use embassy_net::{IpAddress, Stack, dns};
use embassy_time::Duration;
use static_cell::StaticCell;

use crate::identity::{Carrier, Identity};

/// Sockets of the network: DHCP, DNS and one connection.
pub const SOCKETS: usize = 3;
const BUFFER_BYTES: usize = 1024;
/// Silence after which a connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// What carries the messages in this build.
pub const CARRIER: Carrier = if cfg!(feature = "tls") { Carrier::Tls } else { Carrier::Tcp };

/// Entropy for what is needed at each connection.
#[cfg(feature = "tls")]
pub type Random = device_sdk::tls::Random;
/// Entropy for what is needed at each connection: nothing.
#[cfg(not(feature = "tls"))]
pub type Random = ();

/// What is drawn from the entropy of a start: its number, and a source of more.
#[must_use]
pub fn random(seed: [u8; 32]) -> (u64, Random) {
    #[cfg(feature = "tls")]
    {
        let mut random = Random::new(seed);
        (random.boot_id(), random)
    }
    #[cfg(not(feature = "tls"))]
    (u64::from_le_bytes(*seed.first_chunk().expect("invariant: 32 bytes")), ())
}

/// See the module.
pub struct Dialer {
    stack: Stack<'static>,
    identity: Identity,
    /// The gateway that is dialled next.
    next: usize,
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
enum DialError {
    /// Nobody knows the gateway's name.
    Name(dns::Error),
    /// The name has no address.
    NoAddress,
    /// Nobody listens there, or no answer comes.
    Tcp(ConnectError),
    /// Gateway and device do not trust each other.
    #[cfg(feature = "tls")]
    Tls(device_sdk::tls::Error),
}

impl core::fmt::Display for DialError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Name(error) => write!(f, "the name is not resolved: {error:?}"),
            Self::NoAddress => f.write_str("the name has no IPv4 address"),
            Self::Tcp(error) => write!(f, "no connection: {error:?}"),
            #[cfg(feature = "tls")]
            Self::Tls(error) => write!(f, "{error}"),
        }
    }
}

impl Dialer {
    /// To be called once: its buffers are static.
    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_variables, reason = "only TLS asks for the time and for entropy")
    )]
    #[must_use]
    pub fn new(
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
            Tls { memory: MEMORY.init_with(device_sdk::tls::Memory::new), device, random }
        };
        Self {
            stack,
            identity,
            next: 0,
            buffers,
            #[cfg(feature = "tls")]
            tls,
        }
    }

    async fn connect(&mut self) -> Result<<Self as Dial>::Transport<'_>, DialError> {
        self.stack.wait_config_up().await;
        let gateways = &self.identity.provision.gateways;
        let gateway = gateways[self.next % gateways.len()];
        self.next = (self.next + 1) % gateways.len();
        defmt::info!("gateway {=str}:{=u16}", gateway.host, gateway.port);
        let address = address(self.stack, gateway.host).await?;
        let [receive, send] = &mut *self.buffers;
        let mut socket = TcpSocket::new(self.stack, receive, send);
        socket.set_timeout(Some(SILENCE_MAX));
        socket.set_keep_alive(Some(SILENCE_MAX / 2));
        socket.set_nagle_enabled(false);
        socket.connect((address, gateway.port)).await.map_err(DialError::Tcp)?;
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

/// An address as it stands, or that of a name: by DNS, or by multicast DNS if it ends with `.local`.
async fn address(stack: Stack<'static>, host: &str) -> Result<IpAddress, DialError> {
    let found = stack.dns_query(host, DnsQueryType::A).await.map_err(DialError::Name)?;
    found.first().copied().ok_or(DialError::NoAddress)
}

impl Dial for Dialer {
    #[cfg(feature = "tls")]
    type Transport<'t> = device_sdk::tls::Stream<'t, TcpSocket<'t>>;
    #[cfg(not(feature = "tls"))]
    type Transport<'t> = TcpSocket<'t>;
    type Error = ();

    /// Says in the log why there is no connection: the client only tries again.
    async fn dial(&mut self) -> Result<Self::Transport<'_>, ()> {
        self.connect().await.map_err(|error| defmt::warn!("{}", defmt::Display2Format(&error)))
    }
}
