//! A temperature sensor that reports to a Holm gateway over Wi-Fi, on an ESP32-C3.

#![no_std]
#![no_main]

mod flash;
mod wifi;

use board_common::dial::{self, CARRIER, Dialer};
use board_common::identity::Identity;
use board_common::obey::{self, Obey};
use board_common::settings::Settings;
use board_common::{Memory, complain, guard, heart, sense};
use defmt_rtt as _;
use device_sdk::{Device, Link};
use embassy_executor::Spawner;
use embassy_time::Instant;
use esp_backtrace as _;
use esp_hal::clock::CpuClock;
use esp_hal::gpio::{Level, Output, OutputConfig};
use esp_hal::i2c::master::{self, I2c};
use esp_hal::interrupt::software::SoftwareInterruptControl;
use esp_hal::rng::{Trng, TrngSource};
use esp_hal::rtc_cntl::{Rtc, Rwdt, RwdtStage};
use esp_hal::timer::timg::TimerGroup;
use static_cell::StaticCell;
use tmp105::Tmp105;

use crate::flash::{SensorQueue, Storage};

/// What the radio's driver allocates from.
const HEAP_BYTES: usize = 72 * 1024;
/// Longer than the queue's pages take to be erased.
const WATCHDOG_S: u64 = 30;

esp_bootloader_esp_idf::esp_app_desc!();
defmt::timestamp!("{=u64:ms}", Instant::now().as_millis());

#[esp_rtos::main]
async fn main(spawner: Spawner) {
    static MEMORY: StaticCell<Memory> = StaticCell::new();
    static DEVICE: StaticCell<Device<'static>> = StaticCell::new();

    let board = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    esp_alloc::heap_allocator!(size: HEAP_BYTES);
    let timers = TimerGroup::new(board.TIMG0);
    let interrupts = SoftwareInterruptControl::new(board.SW_INTERRUPT);
    esp_rtos::start(timers.timer0, interrupts.software_interrupt0);

    let Some(storage) = Storage::read(board.FLASH) else {
        complain(
            &"the flash is smaller than 4 MB: src/flash.rs and partitions.csv have the addresses",
        )
        .await
    };
    let identity = match Identity::read(storage.copies, CARRIER) {
        Ok(identity) => identity,
        Err(problem) => complain(&problem).await,
    };
    let settings = match Settings::parse(storage.settings) {
        Ok(settings) => settings,
        Err(problem) => complain(&problem).await,
    };
    let ssid = match settings.network() {
        Ok(ssid) => ssid,
        Err(problem) => complain(&problem).await,
    };
    // Random numbers are true ones while this source runs: later the radio is one.
    let source = TrngSource::new(board.RNG, board.ADC1);
    let (mut seed, mut network_seed) = ([0; 32], [0; 8]);
    let generator = Trng::try_new().expect("invariant: its source runs");
    generator.read(&mut seed);
    generator.read(&mut network_seed);
    drop(generator);
    drop(source);
    let (boot, random) = dial::random(seed);

    let (device, link) = Device::new(identity.config(), boot, MEMORY.init_with(Memory::new));
    let device: &'static Device<'static> = DEVICE.init(device);
    defmt::info!("device {=str} boot {=u64:016x}", device.name(), boot);
    obey::set_period_ms(settings.period_ms);
    let mut watchdog = Rtc::new(board.LPWR).rwdt;
    watchdog.set_timeout(RwdtStage::Stage0, esp_hal::time::Duration::from_secs(WATCHDOG_S));
    watchdog.enable();
    spawner.spawn(watch(watchdog).expect("invariant: spawned once"));

    let network_seed = u64::from_le_bytes(network_seed);
    let stack = match wifi::start(spawner, board.WIFI, &settings, ssid, network_seed) {
        Ok(stack) => stack,
        Err(error) => complain(&error).await,
    };
    let dialer = Dialer::new(stack, identity, device, random);
    spawner
        .spawn(run(device, link, storage.into_queue(), dialer).expect("invariant: spawned once"));
    spawner.spawn(sense::tell(device).expect("invariant: spawned once"));
    spawner.spawn(reset().expect("invariant: spawned once"));
    let led = Output::new(board.GPIO7, Level::Low, OutputConfig::default());
    spawner.spawn(beat(device, led).expect("invariant: spawned once"));

    let bus = I2c::new(board.I2C0, master::Config::default())
        .expect("invariant: 100 kHz")
        .with_sda(board.GPIO5)
        .with_scl(board.GPIO6);
    sense::measure(device, Tmp105::new(bus, tmp105::ADDRESS)).await;
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
    esp_hal::system::software_reset();
}

#[embassy_executor::task]
async fn watch(mut watchdog: Rwdt) {
    guard::run(|| watchdog.feed()).await;
}

#[embassy_executor::task]
async fn beat(device: &'static Device<'static>, mut led: Output<'static>) {
    heart::run(device, |is_lit| led.set_level(is_lit.into())).await;
}
