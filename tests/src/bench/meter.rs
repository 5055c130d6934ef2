//! What processes used, from `/proc`.

use std::path::Path;

use anyhow::{Context, Result};

/// Sums of some processes since their start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// CPU time in milliseconds, of all threads, in user and kernel.
    pub cpu_ms: f64,
    /// Bytes that the kernel counts as written to a disk. Where the page cache works with large
    /// folios this is far more than what reaches the device: a write to one block counts 64 KiB.
    pub write_bytes: u64,
}

impl Used {
    /// What was used since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu_ms: self.cpu_ms - before.cpu_ms,
            write_bytes: self.write_bytes - before.write_bytes,
        }
    }
}

/// Reads the sums of processes.
///
/// # Errors
/// One of them has ended.
pub fn used(pids: &[u32]) -> Result<Used> {
    let mut sum = Used::default();
    for pid in pids {
        sum.cpu_ms += cpu_ms(&read(*pid, "stat")?).context("/proc/PID/stat")?;
        sum.write_bytes += field(&read(*pid, "io")?, "write_bytes:").context("/proc/PID/io")?;
    }
    Ok(sum)
}

/// Proportional set size of processes, in KiB.
///
/// # Errors
/// One of them has ended.
pub fn pss_kib(pids: &[u32]) -> Result<u64> {
    let one = |pid: &u32| {
        field(&read(*pid, "smaps_rollup")?, "Pss:").context("/proc/PID/smaps_rollup has no Pss")
    };
    pids.iter().map(one).sum()
}

/// Memory of a process, in KiB; of a page that others have too its part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it: proportional set size.
    pub pss_kib: u64,
    /// Pages that only this process has contents for.
    pub own_kib: u64,
    /// Pages of files: its program.
    pub file_kib: u64,
}

/// Reads it.
///
/// # Errors
/// The process has ended, or the kernel does not tell (Linux before 5.4).
pub fn memory(pid: u32) -> Result<Memory> {
    let text = read(pid, "smaps_rollup")?;
    let part =
        |name: &str| field(&text, name).with_context(|| format!("smaps_rollup has no {name}"));
    Ok(Memory {
        pss_kib: part("Pss:")?,
        own_kib: part("Pss_Anon:")? + part("Pss_Shmem:")?,
        file_kib: part("Pss_File:")?,
    })
}

/// Runnable processes of the whole machine over the last minute.
#[must_use]
pub fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

fn read(pid: u32, what: &str) -> Result<String> {
    let path = Path::new("/proc").join(pid.to_string()).join(what);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// utime and stime: fields 14 and 15, counted behind the name, which may hold anything.
fn cpu_ms(stat: &str) -> Option<f64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "100 as a rule")]
    let per_s = rustix::param::clock_ticks_per_second() as f64;
    Some(ticks * 1_000.0 / per_s)
}

/// The number behind a name in a file of `/proc`.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a) b 3) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0 1";
        assert_eq!(cpu_ms(stat), Some(3_000.0));
        assert_eq!(cpu_ms("7 (a"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let own = [std::process::id()];
        assert!(pss_kib(&own).unwrap() > 0);
        let memory = memory(own[0]).unwrap();
        assert!(memory.own_kib > 0 && memory.file_kib > 0, "{memory:?}");
        used(&own).unwrap();
        assert!(used(&[u32::MAX]).is_err());
    }
}
