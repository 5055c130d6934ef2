//! Programs under test: started with a log file, ended by their own id, never left behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A running program whose output goes to a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints goes to `log`, appended.
    ///
    /// # Errors
    /// The log cannot be opened or the program cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| {
            format!("starting {name} ({})", command.get_program().to_string_lossy())
        })?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as a power cut would (SIGKILL).
    ///
    /// # Errors
    /// It has ended before: then the kill proves nothing.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended by itself ({status}), see {}", self.name, self.log.display());
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits.
    ///
    /// # Errors
    /// It does not end in time, or ends with a failure.
    pub fn stop(&mut self, within: Duration) -> Result<()> {
        let mut term = Command::new("kill");
        term.arg("-TERM").arg(self.id().to_string());
        term.status().context("kill")?;
        let status =
            wait_for(within, &format!("{} to stop", self.name), || Ok(self.child.try_wait()?))?;
        if !status.success() {
            bail!("{} stopped with {status}, see {}", self.name, self.log.display());
        }
        Ok(())
    }

    /// Waits until it ends by itself, somehow.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn wait_end(&mut self, within: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        wait_for(within, &format!("{name} to end"), || Ok(self.child.try_wait()?))
    }

    /// Waits until it ends by itself, and well.
    ///
    /// # Errors
    /// It does not end in time, or ends with a failure.
    pub fn wait(&mut self, within: Duration) -> Result<()> {
        let status = self.wait_end(within)?;
        if !status.success() {
            bail!("{} ended with {status}: {}", self.name, self.output());
        }
        Ok(())
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is fine here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks `ready` until it gives a value.
///
/// # Errors
/// It fails, or gives nothing within the time; the message says what was waited for.
pub fn wait_for<T>(
    within: Duration,
    what: &str,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("waited {within:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A program of this workspace, built beside the running one.
///
/// # Errors
/// It was not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|p| p.is_file());
    found.with_context(|| format!("{name} is not built: cargo build --workspace --bins"))
}

/// Memory of a process, each shared page in parts (proportional set size), from the kernel.
///
/// # Errors
/// There is no such process.
pub fn pss_kib(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(number.with_context(|| format!("no Pss in {path}"))?.trim().parse()?)
}

/// Processor time of a process so far, from the kernel, in steps of a clock tick.
///
/// # Errors
/// There is no such process.
pub fn cpu_time(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // Behind the name, which may have spaces (proc(5)): user and kernel time are fields 14 and 15.
    let (_, fields) = text.rsplit_once(')').with_context(|| format!("no name in {path}"))?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<_, _>>().with_context(|| format!("no times in {path}"))?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}
