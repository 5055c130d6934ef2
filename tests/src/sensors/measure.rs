//! What the example firmware takes and does: a row for each package and budget, measured where a machine is emulated.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::budget::Budget;
use super::{ANONYMOUS, FOLDER, PATIENCE, Site, WIRED};
use crate::qemu::{Device, Firmware, firmware};

/// Readings that the publish rate is measured over.
const BURST: u32 = 500;

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Folder of the package.
    pub example: String,
    /// Budget, empty where the package has only one.
    pub profile: String,
    /// Features of the build.
    pub features: Vec<String>,
    /// Code and constants.
    pub flash_bytes: u64,
    /// Data and bss.
    pub static_ram_bytes: u64,
    /// What was measured on an emulated machine at a real gateway.
    pub run: Option<Run>,
    /// What is over the budget.
    pub breaches: Vec<String>,
}

/// Measured on an emulated machine at a real gateway.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// The deepest stack.
    pub stack_bytes: u64,
    /// From the start of the firmware to the first acknowledged reading, by the device's clock.
    pub boot_to_acked_ms: f64,
    /// Readings acknowledged a second, in a burst.
    pub rate_per_s: f64,
    /// From a gateway that listens again after SIGKILL to the device being online.
    pub reconnect_ms: f64,
}

/// Packages of firmware in a folder: those that name a target for machines without an operating system.
///
/// # Errors
/// The folder cannot be read.
pub fn examples(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).with_context(|| root.display().to_string())? {
        let config = std::fs::read_to_string(
            entry.as_ref().map(|entry| entry.path().join(".cargo/config.toml")).unwrap_or_default(),
        );
        if config.is_ok_and(|config| config.contains("[build]") && config.contains("-none-")) {
            found.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// Builds a package under each of its budgets, with a folder for it runs what can be run, and tells each row.
///
/// # Errors
/// A build fails, or a device does not do what it should.
pub fn example(
    folder: &str,
    root: &Path,
    work: Option<&Path>,
    tell: &mut dyn FnMut(&Row),
) -> Result<()> {
    for budget in Budget::of(&root.join(folder))? {
        let features: Vec<&str> = budget.features.iter().map(String::as_str).collect();
        let firmware = firmware(folder, &features)?;
        let name = format!("{folder}-{}", budget.profile);
        let is_tls = features.contains(&"tls");
        let run = match work.zip(link(folder, is_tls)) {
            Some((work, link)) => {
                let run = run(&firmware, &work.join(&name), link);
                Some(run.with_context(|| name.clone())?)
            }
            None => None,
        };
        let sizes = firmware.sizes;
        let (flash_bytes, static_ram_bytes) = (sizes.text + sizes.data, sizes.data + sizes.bss);
        let ram_bytes = static_ram_bytes + run.map_or(0, |run| run.stack_bytes);
        tell(&Row {
            example: folder.to_owned(),
            profile: budget.profile.clone(),
            features: budget.features.clone(),
            flash_bytes,
            static_ram_bytes,
            run,
            breaches: budget.breaches(flash_bytes, ram_bytes),
        });
    }
    Ok(())
}

/// How an example that can be emulated reaches its gateway.
#[derive(Clone, Copy, Debug)]
enum Link {
    Tcp,
    Tls,
    Wire,
}

fn link(folder: &str, is_tls: bool) -> Option<Link> {
    match folder {
        FOLDER if is_tls => Some(Link::Tls),
        FOLDER => Some(Link::Tcp),
        WIRED => Some(Link::Wire),
        _ => None,
    }
}

/// One life of a device with a burst, a SIGKILL of its gateway, and a SIGKILL of its own at the end.
fn run(firmware: &Firmware, dir: &Path, link: Link) -> Result<Run> {
    std::fs::create_dir_all(dir)?;
    let name = if matches!(link, Link::Tcp) { ANONYMOUS } else { "press-1" }.to_owned();
    let mut site = match link {
        Link::Tcp => Site::plain(dir)?,
        Link::Wire => Site::wire(dir, &name)?,
        Link::Tls => {
            let mut site = Site::tls(dir, std::slice::from_ref(&name), false)?;
            site.start()?;
            site
        }
    };
    let burst = format!("burst={BURST}");
    let mut device = site.boot(firmware, &name, &[&burst, "period_ms=200"])?;
    let first = stamp_ms(&device.console_line("first reading acked", PATIENCE)?)?;
    let line = device.console_line(&format!("burst of {BURST} acked in"), PATIENCE)?;
    let us = line.split_whitespace().rev().nth(1).and_then(|word| word.parse::<f64>().ok());
    let us = us.with_context(|| format!("no time in {line:?}"))?;

    site.gateway.kill()?;
    // A serial line has no end to be seen: the device looks for its gateway when it has been silent for too long.
    let gone = if matches!(link, Link::Wire) { "Connecting" } else { "Offline" };
    device.console_line(gone, PATIENCE)?;
    site.gateway.start()?;
    let listens = Instant::now();
    device.console_line("Online", PATIENCE)?;
    let reconnect_ms = listens.elapsed().as_secs_f64() * 1e3;
    all_acked(&mut device)?;
    device.kill()?;
    let console = site.console(&name)?;
    ensure!(console.crashes.is_empty() && console.bad == 0, "{console:?}");
    site.gateway.stop()?;
    Ok(Run {
        stack_bytes: console.stack_bytes,
        boot_to_acked_ms: first,
        rate_per_s: f64::from(BURST) / (us / 1e6),
        reconnect_ms,
    })
}

/// Waits until the device's queue is empty.
///
/// # Errors
/// It does not get there in time.
pub fn all_acked(device: &mut Device) -> Result<()> {
    device.console_line(" queued 0 ", PATIENCE).map(drop)
}

/// The device's time of a line, in milliseconds.
fn stamp_ms(line: &str) -> Result<f64> {
    let stamp = line.trim_start_matches('[').split(']').next().map(str::trim);
    let seconds = stamp.and_then(|stamp| stamp.parse::<f64>().ok());
    Ok(seconds.with_context(|| format!("no time in {line:?}"))? * 1e3)
}

/// The table.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    use std::fmt::Write;
    let mut text = String::from(
        "example                    profile          features           flash    static RAM  stack     RAM  first acked  readings/s  reconnect\n",
    );
    for row in rows {
        let features =
            if row.features.is_empty() { "-".to_owned() } else { row.features.join(",") };
        let _ = write!(
            text,
            "{:<26} {:<16} {:<15} {:>8}  {:>12}",
            row.example, row.profile, features, row.flash_bytes, row.static_ram_bytes
        );
        let _ = match row.run {
            Some(run) => writeln!(
                text,
                " {:>6}  {:>6}  {:>8.0} ms  {:>10.0}  {:>6.0} ms",
                run.stack_bytes,
                row.static_ram_bytes + run.stack_bytes,
                run.boot_to_acked_ms,
                run.rate_per_s,
                run.reconnect_ms
            ),
            None => writeln!(text, "  built; this command does not run it"),
        };
        for breach in &row.breaches {
            let _ = writeln!(text, "  OVER BUDGET {breach}");
        }
    }
    text
}
