//! A temperature sensor that reports to a Holm gateway over Ethernet, on a NUCLEO-H743ZI2.

#![no_std]
#![no_main]

mod ecc;
mod flash;
mod network;

use board_common::dial::{self, CARRIER, Dialer};
use board_common::identity::Identity;
use board_common::obey::{self, Obey};
use board_common::{Memory, complain, guard, heart, sense};
use defmt_rtt as _;
use device_sdk::{Device, Link};
use embassy_executor::Spawner;
use embassy_stm32::gpio::{Level, Output, Speed};
use embassy_stm32::i2c::{self, I2c};
use embassy_stm32::peripherals::{IWDG1, RNG};
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, HSIPrescaler, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk,
    VoltageScale,
};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::wdg::IndependentWatchdog;
use embassy_stm32::{Config, bind_interrupts, pac};
use embassy_time::Instant;
use panic_probe as _;
use static_cell::StaticCell;
use tmp105::Tmp105;

use crate::flash::SensorQueue;

/// Longer than the queue's six sectors take to be erased.
const WATCHDOG_US: u32 = 30_000_000;

bind_interrupts!(struct Irqs {
    RNG => rng::InterruptHandler<RNG>;
});

defmt::timestamp!("{=u64:ms}", Instant::now().as_millis());

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static MEMORY: StaticCell<Memory> = StaticCell::new();
    static DEVICE: StaticCell<Device<'static>> = StaticCell::new();

    let board = embassy_stm32::init(clocks());
    let identity = match Identity::read(flash::copies(), CARRIER) {
        Ok(identity) => identity,
        Err(problem) => complain(&problem).await,
    };
    let mut generator = Rng::new(board.RNG, Irqs);
    // Two seeds: what the network shows of its own must tell nothing of the other.
    let (mut seed, mut network_seed) = ([0; 32], [0; 8]);
    generator.fill_bytes(&mut seed);
    generator.fill_bytes(&mut network_seed);
    let (boot, random) = dial::random(seed);

    let (device, link) = Device::new(identity.config(), boot, MEMORY.init_with(Memory::new));
    let device: &'static Device<'static> = DEVICE.init(device);
    defmt::info!("device {=str} boot {=u64:016x}", device.name(), boot);

    let mut watchdog = IndependentWatchdog::new(board.IWDG1, WATCHDOG_US);
    // A debugger that halts the core halts it as well.
    pac::DBGMCU.apb4fzr1().modify(|freeze| freeze.set_iwdg1(true));
    watchdog.unleash();
    spawner.spawn(watch(watchdog).expect("invariant: spawned once"));
    let wiring = network::Wiring {
        eth: board.ETH,
        clock: board.PA1,
        crs: board.PA7,
        rx: (board.PC4, board.PC5),
        tx: (board.PG13, board.PB13),
        tx_enable: board.PG11,
        sma: board.ETH_SMA,
        mdio: board.PA2,
        mdc: board.PC1,
    };
    let stack = network::start(spawner, wiring, u64::from_le_bytes(network_seed));
    let dialer = Dialer::new(stack, identity, device, random);
    let queue = flash::queue(board.FLASH);
    spawner.spawn(run(device, link, queue, dialer).expect("invariant: spawned once"));
    spawner.spawn(sense::tell(device).expect("invariant: spawned once"));
    spawner.spawn(reset().expect("invariant: spawned once"));
    let led = Output::new(board.PB0, Level::Low, Speed::Low);
    spawner.spawn(beat(device, led).expect("invariant: spawned once"));

    let bus = I2c::new_blocking(board.I2C1, board.PB8, board.PB9, i2c::Config::default());
    sense::measure(device, Tmp105::new(bus, tmp105::ADDRESS)).await;
}

/// 400 MHz from the internal oscillator; 48 MHz for the generator of random numbers.
fn clocks() -> Config {
    let mut config = Config::default();
    config.rcc.hsi = Some(HSIPrescaler::DIV1);
    config.rcc.pll1 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL50,
        fracn: None,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.ahb_pre = AHBPrescaler::DIV2;
    config.rcc.apb1_pre = APBPrescaler::DIV2;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    config.rcc.apb3_pre = APBPrescaler::DIV2;
    config.rcc.apb4_pre = APBPrescaler::DIV2;
    config.rcc.voltage_scale = VoltageScale::Scale1;
    config
}

#[embassy_executor::task]
async fn run(
    device: &'static Device<'static>,
    link: Link<'static>,
    mut queue: SensorQueue,
    mut dialer: Dialer,
) {
    let Err(fault) = device.run(link, &mut queue, &mut dialer, &mut Obey(device)).await;
    defmt::error!("the client cannot be configured: {}", fault);
}

#[embassy_executor::task]
async fn reset() {
    obey::reset().await;
    cortex_m::peripheral::SCB::sys_reset();
}

#[embassy_executor::task]
async fn watch(mut watchdog: IndependentWatchdog<'static, IWDG1>) {
    guard::run(|| watchdog.pet()).await;
}

#[embassy_executor::task]
async fn beat(device: &'static Device<'static>, mut led: Output<'static>) {
    heart::run(device, |is_lit| led.set_level(is_lit.into())).await;
}
