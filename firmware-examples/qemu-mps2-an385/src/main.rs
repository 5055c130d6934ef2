//! A temperature sensor that reports to a Holm gateway over Ethernet, on QEMU's `mps2-an385`.
//!
//! What it prints on the console is what the tests judge it by: `kept` names a reading that is in the queue, `acked`
//! counts those that the gateway has acknowledged.

#![no_std]
#![no_main]

mod dial;
mod identity;
mod network;
mod obey;
mod queue;
mod readings;
mod settings;
#[cfg(feature = "update")]
mod update;

use board_mps2::{Board, i2c::I2c, log, sim};
use device_sdk::{BackoffConfig, Config, Device, Link, Login, Memory};
use embassy_executor::Spawner;
use embassy_time::{Duration, Ticker};
use static_cell::StaticCell;
use tmp105::Tmp105;

use crate::dial::Dialer;
use crate::identity::Identity;
use crate::obey::Obey;
use crate::queue::SensorQueue;
use crate::settings::Settings;

/// Shortest wait between two attempts to connect.
const BACKOFF_MS_MIN: u32 = 500;
/// For a connection with its handshakes, on a busy host.
const ANSWER_MS_MAX: u32 = 30_000;

/// Log lines and metrics that wait.
const NOTES_BYTES: usize = if cfg!(feature = "full") { 512 } else { 0 };

type Buffers = Memory<256, 512, 1024, NOTES_BYTES>;

#[cortex_m_rt::entry]
fn main() -> ! {
    board_mps2::run(|spawner, board| {
        spawner.spawn(app(spawner, board).expect("invariant: spawned once"));
    })
}

#[embassy_executor::task]
async fn app(spawner: Spawner, board: Board) {
    static TEXT: StaticCell<[u8; 256]> = StaticCell::new();
    static MEMORY: StaticCell<Buffers> = StaticCell::new();
    static DEVICE: StaticCell<Device<'static>> = StaticCell::new();

    #[cfg(feature = "update")]
    let (label, speaks) = update::start();
    #[cfg(not(feature = "update"))]
    let speaks = true;
    #[cfg(feature = "update")]
    spawner.spawn(update::live(board.watchdog).expect("invariant: spawned once"));

    let text = sim::arguments(TEXT.init([0; 256])).expect("a command line of at most 256 bytes");
    let settings = Settings::parse(text).unwrap_or_else(|problem| settings::end(&problem));
    let identity = Identity::read(board.regions.provisioning, &settings)
        .unwrap_or_else(|problem| settings::end(&problem));
    // Two seeds: what the network shows of its own must tell nothing of the other.
    let (mut seed, mut network_seed) = ([0; 32], [0; 8]);
    sim::entropy(&mut seed).expect("the host has entropy");
    sim::entropy(&mut network_seed).expect("the host has entropy");
    let (boot, random) = dial::random(seed);

    let mut config = Config::new(identity.name.clone());
    config.login = identity
        .token()
        .map(|token| Login { user: identity.provision.device, password: token.as_bytes() });
    let max_ms = settings.backoff_ms_max;
    config.backoff = BackoffConfig { min_ms: BACKOFF_MS_MIN.min(max_ms), max_ms };
    config.answer_timeout_ms = ANSWER_MS_MAX;
    #[cfg(feature = "wrong-clock")]
    {
        config.clock_error = settings.clock_error;
    }
    let (device, link) = Device::new(config, boot, MEMORY.init(Memory::new()));
    let device: &'static Device<'static> = DEVICE.init(device);
    log!("device {} boot {boot:016x}", device.name());

    #[cfg(feature = "update")]
    let parts = update::Parts {
        label,
        author: identity.provision.author_key,
        confirm_ms_max: settings.confirm_ms_max,
        download: board.regions.update_download,
        state: board.regions.update_state,
    };
    #[cfg(feature = "update")]
    spawner.spawn(update::update(device, parts).expect("invariant: spawned once"));
    let queue = queue::new(board.regions.queue);
    let net = network::start(spawner, board.ethernet, u64::from_le_bytes(network_seed));
    let dialer = Dialer::new(net, identity, device, random);
    obey::set_period_ms(settings.period_ms);
    if speaks {
        spawner.spawn(run(device, link, queue, dialer).expect("invariant: spawned once"));
    }
    spawner.spawn(readings::tell(device).expect("invariant: spawned once"));
    spawner.spawn(obey::end().expect("invariant: spawned once"));
    measure(device, board.i2c, settings.burst).await;
}

/// Publishes readings for ever.
async fn measure(device: &'static Device<'static>, bus: I2c, burst: u32) {
    let mut sensor = Tmp105::new(bus, tmp105::ADDRESS);
    sensor.configure().expect("a TMP105 is on the bus");
    readings::burst(device, &mut sensor, burst).await;
    loop {
        let period_ms = obey::period_ms();
        let mut ticker = Ticker::every(Duration::from_millis(period_ms.into()));
        while obey::period_ms() == period_ms {
            readings::publish(device, &mut sensor).await;
            obey::tick(&mut ticker).await;
        }
    }
}

#[embassy_executor::task]
async fn run(
    device: &'static Device<'static>,
    link: Link<'static>,
    mut queue: SensorQueue,
    mut dialer: Dialer,
) {
    let Err(fault) = device.run(link, &mut queue, &mut dialer, &mut Obey(device)).await;
    log!("the client cannot be configured: {fault}");
}
