//! What the example firmware takes and does: a row for each package and budget, measured where a machine is emulated.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::budget::{self, Budget};
use super::slot::LOADER;
use super::{ANONYMOUS, FOLDER, PATIENCE, Site, WIRED, edge, function, in_c};
use crate::gateway::Gateway;
use crate::process::wait_for;
use crate::qemu::{Device, Firmware, firmware};

/// Messages that the publish rate is measured over.
pub(super) const BURST: u32 = 500;
/// Of these, before the rate is measured from outside: what waited for the connection is among them.
const WARM: u64 = 100;

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

/// Measured on an emulated machine, at a real gateway if the firmware has a network or a line.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Run {
    /// The deepest stack.
    pub stack_bytes: u64,
    /// From the start of the firmware to the first acknowledged message, by the device's clock.
    pub boot_to_acked_ms: Option<f64>,
    /// Messages acknowledged a second, when there are more to publish.
    pub rate_per_s: Option<f64>,
    /// From a gateway that listens again after SIGKILL to the device being online.
    pub reconnect_ms: Option<f64>,
    /// Instructions that a function takes for an event, its fresh sandbox included.
    pub event_instructions: Option<u64>,
}

/// Folders of firmware in a folder: packages that name a target for machines without an operating system, and what states
/// its budget in a file of its own.
///
/// # Errors
/// The folder cannot be read.
pub fn examples(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).with_context(|| root.display().to_string())? {
        let entry = entry?;
        let config = std::fs::read_to_string(entry.path().join(".cargo/config.toml"));
        let is_package =
            config.is_ok_and(|config| config.contains("[build]") && config.contains("-none-"));
        if is_package || entry.path().join(budget::FILE).is_file() {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// Builds an example under each of its budgets, with a folder for it runs what can be run, and tells each row.
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
        let name = name.trim_end_matches('-');
        let run = match work {
            Some(work) => run(folder, features.contains(&"tls"), &firmware, &work.join(name)),
            None => Ok(None),
        };
        let run = run.with_context(|| name.to_owned())?;
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

/// Runs what can be emulated by itself.
fn run(folder: &str, is_tls: bool, firmware: &Firmware, dir: &Path) -> Result<Option<Run>> {
    let run = match folder {
        FOLDER if is_tls => sensor(firmware, dir, Link::Tls),
        FOLDER => sensor(firmware, dir, Link::Tcp),
        WIRED => sensor(firmware, dir, Link::Wire),
        edge::FOLDER => edge::measure(firmware, dir),
        function::FOLDER => function::measure(firmware, dir),
        in_c::FOLDER => in_c::measure(firmware, dir),
        _ => return Ok(None),
    };
    run.map(Some)
}

/// How a sensor reaches its gateway.
#[derive(Clone, Copy, Debug)]
enum Link {
    Tcp,
    Tls,
    Wire,
}

/// One life of a sensor with a burst, a SIGKILL of its gateway, and a SIGKILL of its own at the end.
fn sensor(firmware: &Firmware, dir: &Path, link: Link) -> Result<Run> {
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
    let first = stamp(&device.console_line("first reading acked", PATIENCE)?)?;
    let line = device.console_line(&format!("burst of {BURST} acked in"), PATIENCE)?;
    let us = number(&line, "in")?;
    // A serial line has no end to be seen: the device looks for its gateway when it has been silent for too long.
    let gone = if matches!(link, Link::Wire) { "Connecting" } else { "Offline" };
    let reconnect_ms = reconnect(&mut site.gateway, &mut device, gone, "Online")?;
    all_acked(&mut device)?;
    device.kill()?;
    let console = site.console(&name)?;
    ensure!(console.crashes.is_empty() && console.bad == 0, "{console:?}");
    site.gateway.stop()?;
    Ok(Run {
        stack_bytes: console.stack_bytes,
        boot_to_acked_ms: Some(first * 1e3),
        rate_per_s: Some(f64::from(BURST) / Duration::from_micros(us).as_secs_f64()),
        reconnect_ms: Some(reconnect_ms),
        event_instructions: None,
    })
}

/// Kills the gateway and starts it again when the device has said that it is `gone`; milliseconds from then until the
/// device says that it is `back`.
pub(super) fn reconnect(
    gateway: &mut Gateway,
    device: &mut Device,
    gone: &str,
    back: &str,
) -> Result<f64> {
    gateway.kill()?;
    device.console_line(gone, PATIENCE)?;
    gateway.start()?;
    let listens = Instant::now();
    device.console_line(back, PATIENCE)?;
    Ok(listens.elapsed().as_secs_f64() * 1e3)
}

/// Messages acknowledged a second, by the host's clock, of a device that has more to publish; `acked` counts them.
pub(super) fn rate(acked: impl Fn() -> Result<u64>) -> Result<f64> {
    let from = |count: u64| {
        wait_for(PATIENCE, &format!("{count} messages to be acked"), || {
            let acked = acked()?;
            Ok((acked >= count).then(|| (acked, Instant::now())))
        })
    };
    let (first, begun) = from(WARM)?;
    let (last, ended) = from(BURST.into())?;
    let count = u32::try_from(last - first)?;
    Ok(f64::from(count) / (ended - begun).as_secs_f64())
}

/// Waits until the device's queue is empty.
///
/// # Errors
/// It does not get there in time.
pub fn all_acked(device: &mut Device) -> Result<()> {
    device.console_line(" queued 0 ", PATIENCE).map(drop)
}

/// The device's time of a line, as it tells it.
pub(super) fn stamp(line: &str) -> Result<f64> {
    let stamp = line.trim_start_matches('[').split(']').next().map(str::trim);
    stamp.and_then(|stamp| stamp.parse().ok()).with_context(|| format!("no time in {line:?}"))
}

/// The number behind a word of a line.
pub(super) fn number(line: &str, word: &str) -> Result<u64> {
    let behind = line.split_whitespace().skip_while(|is| *is != word).nth(1);
    behind
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no number behind `{word}` in {line:?}"))
}

/// The table.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let head = [
        "example",
        "profile",
        "features",
        "flash",
        "static RAM",
        "stack",
        "RAM",
        "first acked",
        "messages/s",
        "reconnect",
        "instructions/event",
    ];
    let mut text = line(&head.map(str::to_owned));
    for row in rows {
        text.push_str(&line(&cells(row)));
        for breach in &row.breaches {
            text.push_str(&format!("  OVER BUDGET {breach}\n"));
        }
    }
    text
}

/// A line of the table: words to the left, numbers to the right.
fn line(cells: &[String; 11]) -> String {
    let [example, profile, features, flash, fixed, stack, ram, first, rate, reconnect, event] =
        cells;
    let line = format!(
        "{example:<26} {profile:<16} {features:<15} {flash:>8} {fixed:>11} {stack:>6} {ram:>8} \
         {first:>11} {rate:>11} {reconnect:>10}  {event}"
    );
    format!("{}\n", line.trim_end())
}

/// What was not measured, or makes no sense for a firmware, is `-`; the last cell says why nothing was measured at all.
fn cells(row: &Row) -> [String; 11] {
    let shown = |value: Option<f64>, unit: &str| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}{unit}"))
    };
    let run = row.run.unwrap_or_default();
    let stack = row.run.map(|run| run.stack_bytes);
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let features = row.features.join(",");
    let last = match row.run {
        Some(run) => bytes(run.event_instructions),
        None if row.example == LOADER => format!("runs below {FOLDER}, full-tls-update"),
        None => "built, not run".to_owned(),
    };
    [
        row.example.clone(),
        row.profile.clone(),
        if features.is_empty() { "-".to_owned() } else { features },
        row.flash_bytes.to_string(),
        row.static_ram_bytes.to_string(),
        bytes(stack),
        bytes(stack.map(|stack| stack + row.static_ram_bytes)),
        shown(run.boot_to_acked_ms, " ms"),
        shown(run.rate_per_s, ""),
        shown(run.reconnect_ms, " ms"),
        last,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_makes_no_sense_and_what_did_not_run() {
        let function = Run { stack_bytes: 7, event_instructions: Some(42), ..Run::default() };
        let row = |example: &str, run| Row {
            example: example.to_owned(),
            profile: String::new(),
            features: Vec::new(),
            flash_bytes: 100,
            static_ram_bytes: 20,
            run,
            breaches: Vec::new(),
        };
        let over = Row { breaches: vec!["flash".to_owned()], ..row("pico", None) };
        let rows = [row(function::FOLDER, Some(function)), row(LOADER, None), over];
        let table = table(&rows);
        let lines: Vec<Vec<&str>> =
            table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], [function::FOLDER, "-", "100", "20", "7", "27", "-", "-", "-", "42"]);
        assert_eq!(lines[2][4..9], ["-", "-", "-", "-", "-"]);
        assert_eq!(lines[2][9..].join(" "), "runs below qemu-mps2-an385, full-tls-update");
        assert_eq!(lines[3][9..].join(" "), "built, not run");
        assert_eq!(lines[4].join(" "), "OVER BUDGET flash");
    }

    #[test]
    fn lines_of_a_console_have_a_time_and_numbers_behind_words() {
        let line = "[    0.25] burst of 500 acked in 1250 us";
        assert_eq!((stamp(line).unwrap(), number(line, "in").unwrap()), (0.25, 1250));
        assert!(stamp("no time").is_err() && number(line, "us").is_err());
    }
}
