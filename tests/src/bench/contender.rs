//! What is measured: Holm, and Mosquitto with a native handler. Real processes, plaintext on
//! loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::gateway::{Gateway, Setup};
use crate::process::{Process, program, wait_for};

/// How long a contender may take to be ready.
const READY_MAX: Duration = Duration::from_secs(60);

/// A gateway with the benchmark's function deployed.
#[derive(Debug)]
pub struct Holm(Gateway);

/// What Holm's store did since the agent's start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored {
    /// Syncs of the journal.
    pub syncs: u64,
    /// Bytes that reach the device, in whole blocks.
    pub disk_bytes: u64,
}

impl Holm {
    /// Starts the agent `program` in `dir` and deploys `bundle`, signed by `author`.
    ///
    /// # Errors
    /// It does not come up, or refuses the bundle.
    pub fn start(
        dir: &Path,
        program: &Path,
        author: String,
        bundle: &Path,
        in_flight: u16,
    ) -> Result<Self> {
        let setup = Setup {
            agent: program.to_str().context("the program's path is not UTF-8")?.to_owned(),
            author_keys: vec![author],
            more: format!("[limits]\nreceive_max = {in_flight}"),
            ..Setup::open("bench")
        };
        let mut gateway = Gateway::new(dir, &setup)?;
        gateway.start()?;
        gateway.hand_over(bundle)?;
        wait_for(READY_MAX, "the function to be live", || {
            let status = gateway.status()?;
            let phase = &status["deployments"]["apps"][0]["phase"];
            Ok((phase == "probation" || phase == "live").then_some(()))
        })?;
        Ok(Self(gateway))
    }

    /// Where devices connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Its one process.
    ///
    /// # Errors
    /// It has ended.
    pub fn pids(&self) -> Result<Vec<u32>> {
        Ok(vec![self.0.id()?])
    }

    /// What its store did so far.
    ///
    /// # Errors
    /// It does not answer.
    pub fn stored(&self) -> Result<Stored> {
        let status = self.0.status()?;
        let count = |name: &str| {
            let value = status["store"][name].as_u64();
            value.with_context(|| format!("`edge-agent status` has no store.{name}"))
        };
        Ok(Stored { syncs: count("syncs")?, disk_bytes: count("disk_bytes")? })
    }

    /// How long the turns of its loop took since its start, in microseconds: 99 of 100 at most the
    /// first, the longest the second.
    ///
    /// # Errors
    /// It does not answer.
    pub fn turns_us(&self) -> Result<(u64, u64)> {
        let status = self.0.status()?;
        let us = |name: &str| {
            let value = status["loop"][name].as_u64();
            value.with_context(|| format!("`edge-agent status` has no loop.{name}"))
        };
        Ok((us("p99_us")?, us("longest_us")?))
    }

    /// Ends it, which must go well, and that it dead-lettered nothing.
    ///
    /// # Errors
    /// It does not stop, or has dead letters.
    pub fn stop(mut self) -> Result<()> {
        let dead = self.0.ask(&["dead-letters"])?;
        if dead != Value::Array(Vec::new()) {
            bail!("messages were dead-lettered: {dead:#}");
        }
        self.0.stop()
    }
}

/// Mosquitto without persistence, and the native handler.
#[derive(Debug)]
pub struct Native {
    address: SocketAddr,
    broker: Process,
    handler: Process,
}

impl Native {
    /// Starts both in `dir`.
    ///
    /// # Errors
    /// Mosquitto is not installed, or one of them does not come up.
    pub fn start(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        // Unlimited queues: at its defaults it drops what it has acked. No bound on messages in
        // flight either, which is the faster.
        let more = "set_tcp_nodelay true\nmax_queued_messages 0\nmax_inflight_messages 0\n\
                    log_type error\n";
        let (address, broker) = crate::mosquitto::start(dir, more)?;
        let mut command = Command::new(program("bench-handler")?);
        command.arg(address.to_string());
        let mut handler = Process::start("bench-handler", command, &dir.join("handler.log"))?;
        wait_for(READY_MAX, "the native handler to subscribe", || {
            if !handler.is_running() {
                bail!("it ended: {}", handler.output());
            }
            Ok(handler.output().contains("ready").then_some(()))
        })?;
        Ok(Self { address, broker, handler })
    }

    /// Where devices connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Broker and handler.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        vec![self.broker.id(), self.handler.id()]
    }
}
