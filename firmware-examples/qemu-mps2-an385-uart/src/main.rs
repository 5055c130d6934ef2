//! A temperature sensor on a serial line, on QEMU's `mps2-an385`: no network at all.
//!
//! Its console has the lines of the sensor on Ethernet, so that the same tests judge both.

#![no_std]
#![no_main]

#[path = "../../qemu-mps2-an385/src/readings.rs"]
mod readings;
mod settings;
#[cfg(feature = "update")]
#[path = "../../qemu-mps2-an385/src/update.rs"]
mod update;

#[cfg(feature = "update")]
use board_mps2::flash::Flash;
use board_mps2::{Board, i2c::I2c, log, sim, stack};
use device_sdk::protocol::serial::{self, DeviceConfig, Timing};
use device_sdk::protocol::system::{Command, Status};
use device_sdk::{App, Config, Device, Link, Memory, Overflow, RamQueue, Reply, State};
use embassy_executor::Spawner;
use embassy_time::{Duration, Ticker};
use static_cell::StaticCell;
use tmp105::Tmp105;

use crate::settings::Settings;

/// Exit code for a command line that is not understood.
const EXIT_USAGE: u32 = 2;
const BAUD: u32 = 115_200;

type Line = serial::Device<'static, 1_024, 512>;
/// MQTT has no part in this: its buffers are the smallest.
type Buffers = Memory<256, 128, 256, 0>;

#[cortex_m_rt::entry]
fn main() -> ! {
    board_mps2::run(|spawner, board| {
        spawner.spawn(app(spawner, board).expect("invariant: spawned once"));
    })
}

#[embassy_executor::task]
async fn app(spawner: Spawner, board: Board) {
    static TEXT: StaticCell<[u8; 256]> = StaticCell::new();
    static NAME: StaticCell<Settings<'static>> = StaticCell::new();
    static MEMORY: StaticCell<Buffers> = StaticCell::new();
    static DEVICE: StaticCell<Device<'static>> = StaticCell::new();
    static LINE: StaticCell<Line> = StaticCell::new();

    #[cfg(feature = "update")]
    let (label, speaks) = update::start();
    #[cfg(not(feature = "update"))]
    let speaks = true;
    #[cfg(feature = "update")]
    spawner.spawn(update::live(board.watchdog).expect("invariant: spawned once"));

    let text = sim::arguments(TEXT.init([0; 256])).expect("a command line of at most 256 bytes");
    let settings = Settings::parse(text).unwrap_or_else(|problem| {
        log!("{problem}");
        sim::exit(EXIT_USAGE)
    });
    let settings: &'static Settings<'static> = NAME.init(settings);
    let mut random = [0; 16];
    sim::entropy(&mut random).expect("the host has entropy");
    let [boot, seed] = [0, 8].map(|at| {
        let mut half = [0; 8];
        half.copy_from_slice(&random[at..at + 8]);
        u64::from_le_bytes(half)
    });

    let memory = MEMORY.init(Memory::new());
    let (device, link) = Device::new(Config::new(settings.name.clone()), boot, memory);
    let device: &'static Device<'static> = DEVICE.init(device);
    log!("device {} boot {boot:016x}", device.name());
    let line = LINE.init(serial::Device::new(DeviceConfig {
        address: settings.address,
        name: &settings.name,
        credential: settings.token.as_bytes(),
        timing: Timing::for_baud(BAUD),
        seed,
    }));
    #[cfg(feature = "update")]
    let parts = update::Parts {
        label,
        author: author(board.regions.provisioning),
        confirm_ms_max: settings.confirm_ms_max,
        download: board.regions.update_download,
        state: board.regions.update_state,
    };
    #[cfg(feature = "update")]
    spawner.spawn(update::update(device, parts).expect("invariant: spawned once"));
    if speaks {
        spawner.spawn(run(device, link, line, board.uart1).expect("invariant: spawned once"));
    }

    spawner.spawn(readings::tell(device).expect("invariant: spawned once"));
    measure(device, board.i2c, settings).await;
}

/// Publishes readings for ever.
async fn measure(device: &Device<'static>, bus: I2c, settings: &Settings<'_>) {
    let mut sensor = Tmp105::new(bus, tmp105::ADDRESS);
    sensor.configure().expect("a TMP105 is on the bus");
    readings::burst(device, &mut sensor, settings.burst).await;
    let mut ticker = Ticker::every(Duration::from_millis(settings.period_ms.into()));
    loop {
        ticker.next().await;
        readings::publish(device, &mut sensor).await;
    }
}

/// The author whose images it takes, from what `holm device add` wrote into its flash.
#[cfg(feature = "update")]
fn author(copies: [Flash; 2]) -> Option<[u8; 32]> {
    let found = device_sdk::protocol::provision::newest(copies.map(Flash::into_bytes));
    found.inspect_err(|bad| log!("no provisioning in flash: {bad:?}")).ok()?.provision.author_key
}

#[embassy_executor::task]
async fn run(
    device: &'static Device<'static>,
    link: Link<'static>,
    line: &'static mut Line,
    uart: board_mps2::uart::Uart,
) {
    static RING: StaticCell<[u8; 4_096]> = StaticCell::new();
    let mut queue = RamQueue::new(RING.init([0; 4_096]), Overflow::DropOldest);
    device.run_serial(link, line, &mut queue, uart.split(), &mut Obey).await;
}

/// Knows one command: `exit`, with the code as its only byte.
struct Obey;

impl App for Obey {
    fn command(&mut self, command: &Command<'_>, reply: &mut Reply) -> Status {
        match (command.name, command.body) {
            ("exit", [code]) => {
                log!("stack high water {} bytes", stack::high_water_bytes());
                sim::exit((*code).into())
            }
            ("exit", _) => {
                reply.text("exit takes one byte, the code");
                Status::BadArgument
            }
            _ => Status::Unknown,
        }
    }

    fn state(&mut self, state: State) {
        log!("{state:?}");
    }
}
