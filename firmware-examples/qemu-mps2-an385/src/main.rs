//! A temperature sensor that reports over Ethernet, on QEMU's `mps2-an385`.

#![no_std]
#![no_main]

mod network;
mod report;
mod settings;
mod tmp105;

use board_mps2::{Board, log, sim};
use embassy_executor::Spawner;
use embassy_time::{Duration, Timer};

use crate::network::Buffers;
use crate::settings::Settings;
use crate::tmp105::Tmp105;

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_secs(1);
/// Exit code for a command line that is not understood.
const EXIT_USAGE: u32 = 2;

#[cortex_m_rt::entry]
fn main() -> ! {
    board_mps2::run(|spawner, board| {
        spawner.spawn(app(spawner, board).expect("invariant: spawned once"));
    })
}

#[embassy_executor::task]
async fn app(spawner: Spawner, board: Board) {
    let mut buffer = [0; 256];
    let line = sim::arguments(&mut buffer).expect("a command line of at most 256 bytes");
    let settings = Settings::parse(line).unwrap_or_else(|problem| {
        log!("{problem}");
        sim::exit(EXIT_USAGE)
    });
    let mut sensor = Tmp105::new(board.i2c, tmp105::ADDRESS).expect("a TMP105 is on the bus");
    log!("temperature {:?} thousandths of a degree", sensor.read_milli_c());

    let stack = network::start(spawner, board.ethernet).await;
    let mut buffers = Buffers::new();
    loop {
        match network::connect(stack, &mut buffers, &settings).await {
            Ok(mut connection) => {
                let period = Duration::from_millis(settings.period_ms.into());
                let end = report::run(&mut connection, &mut sensor, period).await;
                log!("connection to {}:{} ended: {end:?}", settings.host, settings.port);
            }
            Err(error) => {
                log!("no connection to {}:{}: {error:?}", settings.host, settings.port);
            }
        }
        Timer::after(RETRY).await;
    }
}
