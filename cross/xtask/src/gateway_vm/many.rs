//! Several gateways at one control plane: each from a card of its own, with a token of its own, and one
//! deployment to all of them.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use system_tests::device::{self, Plan};
use system_tests::ledger::{self, Fact, Ledger};
use system_tests::mqtt::Login;
use system_tests::process::wait_for;
use system_tests::readings::{self, Reading};

use super::Basis;
use super::gate::Gate;
use super::judge::{Verdict, judge};
use super::machine::{Hardware, Machine, PATIENCE};
use super::site::{DEVICE, Site};
use super::status::{self, median};

/// What is run.
#[derive(Debug)]
pub(crate) struct Options {
    /// What it is made of.
    pub(super) basis: Basis,
    /// How many gateways.
    pub(crate) gateways: u8,
    /// Messages to each.
    pub(crate) messages: u32,
}

/// Unacked messages of a device.
const WINDOW: usize = 32;
/// From the last ack to the last record in the control plane.
const DRAIN_MAX: Duration = Duration::from_secs(300);
const TOKEN: &str = "token-of-each";

/// A gateway with its machine, and what was seen of it.
struct Member {
    name: String,
    hardware: Hardware,
    machine: Machine,
    ready: Duration,
    enrolled: Duration,
    deployed: Duration,
    rate_per_s: f64,
    pss_kib: Option<u64>,
    verdict: Verdict,
}

/// Runs them, and judges each.
pub(crate) fn tell(options: &Options) -> Result<()> {
    println!("starting the control plane; a card for each of {} gateways", options.gateways);
    let site = Site::start(&options.basis.dir)?;
    let mut members = Vec::new();
    for n in 1..=options.gateways {
        members.push(start(options, &site, &format!("gw-{n}"))?);
    }
    println!("all are switched on");
    for member in &mut members {
        member.machine.expect("agent ready", PATIENCE)?;
        member.ready = member.machine.begun.elapsed();
        let line = member.machine.expect("enrolled as", PATIENCE)?;
        member.enrolled = member.machine.begun.elapsed();
        println!("  {}", line.trim());
    }
    for member in &members {
        wait_for(PATIENCE, &format!("{} to reach the control plane", member.name), || {
            let seen = status::all(&member.machine.console());
            Ok(seen.last().is_some_and(|status| status.is_linked).then_some(()))
        })?;
    }
    println!("one deployment to all of them");
    let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    let works = site.deploy_app("cold-chain", &names)?;
    for member in &mut members {
        member.deployed = *works.get(&member.name).context("it works there")?;
    }
    println!("{} messages to each over TLS, QoS 1, at the same time", options.messages);
    messages(options, &site, &mut members)?;
    print(&members);
    for member in members.iter_mut() {
        member.machine.expect("status", PATIENCE)?;
    }
    let problems: usize = members.iter().map(|member| member.verdict.problems.len()).sum();
    for member in members {
        member.machine.cut_power()?;
    }
    if problems > 0 {
        bail!("{problems} problem(s), listed above");
    }
    println!("OK: what each gateway acked is in the control plane, once, under its name");
    Ok(())
}

fn start(options: &Options, site: &Site, name: &str) -> Result<Member> {
    let hash = ledger::hash(TOKEN.as_bytes());
    let device = format!(
        "[[devices]]\nname = \"{DEVICE}\"\ntoken_sha256 = \"{hash}\"\n\
         publish = [\"sensors/#\"]\nsubscribe = [\"#\"]\n"
    );
    let gate = Gate::new(name, &device);
    let token = site.token(&gate)?;
    let built = site.image_of(&gate, &token, &options.basis.agent, &options.basis.parts)?;
    let hardware = Hardware {
        log: options.basis.dir.join(format!("{name}.console.log")),
        ..site.hardware(&built, options.basis.memory_mib)?
    };
    let machine = hardware.start()?;
    Ok(Member {
        name: name.to_owned(),
        hardware,
        machine,
        ready: Duration::ZERO,
        enrolled: Duration::ZERO,
        deployed: Duration::ZERO,
        rate_per_s: 0.0,
        pss_kib: None,
        verdict: Verdict::default(),
    })
}

/// A device at each gateway sends at the same time; then each gateway is judged by its own streams.
fn messages(options: &Options, site: &Site, members: &mut [Member]) -> Result<()> {
    let mut devices = Vec::new();
    for member in &*members {
        let path = options.basis.dir.join(format!("{}.jsonl", member.name));
        devices.push((send(options, site, &member.hardware, &path)?, path));
    }
    for (member, (device, path)) in members.iter_mut().zip(devices) {
        let took = device.join().map_err(|_| anyhow!("the device panicked"))??;
        member.rate_per_s = f64::from(options.messages) / took.as_secs_f64();
        let facts = ledger::read(&path)?;
        member.verdict = drain(options, site, &member.name, &facts)?;
        let seen = status::all(&member.machine.console());
        member.pss_kib = median(seen.iter().map(|status| status.pss_kib).collect());
    }
    Ok(())
}

fn send(
    options: &Options,
    site: &Site,
    hardware: &Hardware,
    path: &Path,
) -> Result<JoinHandle<Result<Duration>>> {
    let excerpt = readings::read(&readings::excerpt())?;
    let count = usize::try_from(options.messages)?;
    let readings: Vec<Reading> = excerpt.into_iter().cycle().take(count).collect();
    let plan = Plan {
        login: Login {
            ca: Some(site.identity.ca.clone()),
            password: Some(TOKEN.to_owned()),
            clean: false,
            session_expiry_s: 3_600,
            ..Login::anonymous(hardware.address(), DEVICE)
        },
        topic: format!("sensors/{DEVICE}"),
        window: WINDOW,
        rate_per_s: None,
        ids: true,
        patience: PATIENCE,
        stop: None,
    };
    let mut ledger = Ledger::create(path)?;
    let send = move || {
        let begun = Instant::now();
        device::run(&plan, &readings, ledger::wall_ms(), &mut ledger)?;
        Ok(begun.elapsed())
    };
    Ok(std::thread::Builder::new().name("device".to_owned()).spawn(send)?)
}

/// Waits until every message has its end in the control plane, or no longer; then judges.
fn drain(options: &Options, site: &Site, name: &str, facts: &[Fact]) -> Result<Verdict> {
    let all = usize::try_from(options.messages)?;
    let mut verdict = Verdict::default();
    let drained = wait_for(DRAIN_MAX, &format!("all records of {name} to arrive"), || {
        std::thread::sleep(Duration::from_millis(500));
        verdict = judge(facts, &site.streams_of(name)?)?;
        Ok((verdict.done + verdict.dead >= all).then_some(()))
    });
    // What is missing then is in the verdict, by number.
    if verdict.problems.is_empty() {
        drained?;
    }
    Ok(verdict)
}

fn print(members: &[Member]) {
    println!(
        "\n  {:<8}{:>9}{:>10}{:>10}{:>8}{:>10}{:>8}{:>8}{:>8}{:>6}",
        "gateway",
        "ready s",
        "enrol s",
        "deploy s",
        "msg/s",
        "PSS KiB",
        "sent",
        "acked",
        "done",
        "dead"
    );
    for member in members {
        let Verdict { sent, acked, done, dead, .. } = member.verdict;
        let pss = member.pss_kib.map_or("-".to_owned(), |kib| kib.to_string());
        let s = |time: Duration| format!("{:.1}", time.as_secs_f64());
        println!(
            "  {:<8}{:>9}{:>10}{:>10}{:>8.0}{pss:>10}{sent:>8}{acked:>8}{done:>8}{dead:>6}",
            member.name,
            s(member.ready),
            s(member.enrolled),
            s(member.deployed),
            member.rate_per_s,
        );
        for problem in &member.verdict.problems {
            println!("  PROBLEM {}: {problem}", member.name);
        }
    }
}
