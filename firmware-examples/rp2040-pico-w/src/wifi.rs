//! Wi-Fi: the chip with its firmware, joining the network and coming back to it, and the LED, which hangs at that chip.

use board_common::dial::SOCKETS;
use board_common::heart::Beat;
use cyw43::{Aligned, Control, JoinOptions, SpiBus, State};
use cyw43_pio::{DEFAULT_CLOCK_DIVIDER, PioSpi};
use device_sdk::Device;
use embassy_executor::Spawner;
use embassy_net::{Config, DhcpConfig, Runner, Stack, StackResources};
use embassy_rp::dma::{self, Channel};
use embassy_rp::gpio::{Level, Output};
use embassy_rp::peripherals::{DMA_CH0, PIN_23, PIN_24, PIN_25, PIN_29, PIO0};
use embassy_rp::pio::{self, Pio};
use embassy_rp::{Peri, bind_interrupts};
use embassy_time::{Duration, Timer, with_timeout};
use static_cell::StaticCell;

/// Which pin of the Wi-Fi chip the LED hangs at.
const LED: u8 = 0;
/// Time for the network's keys, after the chip has joined it, in milliseconds.
const KEYS_MS_MAX: u64 = 10_000;
/// Beats of the LED, of a second each, from one attempt to join to the next.
const REJOIN_BEATS: u32 = 5;

bind_interrupts!(struct Irqs {
    PIO0_IRQ_0 => pio::InterruptHandler<PIO0>;
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>;
});

type Chip = SpiBus<Output<'static>, PioSpi<'static, PIO0, 0>>;

/// Firmware of the Wi-Fi chip, its regulatory data, and the board's settings for it.
#[cfg(not(feature = "blobless"))]
mod blobs {
    use cyw43::{A4, Aligned};

    macro_rules! blob {
        ($name:literal) => {
            include_bytes!(concat!(env!("CYW43_FIRMWARE_FOLDER"), "/", $name))
        };
    }
    pub(super) static FIRMWARE: &Aligned<A4, [u8]> = &Aligned(*blob!("43439A0.bin"));
    pub(super) static NVRAM: &Aligned<A4, [u8]> = &Aligned(*blob!("nvram_rp2040.bin"));
    pub(super) static CLM: &[u8] = blob!("43439A0_clm.bin");
}
#[cfg(feature = "blobless")]
mod blobs {
    use cyw43::{A4, Aligned};

    pub(super) static FIRMWARE: &Aligned<A4, [u8]> = &Aligned([]);
    pub(super) static NVRAM: &Aligned<A4, [u8]> = &Aligned([]);
    pub(super) static CLM: &[u8] = &[];
}

/// Where the Wi-Fi chip is wired to on this board.
pub(crate) struct Wiring {
    pub(crate) power: Peri<'static, PIN_23>,
    pub(crate) data: Peri<'static, PIN_24>,
    pub(crate) select: Peri<'static, PIN_25>,
    pub(crate) clock: Peri<'static, PIN_29>,
    pub(crate) pio: Peri<'static, PIO0>,
    pub(crate) dma: Peri<'static, DMA_CH0>,
}

/// Why there is no Wi-Fi at all.
pub(crate) const BLOBLESS: &str =
    "built with the feature blobless: without the firmware of the Wi-Fi chip it joins no network";

/// Whether the firmware of the chip is built in. Not known to the optimizer, so that an image without it has all other code.
pub(crate) fn is_blobless() -> bool {
    core::hint::black_box::<&Aligned<_, [u8]>>(blobs::FIRMWARE).is_empty()
}

#[embassy_executor::task]
async fn run_chip(runner: cyw43::Runner<'static, Chip>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn run_net(mut runner: Runner<'static, cyw43::NetDriver<'static>>) -> ! {
    runner.run().await
}

/// Starts the chip and the network on it. The chip is not joined to anything yet: [`join`].
pub(crate) async fn start(
    spawner: Spawner,
    wiring: Wiring,
    seed: u64,
) -> (Stack<'static>, Control<'static>) {
    static STATE: StaticCell<State> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();

    let Wiring { power, data, select, clock, pio, dma } = wiring;
    let mut pio = Pio::new(pio, Irqs);
    let spi = PioSpi::new(
        &mut pio.common,
        pio.sm0,
        DEFAULT_CLOCK_DIVIDER,
        pio.irq0,
        Output::new(select, Level::High),
        data,
        clock,
        Channel::new(dma, Irqs),
    );
    let power = Output::new(power, Level::Low);
    let state = STATE.init_with(State::new);
    let (driver, mut control, chip) =
        cyw43::new(state, power, spi, blobs::FIRMWARE, blobs::NVRAM).await;
    spawner.spawn(run_chip(chip).expect("invariant: spawned once"));
    control.init(blobs::CLM).await;

    let config = Config::dhcpv4(DhcpConfig::default());
    let resources = RESOURCES.init_with(StackResources::new);
    let (stack, runner) = embassy_net::new(driver, config, resources, seed);
    spawner.spawn(run_net(runner).expect("invariant: spawned once"));
    (stack, control)
}

/// Joins the network, for ever again when it is lost, and beats the LED meanwhile.
#[embassy_executor::task]
pub(crate) async fn join(
    mut control: Control<'static>,
    stack: Stack<'static>,
    device: &'static Device<'static>,
    ssid: &'static str,
    password: Option<&'static str>,
) -> ! {
    loop {
        let options = password
            .map_or_else(JoinOptions::new_open, |password| JoinOptions::new(password.as_bytes()));
        match control.join(ssid, options).await {
            Ok(()) => {
                let keys = Duration::from_millis(KEYS_MS_MAX);
                let has_keys = with_timeout(keys, stack.wait_link_up()).await.is_ok();
                defmt::info!("joined {=str}; has its keys: {=bool}", ssid, has_keys);
                while stack.is_link_up() {
                    beat(&mut control, device).await;
                }
                defmt::warn!("lost {=str}", ssid);
            }
            Err(error) => {
                defmt::warn!(
                    "{=str} does not let it in: {}; name and password right?",
                    ssid,
                    error
                );
            }
        }
        for _ in 0..REJOIN_BEATS {
            beat(&mut control, device).await;
        }
    }
}

async fn beat(control: &mut Control<'static>, device: &Device<'static>) {
    let beat = Beat::of(device.state());
    control.gpio_set(LED, true).await;
    Timer::after_millis(beat.on_ms).await;
    control.gpio_set(LED, false).await;
    Timer::after_millis(beat.off_ms).await;
}
