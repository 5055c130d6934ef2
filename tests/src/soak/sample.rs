//! What the processes take, looked at once a second on a thread of its own.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::bench::meter;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);

/// One look at one process. What it did not tell is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Sample {
    /// Since the start of the soak.
    pub(super) at_s: f64,
    /// Its name.
    pub(super) process: String,
    /// Which life of it.
    pub(super) pid: u32,
    /// Proportional set size.
    pub(super) pss_mib: Option<f64>,
    /// Resident set size.
    pub(super) rss_mib: Option<f64>,
    /// Open file descriptors.
    pub(super) files: Option<f64>,
    /// Threads.
    pub(super) threads: Option<f64>,
    /// What its folder takes on the disk.
    pub(super) disk_mib: Option<f64>,
    /// Age of the oldest event in the queue of a gateway.
    pub(super) queue_s: Option<f64>,
    /// Records that wait in the outbox of a gateway.
    pub(super) outbox: Option<f64>,
    /// Age of the oldest of them.
    pub(super) outbox_s: Option<f64>,
}

/// A process that is looked at.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) name: String,
    /// Its current id; 0 while it is down.
    pub(super) pid: Arc<AtomicU32>,
    pub(super) dir: PathBuf,
    /// The agent program and its configuration, where it is a gateway.
    pub(super) agent: Option<(PathBuf, PathBuf)>,
}

/// Looks until it is stopped.
pub(super) struct Sampler {
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
    thread: JoinHandle<()>,
}

impl Sampler {
    /// Starts looking.
    pub(super) fn start(subjects: Vec<Subject>, begun: Instant) -> Result<Self> {
        let (stop, samples) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Sample>>>::default());
        let (stopped, taken) = (Arc::clone(&stop), Arc::clone(&samples));
        let look = move || {
            let mut due = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let looked: Vec<_> = subjects.iter().filter_map(|s| s.look(begun)).collect();
                taken.lock().unwrap_or_else(PoisonError::into_inner).extend(looked);
                due = (due + EVERY).max(Instant::now());
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        };
        let thread = std::thread::Builder::new().name("sampler".to_owned()).spawn(look)?;
        Ok(Self { stop, samples, thread })
    }

    /// Stops, and hands out what was seen.
    pub(super) fn finish(self) -> Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the sampler panicked"))?;
        Ok(std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Subject {
    /// A look; `None` while it is down. A process that ends meanwhile tells less.
    fn look(&self, begun: Instant) -> Option<Sample> {
        let pid = self.pid.load(Ordering::Relaxed);
        if pid == 0 {
            return None;
        }
        let proc_dir = PathBuf::from(format!("/proc/{pid}"));
        let text = std::fs::read_to_string(proc_dir.join("status")).unwrap_or_default();
        let number = |name: &str| meter::field(&text, name).map(to_f64);
        let status = self.status();
        let told = |pointer: &str| status.as_ref().and_then(|s| s.pointer(pointer)?.as_f64());
        // The age of nothing is 0.
        let age = |pointer| status.as_ref().map(|_| told(pointer).unwrap_or(0.0) / 1_000.0);
        Some(Sample {
            at_s: begun.elapsed().as_secs_f64(),
            process: self.name.clone(),
            pid,
            pss_mib: meter::pss_kib(&[pid]).ok().map(|kib| to_f64(kib) / 1_024.0),
            rss_mib: number("VmRSS:").map(|kib| kib / 1_024.0),
            files: std::fs::read_dir(proc_dir.join("fd"))
                .ok()
                .map(|fds| to_f64(fds.count() as u64)),
            threads: number("Threads:"),
            disk_mib: disk_bytes(&self.dir).ok().map(|bytes| to_f64(bytes) / 1_048_576.0),
            queue_s: age("/queue/oldest_age_ms"),
            outbox: told("/outbox/records"),
            outbox_s: age("/outbox/oldest_age_ms"),
        })
    }

    fn status(&self) -> Option<Value> {
        let (program, config) = self.agent.as_ref()?;
        let mut command = Command::new(program);
        command.args(["status", "--json", "--config"]).arg(config).stdin(Stdio::null());
        let output = command.output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes and counts lie far below 2^52")]
fn to_f64(n: u64) -> f64 {
    n as f64
}

/// What files below a folder take on the disk.
fn disk_bytes(dir: &Path) -> Result<u64> {
    const BLOCK_BYTES: u64 = 512;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        // A file that went meanwhile takes nothing.
        let Ok(file) = entry.metadata() else { continue };
        sum += if file.is_dir() {
            disk_bytes(&entry.path()).unwrap_or_default()
        } else {
            file.blocks() * BLOCK_BYTES
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_looked_at_and_one_that_is_down_cannot() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("inner")).unwrap();
        std::fs::write(dir.path().join("inner/file"), vec![1; 100 << 10]).unwrap();
        let pid = Arc::new(AtomicU32::new(std::process::id()));
        let (name, path) = ("own".to_owned(), dir.path().to_owned());
        let own = Subject { name, pid: Arc::clone(&pid), dir: path, agent: None };
        let sample = own.look(Instant::now()).unwrap();
        assert!(sample.pss_mib > Some(0.0) && sample.rss_mib >= sample.pss_mib, "{sample:?}");
        assert!(sample.files > Some(0.0) && sample.threads >= Some(1.0), "{sample:?}");
        assert!(sample.disk_mib >= Some(0.09), "{sample:?}");
        assert_eq!((sample.queue_s, sample.outbox), (None, None));
        pid.store(0, Ordering::Relaxed);
        assert!(own.look(Instant::now()).is_none());
    }
}
