//! The firmware that runs a function on events from a file (`qemu-mps2-an386-function`), without a network and a gateway:
//! what it is given, and what it takes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::measure::{self, Run};
use super::text;
use crate::author::{Author, fixture};
use crate::qemu::Firmware;
use crate::readings;

/// Its folder.
pub const FOLDER: &str = "qemu-mps2-an386-function";
/// Events that are measured.
const EVENTS: usize = 200;

/// A machine: what lies in its flash and what it is told.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What runs on it.
    pub firmware: Firmware,
    /// The device image of the function.
    pub image: PathBuf,
    /// The public key of its author.
    pub author: PathBuf,
    /// Digest of the component that it must be made of; empty: of any.
    pub component: String,
}

impl Machine {
    /// Runs it on a file of events, a line `TOPIC PAYLOAD` each; returns the exit code and what it printed.
    ///
    /// # Errors
    /// QEMU does not start, prints nothing, or is killed.
    pub fn run(&self, events: &Path) -> Result<(i32, String)> {
        let output = Command::new("sh")
            .arg(fixture("../firmware-examples").join(FOLDER).join("run.sh"))
            .arg(&self.firmware.path)
            .env("HOLM_IMAGE", &self.image)
            .env("HOLM_AUTHOR", &self.author)
            .env("HOLM_EVENTS", events)
            .env("HOLM_COMPONENT", &self.component)
            .stdin(Stdio::null())
            .output()?;
        let code = output.status.code().context("QEMU was killed")?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(!printed.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok((code, printed))
    }
}

/// Builds the image of a function of the app `device`; what `holm` told of it.
///
/// # Errors
/// The build fails.
pub fn build(author: &Author, function: &str, out: &Path) -> Result<Value> {
    let (app, out) = (text(&fixture("apps/device"))?, text(out)?);
    let words = ["build", &app, "--target", "device", "--function", function, "--json"];
    let told = author.holm(&[words.as_slice(), &["--out", &out]].concat())?;
    Ok(serde_json::from_str::<Value>(&told)?["images"][0].clone())
}

/// The first readings of a machine as events for the function `smooth`.
///
/// # Errors
/// The readings cannot be read.
pub fn events(count: usize) -> Result<String> {
    let mut events = String::new();
    for (n, reading) in readings::read(&readings::excerpt())?.iter().take(count).enumerate() {
        let payload = json!({ "device": "m1", "seq": n + 1, "value": reading.value });
        writeln!(events, "sensors/m1 {payload}")?;
    }
    Ok(events)
}

/// One run, with instructions counted.
pub(super) fn measure(firmware: &Firmware, dir: &Path) -> Result<Run> {
    let author = Author::new(&dir.join("author"))?;
    let (key, list) = (dir.join("author.pub"), dir.join("events.txt"));
    author.holm(&["keys", "export", "default", "--out", &text(&key)?])?;
    let image = dir.join("smooth.img");
    build(&author, "smooth", &image)?;
    std::fs::write(&list, events(EVENTS)?)?;
    let firmware = firmware.clone();
    let machine = Machine { firmware, image, author: key, component: String::new() };
    let (code, printed) = machine.run(&list)?;
    let lines = |start: &'static str| printed.lines().filter(move |line| line.starts_with(start));
    let done = lines("event ").filter(|line| line.contains(" done ")).count();
    ensure!(code == 0 && done == EVENTS, "exit code {code}, {done} events done: {printed}");
    let instructions = lines("instructions ").next_back().context("no instructions were told")?;
    let bytes = lines("bytes ").next_back().context("no bytes were told")?;
    Ok(Run {
        stack_bytes: measure::number(bytes, "stack_peak")?,
        event_instructions: Some(measure::number(instructions, "event")?),
        ..Run::default()
    })
}
