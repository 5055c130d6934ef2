//! Ethernet and the address by DHCP.

use board_mps2::ethernet::{Ethernet, Port};
use embassy_executor::Spawner;
use embassy_net::{Config, DhcpConfig, Runner, Stack, StackResources};
use static_cell::StaticCell;

/// Sockets: DHCP and one connection.
const SOCKETS: usize = 2;

#[embassy_executor::task]
async fn run(mut runner: Runner<'static, Ethernet>) -> ! {
    runner.run().await
}

/// Starts the network; it has an address a little later.
pub(crate) fn start(spawner: Spawner, port: Port, seed: u64) -> Stack<'static> {
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
    let ethernet = port.start().expect("the board has a LAN9118");
    let config = Config::dhcpv4(DhcpConfig::default());
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) = embassy_net::new(ethernet, config, resources, seed);
    spawner.spawn(run(runner).expect("invariant: spawned once"));
    stack
}
