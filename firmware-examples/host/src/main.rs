//! Devices on a laptop: the same client that runs on a microcontroller, with a waveform or a file as its sensor.

mod device;
mod sensor;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use device_sdk::protocol::DeviceName;
use tokio::task::LocalSet;

use sensor::Sensor;

const EXAMPLES: &str = "\
Examples:
  # One device at a gateway on this machine, a reading a second. The gateway knows `press-7` and the hash of its
  # token from [[devices]] in agent.toml (`edge-agent device-token` makes both):
  HOLM_DEVICE_PASSWORD=secret host-device --gateway 127.0.0.1:1883 --name press-7

  # From a recording (one value in degrees Celsius a line, the last column counts):
  HOLM_DEVICE_PASSWORD=secret host-device --name press-7 --csv day.csv

  # A thousand devices in this process, each every 10 s, for a minute; sim-0 to sim-999 with the same token:
  HOLM_DEVICE_PASSWORD=secret host-device --name sim --devices 1000 --period-ms 10000 --seconds 60";

/// Virtual devices that publish temperatures to a Holm gateway.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
struct Args {
    /// MQTT listener of the gateway.
    #[arg(long, default_value = "127.0.0.1:1883", value_name = "HOST:PORT")]
    gateway: String,
    /// Name of the device; with several, a number is appended: NAME-0, NAME-1, ...
    #[arg(long, default_value = "laptop")]
    name: String,
    /// User to log in as; the name of the device if there is only a password, as a Holm gateway demands.
    #[arg(long)]
    user: Option<String>,
    /// Password or token; without it the device is anonymous, and a Holm gateway refuses its envelopes.
    #[arg(long, env = "HOLM_DEVICE_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// How many devices.
    #[arg(long, default_value_t = 1)]
    devices: u32,
    /// Milliseconds from reading to reading.
    #[arg(long, default_value_t = 1_000)]
    period_ms: u64,
    /// Readings to replay, from the start again at their end; a sine otherwise.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// How long to run; for ever otherwise.
    #[arg(long)]
    seconds: Option<u64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.devices > 0, "--devices takes at least 1");
    ensure!(args.period_ms > 0, "--period-ms takes at least 1");
    let sensor = match &args.csv {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the readings in {}", path.display()))?;
            Sensor::replay(&text).with_context(|| format!("in {}", path.display()))?
        }
        None => Sensor::sine(),
    };
    let totals = device::Totals::default();
    let tasks = LocalSet::new();
    for index in 0..args.devices {
        let name =
            if args.devices == 1 { args.name.clone() } else { format!("{}-{index}", args.name) };
        let setup = device::Setup {
            name: DeviceName::new(&name)
                .map_err(|error| anyhow::anyhow!("--name {name}: {error}"))?,
            boot: getrandom::u64().context("the system gives no random numbers")?,
            gateway: args.gateway.clone(),
            login: args
                .password
                .clone()
                .map(|password| (args.user.clone().unwrap_or(name), password)),
            period: Duration::from_millis(args.period_ms),
            sensor: sensor.clone().shifted(u64::from(index) * 7),
            is_talkative: args.devices == 1,
        };
        tasks.spawn_local(device::run(setup, totals.clone()));
    }
    tokio::select! {
        () = tasks => {}
        () = report(&totals, args.devices) => {}
        () = until(args.seconds) => {}
        stop = tokio::signal::ctrl_c() => stop.context("cannot wait for Ctrl-C")?,
    }
    println!("{totals}");
    Ok(())
}

async fn until(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

/// Says every 5 seconds how many devices are doing what.
async fn report(totals: &device::Totals, devices: u32) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        if devices > 1 {
            println!("{totals}");
        }
    }
}
