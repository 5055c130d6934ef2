//! Ethernet, DHCP and the connection to the host.

use board_mps2::ethernet::{Ethernet, Port};
use board_mps2::{log, sim};
use embassy_executor::Spawner;
use embassy_net::tcp::{ConnectError, TcpSocket};
use embassy_net::{Config, Runner, Stack, StackResources};
use embassy_time::Duration;
use static_cell::StaticCell;

use crate::settings::Settings;

/// Sockets: DHCP and one connection.
const SOCKETS: usize = 2;
const BUFFER_BYTES: usize = 1024;
/// Silence after which a connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// What a connection receives and sends into.
pub(crate) struct Buffers([u8; BUFFER_BYTES], [u8; BUFFER_BYTES]);

impl Buffers {
    /// Empty ones.
    pub(crate) const fn new() -> Self {
        Self([0; BUFFER_BYTES], [0; BUFFER_BYTES])
    }
}

#[embassy_executor::task]
async fn run(mut runner: Runner<'static, Ethernet>) -> ! {
    runner.run().await
}

/// Starts the network and waits for an address by DHCP.
pub(crate) async fn start(spawner: Spawner, port: Port) -> Stack<'static> {
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
    let ethernet = port.start().expect("the board has a LAN9118");
    let mut seed = [0; 8];
    sim::entropy(&mut seed).expect("the host has entropy");
    let config = Config::dhcpv4(embassy_net::DhcpConfig::default());
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) = embassy_net::new(ethernet, config, resources, u64::from_le_bytes(seed));
    spawner.spawn(run(runner).expect("invariant: spawned once"));
    stack.wait_config_up().await;
    if let Some(config) = stack.config_v4() {
        log!("address {}", config.address);
    }
    stack
}

/// Connects to the host of `settings`.
///
/// # Errors
/// Nobody listens there, or no answer comes.
pub(crate) async fn connect<'a>(
    stack: Stack<'a>,
    buffers: &'a mut Buffers,
    settings: &Settings,
) -> Result<TcpSocket<'a>, ConnectError> {
    let mut socket = TcpSocket::new(stack, &mut buffers.0, &mut buffers.1);
    socket.set_timeout(Some(SILENCE_MAX));
    socket.set_keep_alive(Some(SILENCE_MAX / 2));
    socket.set_nagle_enabled(false);
    socket.connect((settings.host, settings.port)).await?;
    Ok(socket)
}
