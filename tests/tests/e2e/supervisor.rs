//! A supervisor hears that the gateway is ready, that its loop turns, and that it stops.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::{Process, wait_for};

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

/// With a launcher the agent says that it is ready, and the launcher gives the beats, of its own: an
/// agent that hangs is its business, and must not pass for a launcher that does.
#[test]
fn a_launcher_gives_the_beats_and_its_agent_says_that_it_is_ready() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    let gateway = Gateway::new(dir.path(), &Setup::open("barn"))?;
    let mut command = gateway.launcher()?;
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let mut launcher = Process::start("launcher", command, &gateway.log())?;
    ensure!(heard(&socket, PATIENCE)?.starts_with("EXTEND_TIMEOUT_USEC="), "no word of the start");
    wait_for(PATIENCE, "READY=1", || Ok((heard(&socket, WATCHDOG)? == "READY=1\n").then_some(())))?;
    let begun = Instant::now();
    while begun.elapsed() < WATCHDOG {
        assert_eq!(heard(&socket, WATCHDOG)?, "WATCHDOG=1\n");
    }
    signal(launcher.id(), "STOP")?;
    // What was on its way.
    while heard(&socket, Duration::from_millis(100)).is_ok() {}
    let silence = heard(&socket, WATCHDOG);
    signal(launcher.id(), "CONT")?;
    ensure!(silence.is_err(), "{silence:?} of a launcher that hangs");
    assert_eq!(heard(&socket, WATCHDOG)?, "WATCHDOG=1\n");
    launcher.stop(PATIENCE)?;
    let mut stops = 0;
    while let Ok(words) = heard(&socket, Duration::from_millis(10)) {
        stops += usize::from(words == "STOPPING=1\n");
    }
    assert_eq!(stops, 1, "the launcher tells of the stop, the agent does not");
    Ok(())
}

fn signal(process: u32, name: &str) -> Result<()> {
    let told = Command::new("kill").args(["-s", name, &process.to_string()]).status()?;
    ensure!(told.success(), "kill -s {name} {process}");
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
