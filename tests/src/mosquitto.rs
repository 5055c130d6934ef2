//! Mosquitto as a peer: the broker that benchmarks and scripts are held against.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Process, wait_for};

/// How long it may take to listen on a busy machine.
const READY_MAX: Duration = Duration::from_secs(60);

/// Starts it in `dir` on a free port of loopback, for anonymous clients, with further lines of
/// configuration.
///
/// # Errors
/// It is not installed, or does not come up.
pub fn start(dir: &Path, more: &str) -> Result<(SocketAddr, Process)> {
    std::fs::create_dir_all(dir)?;
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = dir.join("mosquitto.conf");
    let listener = format!("listener {} 127.0.0.1", address.port());
    std::fs::write(
        &config,
        format!("{listener}\nallow_anonymous true\npersistence false\n{more}"),
    )?;
    let mut command = Command::new(program()?);
    command.arg("-c").arg(&config);
    let broker = Process::start("mosquitto", command, &dir.join("mosquitto.log"))?;
    wait_for(READY_MAX, "mosquitto to listen", || Ok(TcpStream::connect(address).ok()))?;
    Ok((address, broker))
}

fn program() -> Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    let found = folders.map(|dir| Path::new(dir).join("mosquitto")).find(|path| path.is_file());
    found.context("mosquitto is not installed: apt-get install mosquitto")
}
