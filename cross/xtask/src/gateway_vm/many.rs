//! Several gateways at one control plane: each from a card of its own, with a token of its own, and one
//! deployment to all of them.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use system_tests::ledger;
use system_tests::process::wait_for;

use super::Basis;
use super::gate::Gate;
use super::judge::{Verdict, drain};
use super::machine::{Hardware, Machine, PATIENCE};
use super::sending::Sender;
use super::site::{DEVICE, Site, device_toml};
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
    let gate = Gate::new(name, &device_toml(DEVICE));
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
        let sender = Sender::of_all(DEVICE, options.messages);
        devices.push((sender.start(site, &member.hardware, &path)?, path));
    }
    for (member, (device, path)) in members.iter_mut().zip(devices) {
        let took = device.join().map_err(|_| anyhow!("the device panicked"))??;
        member.rate_per_s = f64::from(options.messages) / took.as_secs_f64();
        let facts = ledger::read(&path)?;
        member.verdict = drain(site, &member.name, &facts)?;
        let seen = status::all(&member.machine.console());
        member.pss_kib = median(seen.iter().map(|status| status.pss_kib).collect());
    }
    Ok(())
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
