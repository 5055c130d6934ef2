//! Lays a device out in the memory of the caller.
//!
//! # Invariants
//! - The first [`abi::DEVICE_BYTES`] are for the device (or those of a serial line, or of TLS), what is behind them for the
//!   queue.
//! - Nothing of the settings is kept but copies.

use core::convert::Infallible;
use core::future::Future;
use core::mem::size_of;
use core::pin::Pin;

use device_sdk::protocol::provision::TOKEN_MAX;
use device_sdk::protocol::serial::{self, DeviceConfig, Timing};
use device_sdk::protocol::{DeviceName, limits};
use device_sdk::{BackoffConfig, Config, Device, Link, Login, Memory, Overflow};

use crate::abi::{self, RECORD_BYTES};
use crate::border::arena::{Arena, piece};
use crate::clock::Alarm;
use crate::handle::{Handle, Runner};
use crate::hooks::Hooks;
#[cfg(feature = "tls")]
use crate::tls;
use crate::watch::{Ears, Fate, Watched};
use crate::wire::{Dialler, Stream, Wire};

/// Longest MQTT packet from the gateway, and packets in flight.
const MQTT_RX_BYTES: usize = 1024;
const MQTT_TX_BYTES: usize = 2048;
/// Messages under way on a serial line.
const LINE_TX_BYTES: usize = 1024;
const LINE_RX_BYTES: usize = 512;
/// A queue takes at least one record.
const QUEUE_BYTES_MIN: usize = RECORD_BYTES + 2;

type MqttMemory = Memory<RECORD_BYTES, MQTT_RX_BYTES, MQTT_TX_BYTES, 0>;
/// MQTT has no part in a serial line: its buffers are the smallest.
type LineMemory = Memory<RECORD_BYTES, 128, 256, 0>;
type Line = serial::Device<'static, LINE_TX_BYTES, LINE_RX_BYTES>;

/// What the settings say, as values.
pub(crate) struct Plan<'a> {
    pub(crate) name: DeviceName,
    pub(crate) boot: u64,
    /// None: the name of the device.
    pub(crate) user: Option<&'a str>,
    /// Empty: it has none.
    pub(crate) token: &'a str,
    pub(crate) hooks: Hooks,
    pub(crate) overflow: Overflow,
    pub(crate) keep_alive_s: Option<u16>,
    pub(crate) backoff: BackoffConfig,
    pub(crate) address: Option<u8>,
    pub(crate) baud: u32,
}

/// What any device stands on.
pub(crate) struct Ground {
    pub(crate) device: &'static Device<'static>,
    pub(crate) link: Link<'static>,
    pub(crate) wire: &'static Wire,
    pub(crate) queue: Watched,
    pub(crate) ears: Ears,
    #[cfg(feature = "tls")]
    pub(crate) fate: &'static Fate,
}

const TEXT_BYTES: usize = 2 * piece(limits::NAME_MAX) + piece(TOKEN_MAX);
const GROUND_BYTES: usize = TEXT_BYTES
    + piece(size_of::<Wire>())
    + piece(size_of::<Alarm>())
    + piece(size_of::<Fate>())
    + piece(size_of::<Device<'static>>())
    + piece(size_of::<Handle>());

/// What a device takes without its queue.
const DEVICE_BYTES: usize =
    GROUND_BYTES + piece(size_of::<MqttMemory>()) + piece(future_bytes(run));
/// The same on a serial line.
const SERIAL_BYTES: usize = GROUND_BYTES
    + piece(size_of::<LineMemory>())
    + piece(size_of::<Line>())
    + piece(future_bytes(run_serial));

/// The same as the first, with TLS.
#[cfg(feature = "tls")]
const TLS_BYTES: usize = GROUND_BYTES
    + piece(size_of::<MqttMemory>())
    + piece(size_of::<tls::Memory>())
    + piece(future_bytes(tls::run));

/// What the header says is what the future of this build takes, and little more.
const fn is_stated(stated: usize, bytes: usize) -> bool {
    bytes <= stated && stated - bytes <= stated / 4
}
const _: () = assert!(is_stated(abi::DEVICE_BYTES, DEVICE_BYTES), "HOLM_DEVICE_BYTES");
const _: () = assert!(is_stated(abi::SERIAL_BYTES, SERIAL_BYTES), "HOLM_SERIAL_BYTES");
#[cfg(feature = "tls")]
const _: () = assert!(is_stated(abi::TLS_BYTES, TLS_BYTES), "HOLM_TLS_BYTES");
const _: () = assert!(abi::ANSWER_BYTES == device_sdk::limits::RESPONSE_MAX, "HOLM_ANSWER_BYTES");

const fn future_bytes<A, F: Future>(_: fn(A) -> F) -> usize {
    size_of::<F>()
}

/// A device that connects to a gateway. None if the memory is too little.
pub(crate) fn device(arena: Arena, plan: &Plan<'_>) -> Option<&'static Handle> {
    let (mut memory, queue) = split(arena, abi::DEVICE_BYTES)?;
    let buffers = memory.place(MqttMemory::new())?;
    let ground = Ground::lay(&mut memory, queue, plan, buffers, Wire::new())?;
    finish(memory, plan, ground, run)
}

/// A device that connects with TLS. None if the memory is too little.
#[cfg(feature = "tls")]
pub(crate) fn device_tls(
    arena: Arena,
    plan: &Plan<'_>,
    provision: tls::Provisioned,
    random: device_sdk::tls::Random,
) -> Option<&'static Handle> {
    let (mut memory, queue) = split(arena, abi::TLS_BYTES)?;
    let buffers = memory.place(MqttMemory::new())?;
    let keys = tls::Keys { memory: memory.place(tls::Memory::new())?, provision, random };
    let ground = Ground::lay(&mut memory, queue, plan, buffers, Wire::new())?;
    finish(memory, plan, ground, |ground| tls::run((ground, keys)))
}

/// A device on a serial line. None if the memory is too little.
pub(crate) fn serial(arena: Arena, plan: &Plan<'_>) -> Option<&'static Handle> {
    let (mut memory, queue) = split(arena, abi::SERIAL_BYTES)?;
    let buffers = memory.place(LineMemory::new())?;
    let config = DeviceConfig {
        address: plan.address,
        name: text(&mut memory, &plan.name)?,
        credential: text(&mut memory, plan.token)?.as_bytes(),
        timing: Timing::for_baud(plan.baud),
        seed: plan.boot,
    };
    let line = memory.place(Line::new(config))?;
    let ground = Ground::lay(&mut memory, queue, plan, buffers, Wire::line())?;
    finish(memory, plan, ground, |ground| run_serial((ground, line)))
}

/// Memory of the device, and of its queue.
fn split(mut arena: Arena, bytes: usize) -> Option<(Arena, &'static mut [u8])> {
    let memory = arena.split(bytes)?;
    let queue = arena.into_zeros();
    (queue.len() >= QUEUE_BYTES_MIN).then_some((memory, queue))
}

fn text(memory: &mut Arena, text: &str) -> Option<&'static str> {
    core::str::from_utf8(memory.copy(text.as_bytes())?).ok()
}

impl Ground {
    fn lay<const RX: usize, const TX: usize>(
        memory: &mut Arena,
        queue: &'static mut [u8],
        plan: &Plan<'_>,
        buffers: &'static mut Memory<RECORD_BYTES, RX, TX, 0>,
        wire: Wire,
    ) -> Option<Self> {
        let mut config = Config::new(plan.name.clone());
        config.backoff = plan.backoff;
        config.keep_alive_s = plan.keep_alive_s.unwrap_or(config.keep_alive_s);
        if !plan.token.is_empty() {
            let user = text(memory, plan.user.unwrap_or(&plan.name))?;
            config.login = Some(Login { user, password: memory.copy(plan.token.as_bytes())? });
        }
        let (device, link) = Device::new(config, plan.boot, buffers);
        let fate: &'static Fate = memory.place(Fate::default())?;
        Some(Self {
            device: memory.place(device)?,
            link,
            wire: memory.place(wire)?,
            queue: Watched::new(queue, plan.overflow, plan.hooks, fate),
            ears: Ears::new(plan.hooks, fate),
            #[cfg(feature = "tls")]
            fate,
        })
    }
}

/// Makes the future and the handle.
fn finish<F: Future<Output = Infallible> + 'static>(
    mut memory: Arena,
    plan: &Plan<'_>,
    ground: Ground,
    run: impl FnOnce(Ground) -> F,
) -> Option<&'static Handle> {
    let (device, wire) = (ground.device, ground.wire);
    let alarm = memory.place(Alarm::new())?;
    let runner: Runner = Pin::static_mut(memory.place(run(ground))?);
    let handle = memory.place(Handle::new(device, wire, alarm, plan.hooks, runner))?;
    Some(handle)
}

async fn run(ground: Ground) -> Infallible {
    let Ground { device, link, wire, mut queue, mut ears, .. } = ground;
    let ended = device.run(link, &mut queue, &mut Dialler(wire), &mut ears).await;
    ended.expect("invariant: without a will there is nothing to refuse in the configuration")
}

async fn run_serial((ground, line): (Ground, &'static mut Line)) -> Infallible {
    let Ground { device, link, wire, mut queue, mut ears, .. } = ground;
    device.run_serial(link, line, &mut queue, Stream::line(wire), &mut ears).await
}
