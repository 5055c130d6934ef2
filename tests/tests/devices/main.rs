//! The example sensor on an emulated machine, at a real gateway.

mod c_firmware;
mod function;
mod hostile;
mod loader;
mod update;
mod update_serial;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use system_tests::qemu::{self, firmware};
use system_tests::sensors::fleet::{FEATURES, Report, judge};
use system_tests::sensors::{ANONYMOUS, FOLDER, PATIENCE, Site};

/// Says why, where devices cannot be emulated.
pub(crate) fn skipped() -> bool {
    let skipped = !qemu::is_here();
    if skipped {
        eprintln!("skipped: {} is missing (`cargo xtask test --install`)", qemu::PROGRAM);
    }
    skipped
}

/// Tests run beside each other, and each wants its features: none may find another's program in its place.
#[test]
fn each_set_of_features_has_a_program_of_its_own() -> Result<()> {
    let plain = firmware(FOLDER, &[])?;
    let before = std::fs::read(&plain.path)?;
    let full = firmware(FOLDER, FEATURES)?;
    assert_ne!(plain.path, full.path);
    assert_ne!(before, std::fs::read(&full.path)?);
    assert_eq!(before, std::fs::read(&plain.path)?);
    Ok(())
}

/// The way of a reading from the sensor's register to an acknowledgement, and of commands back.
#[test]
fn a_reading_of_the_sensor_arrives_and_the_device_obeys() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let firmware = firmware(FOLDER, &[])?;
    eprintln!("{:?}", firmware.sizes);
    let dir = tempfile::tempdir()?;
    let mut site = Site::plain(dir.path())?;
    let mut device = site.boot(&firmware, ANONYMOUS, &["period_ms=50"])?;
    device.set_temperature(23_750)?;
    device.console_line(" 23750", PATIENCE)?;
    device.console_line("first reading acked", PATIENCE)?;
    let stack = site.command(ANONYMOUS, "stack", &[])?;
    ensure!(stack.contains("bytes"), "{stack}");
    site.command(ANONYMOUS, "rate", &["--u32", "20"])?;
    ensure!(
        site.command(ANONYMOUS, "rate", &["--u32", "0"]).is_err(),
        "a rate of nothing is refused"
    );
    site.command(ANONYMOUS, "exit", &["--hex", "2a"])?;
    assert_eq!(device.exit_code(PATIENCE)?, 42, "{}", device.console());
    site.gateway.stop()
}

/// TLS on both sides, the queue in flash: a gateway that dies and a device that loses its power lose nothing and repeat
/// nothing.
#[test]
fn readings_of_a_device_with_tls_survive_gateway_and_power() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let firmware = firmware(FOLDER, FEATURES)?;
    let dir = tempfile::tempdir()?;
    let name = "press-1";
    let mut site = Site::tls(dir.path(), &[name.to_owned()], true)?;
    site.start()?;
    let mut device = site.boot(&firmware, name, &["period_ms=100"])?;
    device.console_line("first reading acked", PATIENCE)?;
    site.gateway.kill()?;
    let kept = |site: &Site| site.console(name).map(|console| console.kept.len());
    let until = Instant::now() + PATIENCE;
    while kept(&site)? < 20 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    device.kill()?;
    let mut device = site.boot(&firmware, name, &["period_ms=3600000"])?;
    site.gateway.start()?;
    device.console_line("first reading acked", PATIENCE)?;
    device.console_line(" queued 0 ", PATIENCE)?;
    system_tests::process::wait_for(PATIENCE, "the control plane to have all", || {
        let idle = site.gateway.status()?["core"]["jobs"] == 0;
        Ok((idle && site.gateway.status()?["outbox"]["records"] == 0).then_some(()))
    })?;
    let console = site.console(name)?;
    let (count, stored) = (console.kept.len(), site.stored()?);
    ensure!(count >= 20, "only {count} readings were kept");
    let mut report = Report::default();
    judge(&BTreeMap::from([(name.to_owned(), console)]), &stored, &mut report);
    ensure!(report.problems.is_empty(), "{:?}", report.problems);
    site.gateway.stop()
}
