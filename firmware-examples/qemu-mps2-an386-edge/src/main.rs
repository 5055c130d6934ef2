//! A temperature sensor with a Holm function of its own, on QEMU's `mps2-an386` or `-an500`: the sensor's readings are
//! events of the function, and what the function publishes goes to the gateway, over TLS.
//!
//! The function stands in one of two slots in flash and runs in place. The gateway offers a new one as it offers firmware;
//! it goes to the other slot, is tried at the next start, and is taken back if it does not prove itself (`update`).
//!
//! While a function runs, nothing else does: its fuel bounds how long.
//!
//! What it prints on the console is what the tests judge it by.

#![no_std]
#![no_main]

extern crate alloc;

// What makes a sensor a device is the same as on the smaller board, and so is the heap of a function: one source each.
#[path = "../../qemu-mps2-an385/src/dial.rs"]
mod dial;
mod events;
#[path = "../../qemu-mps2-an386-function/src/heap.rs"]
mod heap;
#[path = "../../qemu-mps2-an385/src/identity.rs"]
mod identity;
#[path = "../../qemu-mps2-an385/src/network.rs"]
mod network;
mod obey;
mod pair;
mod queue;
mod runner;
#[path = "../../qemu-mps2-an385/src/obey.rs"]
mod sensor;
#[path = "../../qemu-mps2-an385/src/settings.rs"]
mod settings;
mod update;

use board_mps2::flash::Flash;
use board_mps2::{Board, log, sim, stack};
use device_function::Slots;
use device_sdk::{BackoffConfig, Config, Device, Figures, Link, Login, Memory};
use embassy_executor::Spawner;
use static_cell::StaticCell;

use crate::dial::Dialer;
use crate::identity::Identity;
use crate::obey::Obey;
use crate::queue::EdgeQueue;
use crate::runner::Runner;
use crate::settings::Settings;
use crate::update::Place;

/// Shortest wait between two attempts to connect.
const BACKOFF_MS_MIN: u32 = 500;
/// For a connection with its handshakes, on a busy host and beside a function.
const ANSWER_MS_MAX: u32 = 30_000;
/// Longest record: what a function publishes at once, with topic and envelope.
const RECORD_BYTES: usize = 1024;

type Buffers = Memory<RECORD_BYTES, 1024, 2048, 1024>;

#[cortex_m_rt::entry]
fn main() -> ! {
    board_mps2::run(|spawner, board| {
        heap::start();
        spawner.spawn(app(spawner, board).expect("invariant: spawned once"));
    })
}

#[embassy_executor::task]
async fn app(spawner: Spawner, board: Board) {
    static TEXT: StaticCell<[u8; 256]> = StaticCell::new();
    static MEMORY: StaticCell<Buffers> = StaticCell::new();
    static DEVICE: StaticCell<Device<'static>> = StaticCell::new();

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
    let (device, link) = Device::new(config, boot, MEMORY.init(Memory::new()));
    let device: &'static Device<'static> = DEVICE.init(device);
    log!("device {} boot {boot:016x}", device.name());

    let author = identity.provision.author_key;
    let queue = queue::new(board.regions.queue);
    let net = network::start(spawner, board.ethernet, u64::from_le_bytes(network_seed));
    let dialer = Dialer::new(net, identity, device, random);
    sensor::set_period_ms(settings.period_ms);
    spawner.spawn(run(device, link, queue, dialer).expect("invariant: spawned once"));
    spawner.spawn(tell(device).expect("invariant: spawned once"));
    spawner.spawn(sensor::end().expect("invariant: spawned once"));

    let Some(author) = author else {
        log!(
            "no author key in the provisioning: this device runs no function (`holm device add --key NAME`)"
        );
        return;
    };
    let slots = Slots::open(board.regions.function_choice).await;
    let slots = slots.expect("invariant: the region has two pages, and this flash does not fail");
    let [first, second] = board.regions.function_slots;
    let (active, other) = if slots.active() == 0 { (first, second) } else { (second, first) };
    let image = active.into_bytes();
    let runner = Runner::new(device, image, author, board.regions.function_state).await;
    let place = Place { slots, other, notes: board.regions.function_notes };
    spawner
        .spawn(update(device, place, author, runner.running()).expect("invariant: spawned once"));
    runner.run(board.i2c, settings.burst).await;
}

#[embassy_executor::task]
async fn run(
    device: &'static Device<'static>,
    link: Link<'static>,
    mut queue: EdgeQueue,
    mut dialer: Dialer,
) {
    let Err(fault) = device.run(link, &mut queue, &mut dialer, &mut Obey(device)).await;
    log!("the client cannot be configured: {fault:?}");
}

#[embassy_executor::task]
async fn update(
    device: &'static Device<'static>,
    place: Place<Flash>,
    author: [u8; 32],
    running: update::Version,
) {
    update::run(device, place, &author, running).await;
}

/// Tells what the client has counted, whenever it has changed.
#[embassy_executor::task]
async fn tell(device: &'static Device<'static>) {
    let mut told = Figures::default();
    loop {
        let now = device.figures_after(&told).await;
        if now.acked > 0 && told.acked == 0 {
            log!("first publish acked");
        }
        let Figures { acked, queued, overflowed, refused, queue_failures, ignored, .. } = now;
        let bad = [overflowed, refused, queue_failures, ignored];
        log!(
            "acked {acked} queued {queued} overflowed, refused, failed, ignored {bad:?} stack {} heap {}",
            stack::high_water_bytes(),
            heap::peak_bytes()
        );
        told = now;
    }
}
