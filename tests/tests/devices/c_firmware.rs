//! The sensor in C on a serial line, at a real gateway with a control plane.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use system_tests::author::{Author, fixture};
use system_tests::process::wait_for;
use system_tests::qemu::{Device, Firmware, Options, firmware};
use system_tests::sensors::budget::Budget;
use system_tests::sensors::in_c::{FOLDER, Told, all_acked, end};
use system_tests::sensors::{Id, PATIENCE, Site, line_toml};

use crate::skipped;

/// What the firmware is built with.
const TOOLS: [&str; 2] = ["arm-none-eabi-gcc", "make"];
const NAME: &str = "press-c";

fn is_here(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').any(|dir| Path::new(dir).join(program).is_file())
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Gives the gateway, which does not run yet, the line of the device and a listener for whoever commands it.
fn wire(site: &Site, line: SocketAddr, listener: SocketAddr) -> Result<()> {
    let mut config = OpenOptions::new().append(true).open(site.gateway.config())?;
    write!(
        config,
        "\n[[listeners]]\nbind = \"{listener}\"\n\n\
         [anonymous]\npublish = [\"$holm/#\"]\nsubscribe = [\"$holm/#\"]\n\n{}",
        line_toml(line, NAME)
    )?;
    Ok(())
}

#[test]
fn a_sensor_in_c_reports_obeys_and_survives_the_kill_of_its_gateway() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    if let Some(missing) = TOOLS.iter().find(|tool| !is_here(tool)) {
        eprintln!("skipped: {missing} is missing (`cargo xtask test --install`)");
        return Ok(());
    }
    let firmware = firmware(FOLDER, &[])?;
    let dir = tempfile::tempdir()?;
    let (line, listener) = (free_address()?, free_address()?);
    let mut site = Site::tls(dir.path(), &[], true)?;
    wire(&site, line, listener)?;
    site.start()?;
    let author = Author::at(&dir.path().join("author"));
    let command = |name: &str, argument: &[&str]| {
        let broker = format!("mqtt://{listener}");
        let words = ["device", "command", NAME, name, "--wait", "60", "--broker", &broker];
        author.holm(&[&words[..], argument].concat())
    };

    let mut options = Options::new(&firmware.path, &[&format!("name={NAME}"), "period_ms=200"]);
    options.more = vec!["-serial".to_owned(), format!("tcp:{line},reconnect=1")];
    let mut device = Device::start(NAME, dir.path(), &options)?;
    device.console_line("] connected", PATIENCE)?;
    device.set_temperature(23_750)?;
    device.console_line(" 23750", PATIENCE)?;
    device.set_temperature(-10_500)?;
    device.console_line(" -10500", PATIENCE)?;
    device.console_line("acked", PATIENCE)?;

    command("rate", &["--u32", "100"])?;
    let refused = command("rate", &["--u32", "0"]).expect_err("a rate of nothing");
    ensure!(format!("{refused:?}").contains("rate takes milliseconds"), "{refused:?}");
    ensure!(command("dance", &[]).is_err(), "no such command");
    ensure!(device.console().contains(", quality "), "nobody told the time: {}", device.console());

    // While the gateway is away the queue keeps what is measured.
    site.gateway.kill()?;
    let kept = |device: &Device| Told::read(&device.console()).map(|told| told.kept.len());
    let before = kept(&device)?;
    wait_for(PATIENCE, "20 readings without a gateway", || {
        Ok((kept(&device)? >= before + 20).then_some(()))
    })?;
    site.gateway.start()?;
    device.console_line("] connected", PATIENCE)?;

    command("rate", &["--u32", "3600000"])?;
    all_acked(&device)?;
    command("exit", &["--hex", "2a"])?;
    let stack_bytes = end(&mut device, 42)?;

    wait_for(PATIENCE, "the control plane to have all", || {
        let status = site.gateway.status()?;
        Ok((status["core"]["jobs"] == 0 && status["outbox"]["records"] == 0).then_some(()))
    })?;
    judge(&site, &device.console())?;
    fits(&firmware, stack_bytes)?;
    site.gateway.stop()
}

/// Every reading is in the control plane, once, as the value that the device has read.
fn judge(site: &Site, console: &str) -> Result<()> {
    let Told { kept, acked, dropped, bad } = Told::read(console)?;
    ensure!(dropped == 0 && bad.is_empty(), "{dropped} dropped, {bad:?}");
    ensure!(kept.len() >= 25, "only {} readings", kept.len());
    let twice: Vec<_> = acked.iter().filter(|(_, times)| **times != 1).collect();
    ensure!(twice.is_empty(), "told twice: {twice:?}");
    let stored = site.stored()?;
    ensure!(stored.iter().all(|(name, _)| name == NAME), "{stored:?}");
    let ids: Vec<Id> = stored.iter().map(|(_, id)| *id).collect();
    let once: BTreeMap<Id, ()> = ids.iter().map(|id| (*id, ())).collect();
    ensure!(once.len() == ids.len(), "{} rows of {} readings", ids.len(), once.len());
    ensure!(once.keys().eq(kept.keys()), "stored {:?}, kept {:?}", once.keys(), kept.keys());

    let cloud = site.cloud.as_ref().context("it is managed")?;
    for stream in 0..3 {
        for row in cloud.stream("barn", stream)? {
            let row = &row["payload"];
            let Some(boot) = row["boot"].as_str() else { continue };
            let boot = u64::from_str_radix(boot, 16)?;
            let sequence = row["sequence"].as_u64().context("a sequence")?;
            let value = kept.get(&Id { boot, sequence }).copied();
            ensure!(row["milli_celsius"].as_i64() == value, "{row}: the device read {value:?}");
        }
    }
    Ok(())
}

fn fits(firmware: &Firmware, stack_bytes: u64) -> Result<()> {
    let sizes = firmware.sizes;
    let (flash, ram) = (sizes.text + sizes.data, sizes.data + sizes.bss + stack_bytes);
    eprintln!("flash {flash} bytes; static RAM {}, stack {stack_bytes}", sizes.data + sizes.bss);
    for budget in Budget::of(&fixture("../firmware-examples").join(FOLDER))? {
        let breaches = budget.breaches(flash, ram);
        ensure!(breaches.is_empty(), "{breaches:?}");
    }
    Ok(())
}
