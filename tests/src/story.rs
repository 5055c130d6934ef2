//! The demonstration: one control plane, two gateways, devices that replay real readings; a push,
//! a cut link, a SIGKILL and a bad version. It leaves ledgers that [`crate::verify`] judges.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::author::{Author, fixture};
use crate::cloud::Cloud;
use crate::gateway::{Gateway, Setup};
use crate::ledger::wall_ms;
use crate::pki::{ServerIdentity, server_identity};
use crate::process::{Process, program, wait_for};

/// Gateways of the story, with their devices.
const GATEWAYS: [(&str, &[&str]); 2] =
    [("gw-a", &["press-1", "press-2", BURST]), ("gw-b", &["press-3", "press-4"])];
/// Sends as fast as it is acked, from shortly before the kill: so that the kill hits work in flight.
const BURST: &str = "press-burst";
/// Readings a second of each device.
const RATE_PER_S: f64 = 40.0;
/// Longest wait for anything in the story.
const PATIENCE: Duration = Duration::from_secs(120);

/// Longest wait for the outboxes to drain.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// What kind of story.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is written; made if absent.
    pub dir: PathBuf,
    /// Chooses the moments of push, cut and kill.
    pub seed: u64,
    /// Readings of each device.
    pub readings: usize,
    /// File of readings.
    pub data: PathBuf,
    /// Whether messages carry ids (else plain QoS 1).
    pub ids: bool,
    /// The agent program.
    pub agent: String,
    /// A planted bug of a test-only agent.
    pub plant: Option<String>,
}

/// What the verification must know of the story, beside the ledgers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// The seed.
    pub seed: u64,
    /// Whether messages carried ids.
    pub ids: bool,
    /// File of readings.
    pub data: PathBuf,
    /// Gateway, its devices.
    pub gateways: Vec<(String, Vec<String>)>,
    /// Moment of the cut of the link, wall clock milliseconds.
    pub cut_ms: u64,
    /// Moment of its mending.
    pub mended_ms: u64,
    /// Moment of the SIGKILL.
    pub killed_ms: u64,
    /// Moment of the killed gateway being back.
    pub back_ms: u64,
    /// The gateway that was killed.
    pub killed: String,
    /// Step and how long it took, in milliseconds.
    pub steps: Vec<(String, u64)>,
    /// Records waiting in the outboxes at the end of the cut.
    pub outbox_at_mend: u64,
    /// Whether the outboxes were empty at the end.
    pub drained: bool,
    /// What the control plane says of the bad version, by gateway.
    pub taken_back: Vec<(String, String)>,
}

/// Everything that runs.
pub struct Story {
    options: Options,
    author: Author,
    cloud: Cloud,
    gateways: Vec<Gateway>,
    subscribers: Vec<Process>,
    devices: Vec<Process>,
    random: u64,
    started: Instant,
    facts: Facts,
}

impl Story {
    /// Builds the app, starts control plane and gateways, deploys version 1.
    ///
    /// # Errors
    /// Something does not come up; the message says what and where its log is.
    pub fn begin(options: Options) -> Result<Self> {
        std::fs::create_dir_all(&options.dir)?;
        let dir = &options.dir;
        let author = Author::new(&dir.join("author"))?;
        say("building the app cold-chain for WebAssembly, three versions, signed");
        for version in ["cold-chain", "cold-chain/v2", "cold-chain/v3"] {
            author.build(&fixture("apps").join(version))?;
        }
        say("starting the control plane");
        let cloud = Cloud::start(&dir.join("cloud"), &author)?;
        let identity = server_identity(&dir.join("pki"))?;
        let mut gateways = Vec::new();
        for (name, devices) in GATEWAYS {
            say(&format!("enrolling gateway {name}"));
            gateways.push(start_gateway(&options, &author, &identity, name, devices)?);
        }
        let gateway_list = GATEWAYS.iter().map(|(name, devices)| {
            ((*name).to_owned(), devices.iter().map(|device| (*device).to_owned()).collect())
        });
        let facts = Facts {
            seed: options.seed,
            ids: options.ids,
            data: options.data.clone(),
            gateways: gateway_list.collect(),
            cut_ms: 0,
            mended_ms: 0,
            killed_ms: 0,
            back_ms: 0,
            killed: GATEWAYS[0].0.to_owned(),
            steps: Vec::new(),
            outbox_at_mend: 0,
            drained: false,
            taken_back: Vec::new(),
        };
        let random = options.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Ok(Self {
            options,
            author,
            cloud,
            gateways,
            subscribers: Vec::new(),
            devices: Vec::new(),
            random,
            started: Instant::now(),
            facts,
        })
    }

    /// Tells the story; the ledgers are complete when it returns.
    ///
    /// # Errors
    /// A step does not come to its end.
    pub fn tell(&mut self) -> Result<()> {
        self.step("1 deploy version 1", |story| story.deploy("cold-chain"))?;
        self.start_clients()?;
        self.pause(1_500, 1_500);
        self.step("2 push version 2 while messages flow", |story| story.deploy("cold-chain/v2"))?;
        self.pause(1_500, 1_500);
        self.step("3 cut the link to the control plane", Self::cut)?;
        self.pause(1_000, 1_500);
        self.step("4 SIGKILL a gateway under load", Self::kill)?;
        self.pause(2_500, 1_500);
        self.step("5 deploy a bad version", Self::bad_version)?;
        self.step("6 the devices come to their end", Self::finish_devices)?;
        self.step("7 everything drains", Self::drain)?;
        self.collect()
    }

    fn step(&mut self, name: &str, act: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        say(name);
        let begin = Instant::now();
        act(self).with_context(|| format!("step {name:?}, {}", self.options.dir.display()))?;
        let took = u64::try_from(begin.elapsed().as_millis())?;
        self.facts.steps.push((name.to_owned(), took));
        Ok(())
    }

    /// A pause of `at_least` plus a part of `up_to` milliseconds that the seed chooses.
    fn pause(&mut self, at_least: u64, up_to: u64) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        std::thread::sleep(Duration::from_millis(at_least + self.random % up_to));
    }

    fn deploy(&self, app: &str) -> Result<()> {
        let source = fixture("apps").join(app);
        let source = source.to_str().context("the path is not UTF-8")?;
        self.author.holm(&["deploy", source, "--all"])?;
        let newest = self.newest_deployment()?;
        self.wait_progress(newest, &["live", "probation"]).map(|_| ())
    }

    fn newest_deployment(&self) -> Result<u64> {
        let list = self.cloud.get("/v1/deployments?limit=1")?;
        list["rows"][0]["id"].as_u64().context("no deployment")
    }

    /// Waits until every gateway has come to one of these; returns gateway, progress and reason.
    fn wait_progress(&self, id: u64, wanted: &[&str]) -> Result<Vec<(String, String, String)>> {
        wait_for(PATIENCE, &format!("deployment {id} to be {wanted:?}"), || {
            let deployment = self.cloud.get(&format!("/v1/deployments/{id}"))?;
            let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
            let rows = deployment["progress"].as_array().into_iter().flatten();
            let rows: Vec<_> = rows
                .map(|row| (text(row, "gateway"), text(row, "progress"), text(row, "reason")))
                .collect();
            if let Some((gateway, _, reason)) = rows.iter().find(|row| row.1 == "failed") {
                bail!("{gateway}: {reason}");
            }
            let there = rows.len() == self.gateways.len()
                && rows.iter().all(|row| wanted.contains(&row.1.as_str()));
            Ok(there.then_some(rows))
        })
    }

    fn start_clients(&mut self) -> Result<()> {
        let dir = self.options.dir.clone();
        for (n, (name, devices)) in GATEWAYS.iter().enumerate() {
            let address = self.gateways[n].address();
            let subscriber = format!("watch-{name}");
            let plan = json!({
                "name": subscriber, "token": token(&subscriber), "address": address,
                "ca": dir.join("pki/ca.pem"), "filters": ["smooth/+", "alarm/+"],
                "ledger": dir.join(format!("subscriber-{name}.jsonl")),
            });
            let process = start_client(&dir, "test-subscriber", &subscriber, &plan)?;
            self.subscribers.push(process);
            for device in devices.iter().filter(|device| **device != BURST) {
                self.start_device(n, device, Some(RATE_PER_S))?;
            }
        }
        Ok(())
    }

    fn start_device(&mut self, gateway: usize, device: &str, rate: Option<f64>) -> Result<()> {
        let dir = self.options.dir.clone();
        let plan = json!({
            "name": device, "token": token(device), "address": self.gateways[gateway].address(),
            "ca": dir.join("pki/ca.pem"), "data": self.options.data,
            "count": if rate.is_some() { self.options.readings } else { usize::MAX }, "rate_per_s": rate, "ids": self.options.ids,
            "boot": self.options.seed ^ ((self.devices.len() as u64 + 1) << 32),
            "ledger": dir.join(format!("device-{device}.jsonl")),
        });
        self.devices.push(start_client(&dir, "test-device", device, &plan)?);
        Ok(())
    }

    fn outbox(&self) -> Result<u64> {
        let mut records = 0;
        for gateway in &self.gateways {
            let status = gateway.status()?;
            let streams = status["core"]["outbox"].as_array().into_iter().flatten();
            records += streams.filter_map(|stream| stream["records"].as_u64()).sum::<u64>();
        }
        Ok(records)
    }

    fn cut(&mut self) -> Result<()> {
        self.cloud.link.cut();
        self.facts.cut_ms = wall_ms();
        self.pause(3_000, 2_000);
        self.facts.outbox_at_mend = self.outbox()?;
        self.facts.mended_ms = wall_ms();
        self.cloud.link.mend();
        say(&format!("  the link is back; {} records waited", self.facts.outbox_at_mend));
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.start_device(0, BURST, None)?;
        let ledger = self.options.dir.join(format!("device-{BURST}.jsonl"));
        wait_for(PATIENCE, "the burst to begin", || {
            Ok(ledger.metadata().is_ok_and(|file| file.len() > 0).then_some(()))
        })?;
        self.pause(5, 60);
        self.facts.killed_ms = wall_ms();
        self.gateways[0].kill()?;
        self.gateways[0].start()?;
        self.facts.back_ms = wall_ms();
        Ok(())
    }

    fn bad_version(&mut self) -> Result<()> {
        let source = fixture("apps/cold-chain/v3");
        let source = source.to_str().context("the path is not UTF-8")?;
        self.author.holm(&["deploy", source, "--all"])?;
        let newest = self.newest_deployment()?;
        let rows = self.wait_progress(newest, &["taken-back"])?;
        self.facts.taken_back = rows.into_iter().map(|(gw, _, reason)| (gw, reason)).collect();
        Ok(())
    }

    fn finish_devices(&mut self) -> Result<()> {
        for mut device in std::mem::take(&mut self.devices) {
            device.wait(PATIENCE)?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        for gateway in &self.gateways {
            gateway.wait_idle(PATIENCE)?;
        }
        let drained =
            wait_for(
                DRAIN_MAX,
                "the outboxes to drain",
                || Ok((self.outbox()? == 0).then_some(())),
            );
        // The verification says which records are missing.
        self.facts.drained = drained.is_ok();
        // The subscribers' last deliveries are on loopback: a moment is plenty.
        std::thread::sleep(Duration::from_millis(1_000));
        Ok(())
    }

    /// Reads what the control plane stored and what the gateways hold.
    fn collect(&mut self) -> Result<()> {
        for gateway in &self.gateways {
            let name = gateway.name();
            for stream in 0..3 {
                let rows = self.cloud.stream(name, stream)?;
                let path = self.options.dir.join(format!("cloud-{name}-{stream}.json"));
                std::fs::write(path, serde_json::to_vec_pretty(&rows)?)?;
            }
            let state = gateway.ask(&["state", "cold-chain/smooth"])?;
            let path = self.options.dir.join(format!("state-{name}.json"));
            std::fs::write(path, serde_json::to_vec_pretty(&state)?)?;
        }
        self.subscribers.clear();
        self.facts.steps.push((
            "the whole story".to_owned(),
            u64::try_from(self.started.elapsed().as_millis())?,
        ));
        let path = self.options.dir.join("story.json");
        std::fs::write(path, serde_json::to_vec_pretty(&self.facts)?)?;
        Ok(())
    }

    /// Stops everything gracefully.
    ///
    /// # Errors
    /// A gateway does not end well.
    pub fn end(mut self) -> Result<()> {
        self.gateways.iter_mut().try_for_each(Gateway::stop)
    }

    /// Where people can look while it is kept running.
    #[must_use]
    pub fn addresses(&self) -> String {
        let gateways = self.gateways.iter().map(|g| format!("{} at {}", g.name(), g.address()));
        format!("{}; {}", self.cloud.url(), gateways.collect::<Vec<_>>().join(", "))
    }
}

fn start_gateway(
    options: &Options,
    author: &Author,
    identity: &ServerIdentity,
    name: &str,
    devices: &[&str],
) -> Result<Gateway> {
    let watcher = format!("watch-{name}");
    let names = devices.iter().map(|device| (*device).to_owned()).chain([watcher]);
    let setup = Setup {
        name: name.to_owned(),
        devices: names.map(|name| (name.clone(), token(&name))).collect(),
        agent: options.agent.clone(),
        plant: options.plant.clone(),
        ..Setup::default()
    };
    let mut gateway = Gateway::new(&options.dir.join(name), &setup.with_tls(identity))?;
    let token = author.holm(&["gateway", "add", name])?;
    gateway.enroll(token.trim())?;
    gateway.start()?;
    Ok(gateway)
}

fn start_client(dir: &Path, program_name: &str, name: &str, plan: &Value) -> Result<Process> {
    let path = dir.join(format!("{name}.plan.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(plan)?)?;
    let mut command = Command::new(program(program_name)?);
    command.arg(&path);
    Process::start(name, command, &dir.join(format!("{name}.log")))
}

fn token(name: &str) -> String {
    format!("token-of-{name}")
}

fn say(text: &str) {
    println!("{text}");
}
