//! Firmware updates of an emulated device by an ordinary deployment: control plane, gateway, boot loader, and readings that
//! flow on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use system_tests::gateway::Gateway;
use system_tests::process::wait_for;
use system_tests::qemu::{Device, Firmware, firmware};
use system_tests::random::Random;
use system_tests::sensors::fleet::{Report, judge};
use system_tests::sensors::slot::{self, BOARD, Drill, Image, SWAP_STEPS};
use system_tests::sensors::{FOLDER, PATIENCE, Site};

use crate::loader::FEATURES;
use crate::skipped;

const NAME: &str = "press-1";
/// Fetching takes ten seconds on an idle host, and a question whose answer was lost is asked again after a while.
const FETCH: Duration = Duration::from_secs(240);
/// An image on trial has time enough to connect on a busy host; one that is mute is waited for as long.
const WORDS: &[&str] = &["period_ms=200", "backoff_ms_max=500", "confirm_ms_max=20000"];
const SEED: u64 = 8;

/// Writes an app with this image and nothing else.
pub(crate) fn app(dir: &Path, image: &Image, version: u32) -> Result<PathBuf> {
    let app = dir.join("presses");
    std::fs::create_dir_all(&app)?;
    std::fs::write(app.join("press.bin"), &image.bytes)?;
    let text = format!(
        "[app]\nname = \"presses\"\nversion = \"1.{version}.0\"\n\n[firmware.press]\nimage = \"press.bin\"\n\
         board = \"{BOARD}\"\nversion = {version}\ndevices = [\"press-*\"]\n"
    );
    std::fs::write(app.join("holm.toml"), text)?;
    Ok(app)
}

/// What a device said last of its firmware, as its gateway shows it.
pub(crate) fn told(gateway: &Gateway, device: &str) -> Result<Value> {
    let page = gateway.ask(&["devices", "--json"])?;
    let rows = page.as_array().or_else(|| page["rows"].as_array());
    let mut rows = rows.into_iter().flatten().filter(|row| row["device"] == device);
    Ok(rows.next().map_or(Value::Null, |row| row["firmware"].clone()))
}

/// A gateway with a control plane, and a device with the boot loader.
struct Field {
    site: Site,
    firmware: Firmware,
    image: Image,
}

impl Field {
    fn new(dir: &Path) -> Result<Self> {
        let firmware = firmware(FOLDER, FEATURES)?;
        let image = Image::of(&firmware)?.context("the firmware is linked for the slot")?;
        let mut site = Site::tls(dir, &[NAME.to_owned()], true)?;
        site.start()?;
        Ok(Self { site, firmware, image })
    }

    fn power_on(&self) -> Result<Device> {
        self.site.boot(&self.firmware, NAME, WORDS)
    }

    /// Deploys an image by an app that has nothing else.
    fn deploy(&self, dir: &Path, version: u32, drill: Drill) -> Result<Image> {
        let image = self.image.labelled(version, 0, drill);
        let app = app(dir, &image, version)?;
        self.site.holm(&["deploy", app.to_str().context("UTF-8")?, "--all"])?;
        Ok(image)
    }

    /// What the device said last of its firmware, at the gateway and at the control plane.
    fn told(&self) -> Result<[Value; 2]> {
        let near = told(&self.site.gateway, NAME)?;
        let cloud = self.site.cloud.as_ref().context("the site has a control plane")?;
        let page = cloud.get("/v1/gateways/barn")?;
        let mut rows = page["firmware"].as_array().into_iter().flatten();
        let far = rows.find(|row| row["device"] == NAME).cloned().unwrap_or_default();
        Ok([near, far])
    }

    /// Waits until both say that this version has come so far.
    fn wait_stage(&self, version: u32, stage: &str) -> Result<()> {
        let mut told = Default::default();
        let waited = wait_for(FETCH, &format!("version {version} to be {stage}"), || {
            told = self.told()?;
            let is_told = told.iter().all(|it| it["stage"] == stage && it["version"] == version);
            Ok(is_told.then_some(()))
        });
        waited.with_context(|| format!("told {told:?}"))
    }

    /// Waits until the gateway says so.
    fn wait_stage_near(&self, version: u32, stage: &str) -> Result<()> {
        wait_for(FETCH, &format!("version {version} to be {stage}"), || {
            let told = told(&self.site.gateway, NAME)?;
            Ok((told["stage"] == stage && told["version"] == version).then_some(()))
        })
    }

    /// Stages that the control plane was told of a version, in order.
    fn stages(&self, version: u32) -> Result<Vec<String>> {
        let cloud = self.site.cloud.as_ref().context("the site has a control plane")?;
        let mut stages = Vec::new();
        for stream in 0..3 {
            let rows = cloud.stream("barn", stream)?;
            let rows = rows
                .iter()
                .filter(|row| row["report"] == "firmware" && row["version"] == version)
                .filter(|row| row["device"] == NAME);
            stages.extend(rows.map(|row| row["stage"].as_str().unwrap_or_default().to_owned()));
        }
        Ok(stages)
    }

    /// Cuts power as soon as so many pages of the image are kept.
    fn cut_while_fetching(&self, device: &mut Device, pages: usize) -> Result<()> {
        let flash = self.site.flash(NAME);
        let waited = wait_for(FETCH, &format!("{pages} pages"), || {
            Ok((slot::pages_kept(&flash)? >= pages).then_some(()))
        });
        waited.with_context(|| device.console())?;
        device.kill()?;
        eprintln!("power cut with {} pages kept", slot::pages_kept(&flash)?);
        Ok(())
    }

    /// Cuts power as soon as the boot loader has moved so far; the device is new, or still fetches.
    fn cut_while_swapping(&self, device: &mut Device, steps: usize) -> Result<usize> {
        let flash = self.site.flash(NAME);
        let pages = self.image.bytes.len().div_ceil(4096);
        wait_for(FETCH, "all pages", || Ok((slot::pages_kept(&flash)? == pages).then_some(())))?;
        device.run_until(FETCH, || Ok(slot::steps_done(&flash)? >= steps))?;
        device.kill()?;
        let done = slot::steps_done(&flash)?;
        eprintln!("power cut at step {done} of {SWAP_STEPS}");
        Ok(done)
    }

    /// The last power cut; then the device sends what its flash holds, and everything is compared.
    fn judge(mut self, mut device: Device) -> Result<()> {
        device.kill()?;
        let words = [WORDS, &["period_ms=3600000"]].concat();
        let mut device = self.site.boot(&self.firmware, NAME, &words)?;
        device.console_line("first reading acked", PATIENCE)?;
        device.console_line(" queued 0 ", PATIENCE)?;
        self.site.gateway.wait_idle(PATIENCE)?;
        wait_for(PATIENCE, "the outbox to drain", || {
            Ok((self.site.gateway.status()?["outbox"]["records"] == 0).then_some(()))
        })?;
        let mut console = self.site.console(NAME)?;
        // The image that faults said so, and nothing else did.
        let crashes = std::mem::take(&mut console.crashes);
        ensure!(crashes.len() == 1 && crashes[0].contains("undefined instruction"), "{crashes:?}");
        let (kept, boots, stack_bytes) = (console.kept.len(), console.boots, console.stack_bytes);
        let mut report = Report::default();
        judge(&BTreeMap::from([(NAME.to_owned(), console)]), &self.site.stored()?, &mut report);
        ensure!(report.problems.is_empty(), "{:?}", report.problems);
        eprintln!("{kept} readings over {boots} starts, {} in the control plane", report.stored);
        eprintln!("deepest stack {stack_bytes} bytes");
        self.site.gateway.stop()
    }
}

#[test]
fn an_update_survives_power_cuts_and_a_bad_one_is_taken_back_while_readings_flow() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let mut field = Field::new(dir.path())?;
    let mut random = Random::new(SEED);
    let mut device = field.power_on()?;
    device.console_line("image version 1 ", PATIENCE)?;
    device.console_line("first reading acked", PATIENCE)?;

    let second = field.deploy(dir.path(), 2, Drill::None)?;
    let pages = second.bytes.len().div_ceil(4096);
    for cut in 0..3 {
        let at = cut * pages / 4 + 1 + random.below(pages / 4);
        field.cut_while_fetching(&mut device, at)?;
        device = field.power_on()?;
        if cut == 1 {
            field.site.gateway.kill()?;
            field.site.gateway.start()?;
        }
    }
    for third in 0..3 {
        let at = third * SWAP_STEPS / 3 + 1 + random.below(SWAP_STEPS / 6);
        let done = field.cut_while_swapping(&mut device, at)?;
        ensure!(done < SWAP_STEPS, "the power cut came after the swap");
        device = field.site.boot_stopped(&field.firmware, NAME, WORDS)?;
    }
    device.kill()?;
    device = field.power_on()?;
    field.wait_stage(2, "confirmed")?;
    ensure!(slot::is_active(&field.site.flash(NAME), &second)?, "what runs is what was signed");
    let shown = field.site.holm(&["status", "barn"])?;
    ensure!(shown.contains(NAME) && shown.contains("presses 2  confirmed"), "{shown}");

    for (version, drill) in [(3, Drill::Mute), (4, Drill::Hang), (5, Drill::Fault)] {
        field.deploy(dir.path(), version, drill)?;
        device.console_line(&format!("image version {version} "), FETCH)?;
        device.console_line("boot: the former image, taken back", FETCH)?;
        device.console_line("image version 2 ", PATIENCE)?;
        // It is still offered, and declined. The gateway always knows; after eight changes it reports one a minute.
        if version == 3 {
            field.wait_stage(version, "declined")?;
            let stages = field.stages(version)?;
            ensure!(stages.contains(&"taken-back".to_owned()), "{drill:?}: {stages:?}");
        } else {
            field.wait_stage_near(version, "declined")?;
        }
        ensure!(
            slot::is_active(&field.site.flash(NAME), &second)?,
            "{drill:?}: version 2 is whole"
        );
        eprintln!("{drill:?}: taken back");
    }
    field.judge(device)
}
