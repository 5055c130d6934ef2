//! Devices that send readings to the machine, from threads of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use system_tests::device::{self, Plan};
use system_tests::ledger::{self, Fact, Ledger};
use system_tests::readings::{self, Reading};

use super::machine::{Hardware, PATIENCE};
use super::site::Site;

/// Unacked messages of a device.
const WINDOW: usize = 32;
/// More than one sends before it is told to stop.
const READINGS_MAX: u32 = 50_000;

/// A device that sends readings.
pub(crate) struct Sender {
    device: &'static str,
    count: u32,
    /// Readings a second; `None`: as fast as the gateway acks.
    rate_per_s: Option<f64>,
    /// How long it goes without an ack before it gives up.
    patience: Duration,
    /// Ends it before it has sent all.
    stop: Option<Arc<AtomicBool>>,
}

impl Sender {
    /// One that sends so many, as fast as the gateway acks.
    pub(crate) fn of_all(device: &'static str, count: u32) -> Self {
        Self { device, count, rate_per_s: None, patience: PATIENCE, stop: None }
    }

    /// Starts it; it writes down what it does, and ends when all is acked: how long that took.
    pub(crate) fn start(
        self,
        site: &Site,
        hardware: &Hardware,
        path: &Path,
    ) -> Result<JoinHandle<Result<Duration>>> {
        let excerpt = readings::read(&readings::excerpt())?;
        let count = usize::try_from(self.count)?;
        let readings: Vec<Reading> = excerpt.into_iter().cycle().take(count).collect();
        let plan = Plan {
            login: site.login(hardware, self.device),
            topic: format!("sensors/{}", self.device),
            window: WINDOW,
            rate_per_s: self.rate_per_s,
            ids: true,
            patience: self.patience,
            stop: self.stop,
        };
        let mut ledger = Ledger::create(path)?;
        let send = move || {
            let begun = Instant::now();
            device::run(&plan, &readings, ledger::wall_ms(), &mut ledger)?;
            Ok(begun.elapsed())
        };
        Ok(std::thread::Builder::new().name(self.device.to_owned()).spawn(send)?)
    }
}

/// A device that sends until it is told to stop; then all that it sent is acked.
pub(crate) struct Sending {
    stop: Arc<AtomicBool>,
    ledger: PathBuf,
    thread: JoinHandle<Result<Duration>>,
}

impl Sending {
    /// Starts it with so many readings a second; `patience` is how long it goes without an ack. Its
    /// ledger is in `dir`.
    pub(crate) fn start(
        device: &'static str,
        rate_per_s: f64,
        patience: Duration,
        site: &Site,
        hardware: &Hardware,
        dir: &Path,
    ) -> Result<Self> {
        let ledger = dir.join(format!("{device}.jsonl"));
        let stop = Arc::<AtomicBool>::default();
        let sender = Sender {
            device,
            count: READINGS_MAX,
            rate_per_s: Some(rate_per_s),
            patience,
            stop: Some(Arc::clone(&stop)),
        };
        let thread = sender.start(site, hardware, &ledger)?;
        Ok(Self { stop, ledger, thread })
    }

    /// What it did.
    pub(crate) fn stop(self) -> Result<Vec<Fact>> {
        if self.thread.is_finished() {
            bail!("the device ended before it was told to: {:?}", self.thread.join());
        }
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the device panicked"))??;
        ledger::read(&self.ledger)
    }
}
