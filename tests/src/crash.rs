//! Kills a gateway again and again under load, and shows from the outside that nothing was lost,
//! nothing was done twice, and the state is that of a serial run.
//!
//! A control plane, one gateway with the app `cold-chain`, and devices that never stop sending:
//! some with message ids, one as plain QoS 1. The gateway is killed at random moments of its life,
//! its start included ([`Campaign::kill_at_random`]), or ends itself at named moments
//! ([`Campaign::kill_at`], with the planted agent). [`Campaign::finish`] lets everything come to
//! rest and returns the [`Evidence`] that [`judge`] looks at.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::author::{Author, fixture};
use crate::cloud::Cloud;
use crate::device::{self, Plan};
use crate::gateway::{Gateway, Setup};
use crate::ledger::{Ledger, wall_ms};
use crate::mqtt::Login;
use crate::process::wait_for;
use crate::random::Random;
use crate::readings::{self, Reading};

mod bad_disk;
pub mod disk;
mod evidence;
pub mod full;
mod judge;
pub mod read_only;

pub use bad_disk::Report;
pub use evidence::{Dead, DeviceEvidence, Evidence, Point};
pub(crate) use judge::judge_messages;
pub use judge::{Verdict, judge, table};

/// Name of the gateway.
const GATEWAY: &str = "gw-kill";
/// The device that sends plain QoS 1.
const PLAIN: &str = "plain-1";
/// Unacked publishes of a device.
const WINDOW: usize = 20;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);
/// Readings of a device at most: an hour at the usual rate.
const READINGS_MAX: usize = 400_000;
/// Attempts that end the probation of a revision, and some more.
const WARM_UP: u64 = 150;
/// What ends a process that is killed.
const SIGKILL: i32 = 9;

/// Named moments of the planted agent (`edge-agent/src/agent/plant.rs`), each with the passing at
/// which it ends itself: an early one and one under full load.
pub const MOMENTS: &[(&str, u32)] = &[
    ("before-admit", 1),
    ("after-admit", 150),
    ("before-seal", 40),
    ("after-seal", 90),
    ("before-sync", 2),
    ("after-sync", 120),
    ("before-ack", 1),
    ("after-ack", 60),
    ("before-route", 70),
    ("after-route", 1),
    ("before-receipt", 4),
    ("after-receipt", 1),
    ("after-admit", 1),
    ("before-admit", 170),
    ("after-seal", 1),
    ("before-sync", 100),
    ("after-sync", 1),
    ("before-ack", 80),
    ("after-ack", 1),
    ("after-route", 110),
    ("before-receipt", 1),
    ("after-receipt", 6),
];

/// What is killed under which load.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is written; made if absent.
    pub dir: PathBuf,
    /// Chooses the moments.
    pub seed: u64,
    /// Devices with message ids; one more sends plain QoS 1.
    pub devices: usize,
    /// Readings a second of each device.
    pub rate_per_s: f64,
    /// The agent program.
    pub agent: String,
}

/// One end of the gateway process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Where it hit: a named moment, or how long after the start.
    pub moment: String,
    /// When the process was started, wall clock milliseconds.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
}

/// Everything that runs.
pub struct Campaign {
    options: Options,
    cloud: Cloud,
    gateway: Gateway,
    devices: Vec<(String, JoinHandle<Result<()>>)>,
    stop: Arc<AtomicBool>,
    readings: Arc<[Reading]>,
    random: Random,
    started: Instant,
    started_ms: u64,
    kills: Vec<Kill>,
}

impl Campaign {
    /// Brings everything up and the load under way.
    ///
    /// # Errors
    /// Something does not come up; the message says what and where its log is.
    pub fn begin(options: Options) -> Result<Self> {
        std::fs::create_dir_all(&options.dir)?;
        let dir = &options.dir;
        let author = Author::new(&dir.join("author"))?;
        let cloud = Cloud::start(&dir.join("cloud"), &author)?;
        let names: Vec<String> =
            (1..=options.devices).map(|n| format!("press-{n}")).chain([PLAIN.to_owned()]).collect();
        let accounts = names.iter().cloned().chain([bad_disk::WATCHER.to_owned()]);
        let setup = Setup {
            name: GATEWAY.to_owned(),
            devices: accounts.map(|name| (name.clone(), token(&name))).collect(),
            agent: options.agent.clone(),
            ..Setup::default()
        };
        let mut gateway = Gateway::new(&dir.join(GATEWAY), &setup)?;
        gateway.enroll(author.holm(&["gateway", "add", GATEWAY])?.trim())?;
        gateway.start()?;
        let app = fixture("apps/cold-chain");
        author.holm(&["deploy", app.to_str().context("the path is not UTF-8")?, "--all"])?;
        let excerpt = readings::read(&readings::excerpt())?;
        let mut campaign = Self {
            random: Random::new(options.seed),
            cloud,
            gateway,
            devices: Vec::new(),
            stop: Arc::default(),
            readings: excerpt.into_iter().cycle().take(READINGS_MAX).collect(),
            started: Instant::now(),
            started_ms: wall_ms(),
            kills: Vec::new(),
            options,
        };
        campaign.wait_live()?;
        for name in &names {
            campaign.start_device(name)?;
        }
        wait_for(PATIENCE, "the first messages to be done", || {
            let status = campaign.gateway.status()?;
            Ok((status["core"]["counters"]["done"].as_u64() >= Some(WARM_UP)).then_some(()))
        })?;
        Ok(campaign)
    }

    fn wait_live(&self) -> Result<()> {
        wait_for(PATIENCE, "the app to be live", || {
            let status = self.gateway.status()?;
            let phase = &status["deployments"]["apps"][0]["phase"];
            Ok((phase == "probation" || phase == "live").then_some(()))
        })
    }

    fn start_device(&mut self, name: &str) -> Result<()> {
        let plan = Plan {
            login: Login {
                password: Some(token(name)),
                ..Login::anonymous(self.gateway.address(), name)
            },
            topic: format!("sensors/{name}"),
            window: WINDOW,
            rate_per_s: Some(self.options.rate_per_s),
            ids: name != PLAIN,
            patience: PATIENCE,
            stop: Some(Arc::clone(&self.stop)),
        };
        let mut ledger = Ledger::create(&self.ledger(name))?;
        let readings = Arc::clone(&self.readings);
        let boot = self.options.seed ^ ((self.devices.len() as u64 + 1) << 32);
        let run = move || device::run(&plan, &readings, boot, &mut ledger);
        self.devices.push((name.to_owned(), std::thread::spawn(run)));
        Ok(())
    }

    fn ledger(&self, device: &str) -> PathBuf {
        self.options.dir.join(format!("device-{device}.jsonl"))
    }

    /// Kills so far.
    #[must_use]
    pub fn kills(&self) -> &[Kill] {
        &self.kills
    }

    /// Kills the gateway at a random moment within `life_max` of its start, and starts it again.
    ///
    /// # Errors
    /// It had ended by itself, or cannot be started.
    pub fn kill_at_random(&mut self, life_max: Duration) -> Result<()> {
        let at = life_max.mul_f64(self.random.fraction());
        std::thread::sleep(at.saturating_sub(self.started.elapsed()));
        self.kill_while(|| Ok(()))
    }

    /// Kills the gateway, does something, and starts it again.
    fn kill_while(&mut self, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let moment = format!("{} ms after its start", self.started.elapsed().as_millis());
        let ended_ms = wall_ms();
        self.gateway.kill()?;
        self.kills.push(Kill { moment, started_ms: self.started_ms, ended_ms });
        act()?;
        self.spawn(None)
    }

    /// Lets the planted agent end itself at each of these moments, named with the passing at which
    /// it does, one life each; then starts it without a plant.
    ///
    /// # Errors
    /// It does not come to one of the moments, or ends in another way.
    pub fn kill_at(&mut self, moments: &[(&str, u32)]) -> Result<()> {
        self.gateway.stop()?;
        for (moment, nth) in moments {
            let moment = format!("{moment}:{nth}");
            self.spawn(Some(format!("kill:{moment}")))?;
            let signal = self.gateway.wait_end(PATIENCE).with_context(|| moment.clone())?;
            if signal != Some(SIGKILL) {
                let log = self.gateway.log();
                bail!("{moment}: ended with signal {signal:?}, see {}", log.display());
            }
            let (started_ms, ended_ms) = (self.started_ms, wall_ms());
            self.kills.push(Kill { moment, started_ms, ended_ms });
        }
        self.spawn(None)
    }

    fn spawn(&mut self, plant: Option<String>) -> Result<()> {
        self.gateway.set_plant(plant);
        (self.started, self.started_ms) = (Instant::now(), wall_ms());
        self.gateway.spawn()
    }

    /// Ends the load, waits until everything is worked off and stored by the control plane, and
    /// collects the evidence.
    ///
    /// # Errors
    /// Something does not come to rest.
    pub fn finish(mut self) -> Result<Evidence> {
        self.stop.store(true, Ordering::Relaxed);
        let mut names = Vec::new();
        for (name, device) in std::mem::take(&mut self.devices) {
            let ended = device.join();
            ended.map_err(|_| anyhow::anyhow!("{name} panicked"))??;
            names.push(name);
        }
        wait_for(PATIENCE, "the gateway to answer", || Ok(self.gateway.status().ok()))?;
        self.gateway.wait_idle(PATIENCE)?;
        let drained = wait_for(PATIENCE, "the outbox to drain", || {
            let status = self.gateway.status()?;
            let streams = status["core"]["outbox"].as_array().into_iter().flatten();
            let left: u64 = streams.filter_map(|stream| stream["records"].as_u64()).sum();
            Ok((left == 0).then_some(()))
        });
        let mut evidence = Evidence {
            kills: std::mem::take(&mut self.kills),
            readings: Arc::clone(&self.readings),
            ..Evidence::default()
        };
        if let Err(err) = drained {
            evidence.oddities.push(err.to_string());
        }
        evidence.read_cloud(&self.cloud, GATEWAY)?;
        evidence.read_gateway(&self.gateway)?;
        for name in names {
            evidence.read_device(&self.gateway, &name, name != PLAIN, &self.ledger(&name))?;
        }
        self.gateway.stop()?;
        Ok(evidence)
    }
}

fn token(name: &str) -> String {
    format!("token-of-{name}")
}
