//! A temperature sensor that reports to a Holm gateway over Wi-Fi, on a Raspberry Pi Pico W.

#![no_std]
#![no_main]

mod flash;
mod wifi;

use board_common::dial::{self, CARRIER, Dialer};
use board_common::identity::Identity;
use board_common::obey::{self, Obey};
use board_common::settings::Settings;
use board_common::{Memory, complain, guard, sense};
use defmt_rtt as _;
use device_sdk::{Device, Link};
use embassy_executor::Spawner;
use embassy_rp::clocks::RoscRng;
use embassy_rp::i2c::{self, I2c};
use embassy_rp::watchdog::Watchdog;
use embassy_time::{Duration, Instant};
use panic_probe as _;
use static_cell::StaticCell;
use tmp105::Tmp105;

use crate::flash::{SensorQueue, Storage};

/// The longest that the chip has.
const WATCHDOG_MAX: Duration = Duration::from_millis(8_300);
/// Bits of the oscillator are not independent: more of them than the seed has are folded into it.
const FOLDS: usize = 64;

defmt::timestamp!("{=u64:ms}", Instant::now().as_millis());

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static MEMORY: StaticCell<Memory> = StaticCell::new();
    static DEVICE: StaticCell<Device<'static>> = StaticCell::new();

    let board = embassy_rp::init(embassy_rp::config::Config::default());
    let storage = Storage::read(board.FLASH);
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
    if wifi::is_blobless() {
        complain(&wifi::BLOBLESS).await;
    }
    let (boot, random) = dial::random(entropy());
    let network_seed = RoscRng.next_u64();

    let (device, link) = Device::new(identity.config(), boot, MEMORY.init_with(Memory::new));
    let device: &'static Device<'static> = DEVICE.init(device);
    defmt::info!("device {=str} boot {=u64:016x}", device.name(), boot);
    obey::set_period_ms(settings.period_ms);
    let mut watchdog = Watchdog::new(board.WATCHDOG);
    watchdog.pause_on_debug(true);
    watchdog.start(WATCHDOG_MAX);
    spawner.spawn(watch(watchdog).expect("invariant: spawned once"));

    let wiring = wifi::Wiring {
        power: board.PIN_23,
        data: board.PIN_24,
        select: board.PIN_25,
        clock: board.PIN_29,
        pio: board.PIO0,
        dma: board.DMA_CH0,
    };
    let (stack, control) = wifi::start(spawner, wiring, network_seed).await;
    let dialer = Dialer::new(stack, identity, device, random);
    let join = wifi::join(control, stack, device, ssid, settings.wifi_password);
    spawner.spawn(join.expect("invariant: spawned once"));
    spawner
        .spawn(run(device, link, storage.into_queue(), dialer).expect("invariant: spawned once"));
    spawner.spawn(sense::tell(device).expect("invariant: spawned once"));
    spawner.spawn(reset().expect("invariant: spawned once"));

    let bus = I2c::new_blocking(board.I2C0, board.PIN_5, board.PIN_4, i2c::Config::default());
    sense::measure(device, Tmp105::new(bus, tmp105::ADDRESS)).await;
}

/// The chip has no generator of random numbers: bits of its ring oscillator, which is not qualified for keys.
fn entropy() -> [u8; 32] {
    let mut seed = [0_u8; 32];
    for _ in 0..FOLDS {
        let mut more = [0; 32];
        RoscRng.fill_bytes(&mut more);
        for (byte, more) in seed.iter_mut().zip(more) {
            *byte = byte.rotate_left(1) ^ more;
        }
    }
    seed
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
async fn watch(mut watchdog: Watchdog) {
    guard::run(|| watchdog.feed(WATCHDOG_MAX)).await;
}
