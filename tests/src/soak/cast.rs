//! Everything that runs in a soak.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::author::{Author, fixture};
use crate::cloud::Cloud;
use crate::crash::{Evidence, Kill};
use crate::device::{self, Plan};
use crate::gateway::{Gateway, Setup};
use crate::ledger::{Ledger, wall_ms};
use crate::link::Link;
use crate::mqtt::Login;
use crate::process::{program, wait_for};
use crate::readings::{self, Reading};

use super::sample::Subject;
use super::script::Act;
use super::visitor::{VISITOR, Visit, Visits};
use super::{DEVICES, Options};

/// Place of the bad version among the bundles.
const BAD: usize = 2;
const GATEWAYS: [&str; 2] = ["gw-a", "gw-b"];
/// Readings of a device at most.
const READINGS_MAX: usize = 400_000;
/// Longest wait for anything: a device may wait for its gateway through several kills.
const PATIENCE: Duration = Duration::from_secs(180);
/// Unacked publishes of a device.
const WINDOW: usize = 20;

/// A gateway with its clients.
struct House {
    gateway: Gateway,
    pid: Arc<AtomicU32>,
    started_ms: u64,
    kills: Vec<Kill>,
    /// Each device reaches the gateway through a link of its own.
    links: Vec<Link>,
    devices: Vec<(String, JoinHandle<Result<()>>)>,
    visits: Visits,
}

/// Everything that runs.
pub(super) struct Cast {
    dir: PathBuf,
    author: Author,
    cloud: Cloud,
    cloud_pid: Arc<AtomicU32>,
    houses: Vec<House>,
    stop: Arc<AtomicBool>,
    readings: Arc<[Reading]>,
    /// Bundles of versions 1 to 3; the last one is bad.
    bundles: [PathBuf; 3],
    deployed: usize,
    /// The deployment of a bad version, until it was looked at.
    bad: Option<u64>,
    /// Bad versions that gateways took back.
    taken_back: usize,
    problems: Vec<String>,
}

/// What is known at the end.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of each gateway.
    pub(super) evidence: Vec<Evidence>,
    /// By gateway.
    pub(super) visits: Vec<(String, Vec<Visit>)>,
    /// Bad versions that gateways took back.
    pub(super) taken_back: usize,
    /// What must not be.
    pub(super) problems: Vec<String>,
}

impl Cast {
    /// Brings everything up and the load under way.
    pub(super) fn begin(options: &Options) -> Result<Self> {
        let dir = options.dir.clone();
        let author = Author::new(&dir.join("author"))?;
        let build = |version: &str| author.build(&fixture("apps").join(version));
        let bundles = [build("cold-chain")?, build("cold-chain/v2")?, build("cold-chain/v3")?];
        let cloud = Cloud::start(&dir.join("cloud"), &author)?;
        let cloud_pid = Arc::new(AtomicU32::new(cloud.id()?));
        let stop = Arc::<AtomicBool>::default();
        let excerpt = readings::read(&readings::excerpt())?;
        let mut cast = Self {
            dir,
            author,
            cloud,
            cloud_pid,
            houses: Vec::new(),
            stop,
            readings: excerpt.into_iter().cycle().take(READINGS_MAX).collect(),
            bundles,
            deployed: 0,
            bad: None,
            taken_back: 0,
            problems: Vec::new(),
        };
        let gateways =
            GATEWAYS.iter().map(|name| cast.gateway(name)).collect::<Result<Vec<_>>>()?;
        cast.deploy(0)?;
        for gateway in gateways {
            wait_for(PATIENCE, "the app to be live", || Ok(is_live(&gateway)?.then_some(())))?;
            let house = cast.house(gateway, options)?;
            cast.houses.push(house);
        }
        Ok(cast)
    }

    fn gateway(&self, name: &str) -> Result<Gateway> {
        let names = (0..DEVICES).map(|n| device_name(name, n)).chain([VISITOR.to_owned()]);
        let setup = Setup {
            name: name.to_owned(),
            devices: names.map(|name| (name.clone(), token(&name))).collect(),
            ..Setup::default()
        };
        let mut gateway = Gateway::new(&self.dir.join(name), &setup)?;
        gateway.enroll(self.author.holm(&["gateway", "add", name])?.trim())?;
        gateway.start()?;
        Ok(gateway)
    }

    fn house(&self, gateway: Gateway, options: &Options) -> Result<House> {
        let mut house = House {
            pid: Arc::new(AtomicU32::new(gateway.id()?)),
            started_ms: wall_ms(),
            kills: Vec::new(),
            links: Vec::new(),
            devices: Vec::new(),
            visits: Visits::start(gateway.address(), &token(VISITOR))?,
            gateway,
        };
        for n in 0..DEVICES {
            let name = device_name(house.gateway.name(), n);
            let link = Link::to(house.gateway.address())?;
            let plan = Plan {
                login: Login {
                    password: Some(token(&name)),
                    ..Login::anonymous(link.address(), &name)
                },
                topic: format!("sensors/{name}"),
                window: WINDOW,
                rate_per_s: Some(options.rate_per_s),
                ids: true,
                patience: PATIENCE,
                stop: Some(Arc::clone(&self.stop)),
            };
            let mut ledger = Ledger::create(&self.ledger(&name))?;
            let readings = Arc::clone(&self.readings);
            let boot = options.seed ^ ((n as u64 + 1) << 32);
            let run = move || device::run(&plan, &readings, boot, &mut ledger);
            house.devices.push((name, std::thread::spawn(run)));
            house.links.push(link);
        }
        Ok(house)
    }

    fn ledger(&self, device: &str) -> PathBuf {
        self.dir.join(format!("device-{device}.jsonl"))
    }

    /// What the sampler looks at.
    pub(super) fn subjects(&self) -> Result<Vec<Subject>> {
        let agent = program("edge-agent")?;
        let cloud = Subject {
            name: "control plane".to_owned(),
            pid: Arc::clone(&self.cloud_pid),
            dir: self.dir.join("cloud"),
            agent: None,
        };
        let houses = self.houses.iter().map(|house| Subject {
            name: house.gateway.name().to_owned(),
            pid: Arc::clone(&house.pid),
            dir: house.gateway.data_dir(),
            agent: Some((agent.clone(), house.gateway.config())),
        });
        Ok(houses.chain([cloud]).collect())
    }

    /// Does it; returns what it was, in words, or nothing where it cannot be done now.
    pub(super) fn act(&mut self, act: Act) -> Result<Option<String>> {
        let is_deployment = matches!(act, Act::DeployGood | Act::DeployBad);
        if is_deployment && self.cloud_pid.load(Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        Ok(Some(match act {
            Act::KillGateway(n) => {
                self.houses[n].kill()?;
                format!("SIGKILL of {}", GATEWAYS[n])
            }
            Act::KillCloud => {
                self.cloud.kill()?;
                self.cloud_pid.store(0, Ordering::Relaxed);
                "SIGKILL of the control plane".to_owned()
            }
            Act::StartCloud => {
                self.cloud.serve()?;
                self.cloud_pid.store(self.cloud.id()?, Ordering::Relaxed);
                "the control plane is back".to_owned()
            }
            Act::CutLink => {
                self.cloud.link.cut();
                "the link upstream is cut".to_owned()
            }
            Act::MendLink => {
                self.cloud.link.mend();
                "the link upstream is mended".to_owned()
            }
            Act::DeployGood => {
                let version = self.deployed % 2;
                self.deploy(version)?;
                format!("version {} is deployed", version + 1)
            }
            Act::DeployBad => {
                self.deploy(BAD)?;
                "version 3, which is bad, is deployed".to_owned()
            }
            Act::DeviceLeaves(gateway, device) => {
                self.houses[gateway].links[device].cut();
                format!("{} leaves", device_name(GATEWAYS[gateway], device))
            }
            Act::DeviceReturns(gateway, device) => {
                self.houses[gateway].links[device].mend();
                format!("{} returns", device_name(GATEWAYS[gateway], device))
            }
        }))
    }

    fn deploy(&mut self, version: usize) -> Result<()> {
        self.look_at_bad()?;
        let bundle = self.bundles[version].to_str().context("the path is not UTF-8")?;
        self.author.holm(&["deploy", bundle, "--all"])?;
        self.deployed += 1;
        if version == BAD {
            let newest = self.cloud.get("/v1/deployments?limit=1")?;
            self.bad = Some(newest["rows"][0]["id"].as_u64().context("no deployment")?);
        }
        Ok(())
    }

    /// What became of the last bad version; the next deployment hides it. A gateway that was away
    /// may not have met it yet.
    fn look_at_bad(&mut self) -> Result<()> {
        let Some(id) = self.bad.take() else { return Ok(()) };
        let deployment = self.cloud.get(&format!("/v1/deployments/{id}"))?;
        for row in deployment["progress"].as_array().into_iter().flatten() {
            match row["progress"].as_str() {
                Some("live") => {
                    self.problems.push(format!("{} keeps a bad version", row["gateway"]));
                }
                Some("taken-back") => self.taken_back += 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends the load, and waits until all is worked off and stored upstream.
    pub(super) fn rest(&mut self) -> Result<()> {
        // So that everybody ends with a version that works, whatever came last.
        self.deploy(0)?;
        self.stop.store(true, Ordering::Relaxed);
        for house in &mut self.houses {
            for (name, device) in std::mem::take(&mut house.devices) {
                device.join().map_err(|_| anyhow::anyhow!("{name} panicked"))??;
            }
            let gateway = &house.gateway;
            wait_for(PATIENCE, "the app to be live again", || Ok(is_live(gateway)?.then_some(())))?;
            gateway.wait_idle(PATIENCE)?;
            let drained = wait_for(PATIENCE, "the outbox to drain", || {
                Ok((gateway.status()?["outbox"]["records"] == 0).then_some(()))
            });
            self.problems.extend(drained.err().map(|err| format!("{}: {err}", gateway.name())));
        }
        Ok(())
    }

    /// Tells what is known, and ends everything.
    pub(super) fn finish(mut self) -> Result<Seen> {
        let mut seen = Seen {
            taken_back: self.taken_back,
            problems: std::mem::take(&mut self.problems),
            ..Seen::default()
        };
        for house in std::mem::take(&mut self.houses) {
            self.judge_by(house, &mut seen)?;
        }
        ensure!(seen.evidence.len() == GATEWAYS.len(), "a gateway is missing");
        Ok(seen)
    }

    fn judge_by(&self, mut house: House, seen: &mut Seen) -> Result<()> {
        let name = house.gateway.name().to_owned();
        let mut evidence = Evidence {
            kills: std::mem::take(&mut house.kills),
            readings: Arc::clone(&self.readings),
            ..Evidence::default()
        };
        evidence.read_cloud(&self.cloud, &name)?;
        evidence.read_gateway(&house.gateway)?;
        for device in (0..DEVICES).map(|n| device_name(&name, n)) {
            evidence.read_device(&house.gateway, &device, true, &self.ledger(&device))?;
        }
        seen.evidence.push(evidence);
        seen.visits.push((name, house.visits.finish()?));
        house.gateway.stop()
    }
}

impl House {
    fn kill(&mut self) -> Result<()> {
        let ended_ms = wall_ms();
        self.gateway.kill()?;
        let moment = format!("{} ms after its start", ended_ms.saturating_sub(self.started_ms));
        self.kills.push(Kill { moment, started_ms: self.started_ms, ended_ms });
        self.started_ms = wall_ms();
        self.gateway.spawn()?;
        self.pid.store(self.gateway.id()?, Ordering::Relaxed);
        Ok(())
    }
}

fn is_live(gateway: &Gateway) -> Result<bool> {
    let Ok(status) = gateway.status() else { return Ok(false) };
    let phase = |app: &Value| app["phase"] == "probation" || app["phase"] == "live";
    Ok(status["deployments"]["apps"].as_array().into_iter().flatten().any(phase))
}

fn device_name(gateway: &str, n: usize) -> String {
    format!("{gateway}-press-{}", n + 1)
}

fn token(name: &str) -> String {
    format!("token-of-{name}")
}
