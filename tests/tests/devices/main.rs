//! Firmware on emulated devices: what a device shows to the outside.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use system_tests::qemu::{self, Device, Options, firmware};

/// Far more than it takes, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Says why, where devices cannot be emulated.
fn skipped() -> bool {
    let skipped = !qemu::is_here();
    if skipped {
        eprintln!("skipped: {} is missing (`cargo xtask test --install`)", qemu::PROGRAM);
    }
    skipped
}

/// The way of a reading from the sensor's register to the host, and of a command back.
#[test]
fn a_reading_of_the_sensor_arrives_and_the_device_obeys() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let firmware = firmware("qemu-mps2-an385", &[])?;
    eprintln!("{:?}", firmware.sizes);
    let dir = tempfile::tempdir()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = format!("port={}", listener.local_addr()?.port());
    let options = Options::new(&firmware.path, &[&port, "period_ms=50"]);
    let mut device = Device::start("sensor", dir.path(), &options)?;
    device.set_temperature(23_750)?;
    device.console_line("address 10.0.2.15/24", PATIENCE)?;

    let (mut connection, _) = listener.accept()?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let deadline = Instant::now() + PATIENCE;
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    // The sensor may have been read before its temperature was set.
    let found = lines.by_ref().map_while(Result::ok).take_while(|_| Instant::now() < deadline);
    let line = found.into_iter().find(|line| line.ends_with(" milli_c=23750"));
    line.with_context(|| format!("no reading of 23.75 degrees:\n{}", device.console()))?;

    connection.write_all(b"exit 42\n")?;
    assert_eq!(device.exit_code(PATIENCE)?, 42, "{}", device.console());
    Ok(())
}
