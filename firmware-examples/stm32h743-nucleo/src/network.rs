//! Ethernet by RMII, as it is wired on the NUCLEO-H743ZI2, and the address by DHCP.

use board_common::dial::SOCKETS;
use embassy_executor::Spawner;
use embassy_net::{Config, DhcpConfig, Runner, Stack, StackResources};
use embassy_stm32::eth::{self, Ethernet, GenericPhy, PacketQueue, Sma};
use embassy_stm32::peripherals::{ETH, ETH_SMA, PA1, PA2, PA7, PB13, PC1, PC4, PC5, PG11, PG13};
use embassy_stm32::{Peri, bind_interrupts};
use static_cell::StaticCell;

/// Packets of 1,536 bytes that wait, each way.
const PACKETS: usize = 4;

bind_interrupts!(struct Irqs {
    ETH => eth::InterruptHandler;
});

type Driver = Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>;

/// Where the PHY is wired to on this board.
pub(crate) struct Wiring {
    pub(crate) eth: Peri<'static, ETH>,
    pub(crate) clock: Peri<'static, PA1>,
    pub(crate) crs: Peri<'static, PA7>,
    pub(crate) rx: (Peri<'static, PC4>, Peri<'static, PC5>),
    pub(crate) tx: (Peri<'static, PG13>, Peri<'static, PB13>),
    pub(crate) tx_enable: Peri<'static, PG11>,
    pub(crate) sma: Peri<'static, ETH_SMA>,
    pub(crate) mdio: Peri<'static, PA2>,
    pub(crate) mdc: Peri<'static, PC1>,
}

#[embassy_executor::task]
async fn run(mut runner: Runner<'static, Driver>) -> ! {
    runner.run().await
}

/// Starts the network; it has an address a little later.
pub(crate) fn start(spawner: Spawner, wiring: Wiring, seed: u64) -> Stack<'static> {
    static PACKET_QUEUE: StaticCell<PacketQueue<PACKETS, PACKETS>> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
    let Wiring { eth, clock, crs, rx, tx, tx_enable, sma, mdio, mdc } = wiring;
    let packets = PACKET_QUEUE.init_with(PacketQueue::new);
    let ethernet = Ethernet::new(
        packets,
        eth,
        Irqs,
        clock,
        crs,
        rx.0,
        rx.1,
        tx.0,
        tx.1,
        tx_enable,
        mac(),
        sma,
        mdio,
        mdc,
    );
    let config = Config::dhcpv4(DhcpConfig::default());
    let (stack, runner) =
        embassy_net::new(ethernet, config, RESOURCES.init_with(StackResources::new), seed);
    spawner.spawn(run(runner).expect("invariant: spawned once"));
    stack
}

/// A locally administered address, made of the chip's unique number: the board has no other.
fn mac() -> [u8; 6] {
    // FNV-1a: numbers of one wafer differ in few bits.
    let fold = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    let sum = embassy_stm32::uid::uid().into_iter().fold(0xCBF2_9CE4_8422_2325, fold);
    let [_, _, _, a, b, c, d, e] = sum.to_be_bytes();
    [0x02, a, b, c, d, e]
}
