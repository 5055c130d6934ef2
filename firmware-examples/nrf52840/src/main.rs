//! A temperature sensor on a serial line or an RS-485 bus, on an nRF52840: no network at all.

#![no_std]
#![no_main]

mod flash;

use board_common::identity::{Carrier, Identity};
use board_common::obey::{self, Obey};
use board_common::rs485::Rs485;
use board_common::settings::Settings;
use board_common::{SerialMemory, complain, guard, heart, sense};
use defmt_rtt as _;
use device_sdk::protocol::serial::{self, DeviceConfig, Timing};
use device_sdk::{Device, Link};
use embassy_executor::Spawner;
use embassy_nrf::bind_interrupts;
use embassy_nrf::buffered_uarte::{self, BufferedUarte, BufferedUarteRx, BufferedUarteTx};
use embassy_nrf::config::{Config, HfclkSource, LfclkSource};
use embassy_nrf::gpio::{Level, Output, OutputDrive};
use embassy_nrf::peripherals::{TWISPI0, UARTE0};
use embassy_nrf::rng::Rng;
use embassy_nrf::twim::{self, Twim};
use embassy_nrf::uarte::{self, Baudrate};
use embassy_nrf::wdt::{self, HaltConfig, Watchdog, WatchdogHandle};
use embassy_time::Instant;
use panic_probe as _;
use static_cell::StaticCell;
use tmp105::Tmp105;

use crate::flash::{SensorQueue, Storage};

const BAUD: u32 = 115_200;
/// Half of it takes 178 ms of a full line: longer than the core stands still for a page that is erased.
const RX_BYTES: usize = 4096;
const TX_BYTES: usize = 512;
/// Longer than the queue's 32 pages take to be erased.
const WATCHDOG_S: u32 = 30;

type Line = serial::Device<'static, 1_024, 512>;
type Port = (BufferedUarteRx<'static>, Rs485<BufferedUarteTx<'static>, Output<'static>>);

bind_interrupts!(struct Irqs {
    UARTE0 => buffered_uarte::InterruptHandler<UARTE0>;
    TWISPI0 => twim::InterruptHandler<TWISPI0>;
});

defmt::timestamp!("{=u64:ms}", Instant::now().as_millis());

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static MEMORY: StaticCell<SerialMemory> = StaticCell::new();
    static DEVICE: StaticCell<Device<'static>> = StaticCell::new();
    static IDENTITY: StaticCell<Identity> = StaticCell::new();
    static LINE: StaticCell<Line> = StaticCell::new();
    static RX: StaticCell<[u8; RX_BYTES]> = StaticCell::new();
    static TX: StaticCell<[u8; TX_BYTES]> = StaticCell::new();
    static I2C_BUFFER: StaticCell<[u8; 16]> = StaticCell::new();

    let mut config = Config::default();
    // Crystals: the internal oscillators are too far off for a UART.
    config.hfclk_source = HfclkSource::ExternalXtal;
    config.lfclk_source = LfclkSource::ExternalXtal;
    let board = embassy_nrf::init(config);
    let storage = Storage::read(board.NVMC);
    let identity: &'static Identity = match Identity::read(storage.copies, Carrier::Serial) {
        Ok(identity) => IDENTITY.init(identity),
        Err(problem) => complain(&problem).await,
    };
    let settings = match Settings::parse(storage.settings) {
        Ok(settings) => settings,
        Err(problem) => complain(&problem).await,
    };
    let mut generator = Rng::new_blocking(board.RNG);
    generator.set_bias_correction(true);
    let (boot, seed) = (generator.blocking_next_u64(), generator.blocking_next_u64());

    let (device, link) = Device::new(identity.config(), boot, MEMORY.init_with(SerialMemory::new));
    let device: &'static Device<'static> = DEVICE.init(device);
    defmt::info!("device {=str} boot {=u64:016x}", device.name(), boot);
    obey::set_period_ms(settings.period_ms);

    let line = LINE.init(serial::Device::new(DeviceConfig {
        address: settings.address,
        name: &identity.name,
        credential: identity.token().as_bytes(),
        timing: Timing::for_baud(BAUD),
        seed,
    }));
    let mut config = uarte::Config::default();
    config.baudrate = Baudrate::Baud115200;
    let uart = BufferedUarte::new(
        board.UARTE0,
        board.TIMER1,
        board.PPI_CH0,
        board.PPI_CH1,
        board.PPI_GROUP0,
        board.P1_01,
        board.P1_02,
        Irqs,
        config,
        RX.init([0; RX_BYTES]),
        TX.init([0; TX_BYTES]),
    );
    let (receive, send) = uart.split();
    let driver_enable = Output::new(board.P1_03, Level::Low, OutputDrive::Standard);
    let port = (receive, Rs485::new(send, driver_enable, BAUD));
    spawner.spawn(
        run(device, link, line, storage.into_queue(), port).expect("invariant: spawned once"),
    );
    spawner.spawn(sense::tell(device).expect("invariant: spawned once"));
    spawner.spawn(reset().expect("invariant: spawned once"));
    let led = Output::new(board.P0_13, Level::High, OutputDrive::Standard);
    spawner.spawn(beat(device, led).expect("invariant: spawned once"));

    let mut config = wdt::Config::default();
    config.timeout_ticks = WATCHDOG_S * 32_768;
    config.action_during_debug_halt = HaltConfig::Pause;
    match Watchdog::try_new(board.WDT, config) {
        Ok((_, [handle])) => spawner.spawn(watch(handle).expect("invariant: spawned once")),
        // A boot loader may have started it.
        Err(_) => defmt::error!("the watchdog runs already, with other settings"),
    }

    let buffer = I2C_BUFFER.init([0; 16]);
    let bus =
        Twim::new(board.TWISPI0, Irqs, board.P0_26, board.P0_27, twim::Config::default(), buffer);
    sense::measure(device, Tmp105::new(bus, tmp105::ADDRESS)).await;
}

#[embassy_executor::task]
async fn run(
    device: &'static Device<'static>,
    link: Link<'static>,
    line: &'static mut Line,
    mut queue: SensorQueue,
    port: Port,
) {
    device.run_serial(link, line, &mut queue, port, &mut Obey(device)).await;
}

#[embassy_executor::task]
async fn reset() {
    obey::reset().await;
    cortex_m::peripheral::SCB::sys_reset();
}

#[embassy_executor::task]
async fn watch(mut watchdog: WatchdogHandle) {
    guard::run(|| watchdog.pet()).await;
}

/// The LED of the board is lit when its pin is low.
#[embassy_executor::task]
async fn beat(device: &'static Device<'static>, mut led: Output<'static>) {
    heart::run(device, |is_lit| led.set_level((!is_lit).into())).await;
}
