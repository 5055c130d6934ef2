//! A supervisor hears that the gateway is ready, that its loop turns, and that it stops.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::Process;

use crate::support::PATIENCE;

const WATCHDOG: Duration = Duration::from_secs(2);

fn heard(socket: &UnixDatagram, within: Duration) -> Result<String> {
    let mut bytes = [0; 256];
    socket.set_read_timeout(Some(within))?;
    let len = socket.recv(&mut bytes).with_context(|| format!("nothing within {within:?}"))?;
    Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

/// At rest nothing is due for a minute: the beats come all the same, and come from the loop.
#[test]
fn a_supervisor_hears_ready_beats_and_stop() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    let gateway = Gateway::new(dir.path(), &Setup::open("barn"))?;
    let mut command = gateway.agent(&["run"])?;
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let mut process = Process::start("barn", command, &gateway.log())?;
    assert_eq!(heard(&socket, PATIENCE)?, "READY=1\n");
    std::net::TcpStream::connect(gateway.address()).context("ready, but nobody can connect")?;
    let begun = Instant::now();
    while begun.elapsed() < 2 * WATCHDOG {
        assert_eq!(heard(&socket, WATCHDOG)?, "WATCHDOG=1\n");
    }
    process.stop(PATIENCE)?;
    let mut last = Vec::new();
    while let Ok(words) = heard(&socket, Duration::from_millis(10)) {
        last.push(words);
    }
    ensure!(
        last.iter().any(|words| words == "STOPPING=1\n"),
        "it stopped without a word: {last:?}"
    );
    Ok(())
}

/// A watchdog that is meant for another process is none.
#[test]
fn a_watchdog_of_another_process_hears_no_beats() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    let gateway = Gateway::new(dir.path(), &Setup::open("barn"))?;
    let mut command = gateway.agent(&["run"])?;
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1");
    let mut process = Process::start("barn", command, &gateway.log())?;
    assert_eq!(heard(&socket, PATIENCE)?, "READY=1\n");
    ensure!(heard(&socket, Duration::from_millis(500)).is_err(), "it gives beats to a stranger");
    process.stop(PATIENCE)
}
