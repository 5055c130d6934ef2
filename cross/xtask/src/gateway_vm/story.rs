//! The story of one gateway: first boot, enrolment, deployment, messages, a cut, another slot.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use system_tests::gateway::{Gateway, Setup};
use system_tests::ledger::{self, Fact};
use system_tests::process::wait_for;

use super::Basis;
use super::judge::{Verdict, drain};
use super::machine::{Hardware, Machine, PATIENCE};
use super::memory::Memory;
use super::reset;
use super::sending::Sender;
use super::site::{DEVICE, GATEWAY, Site};
use super::slots;
use super::status::{self, milliseconds};
use super::systems;
use super::updates;

/// What is told.
#[derive(Debug)]
pub(crate) struct Options {
    /// What it is made of.
    pub(super) basis: Basis,
    /// The agent that it is updated to; `None`: the same one with another digest.
    pub(crate) update: Option<PathBuf>,
    /// What that calls itself; `None`: as the other one does.
    pub(crate) update_version: Option<String>,
    /// Messages that are sent.
    pub(crate) messages: u32,
    /// Time without messages, for the memory at rest.
    pub(crate) idle: Duration,
    /// Time with messages, for the memory at work.
    pub(crate) busy: Duration,
    /// With a cut in the midst of the messages, and trials of the other slot.
    pub(crate) is_test: bool,
    /// With updates of the system by deployment.
    pub(crate) with_systems: bool,
    /// It goes on running at the end, until Enter.
    pub(crate) keep: bool,
}

/// The card to which systems are deployed: larger than its image. It takes no room of this machine.
const CARD_BYTES: u64 = 1 << 30;

/// A line of the table at the end: what, and how much.
pub(crate) type Line = (String, String);

/// Tells it, and prints what was measured.
pub(crate) fn tell(options: &Options) -> Result<()> {
    println!("starting the control plane");
    let site = Site::start(&options.basis.dir)?;
    let built = site.image(&options.basis.agent, &options.basis.parts)?;
    if options.with_systems {
        // Room for systems, as on any card.
        std::fs::File::options().write(true).open(&built.image)?.set_len(CARD_BYTES)?;
    }
    let hardware = site.hardware(&built, options.basis.memory_mib)?;
    let mut table: Vec<Line> = built.sizes.iter().map(size_line).collect();

    println!("first boot, at 1970");
    let mut machine = hardware.start()?;
    table.extend(boot(&mut machine, "first boot")?);
    table.push(start_here(&options.basis.dir.join("here"))?);
    let line = machine.expect("enrolled as", PATIENCE)?;
    println!("  {}", line.trim());
    wait_for(PATIENCE, "the gateway to reach the control plane", || {
        let seen = status::all(&machine.console());
        Ok(seen.last().is_some_and(|status| status.is_linked).then_some(()))
    })?;
    let begun = Instant::now();
    site.deploy_app("cold-chain", &[GATEWAY.to_owned()])?;
    table.push(line_s("deployment (fetched, compiled, works)", begun.elapsed()));
    let mut memory = Vec::new();
    if options.is_test {
        memory.push(Memory::idle(&machine, options.idle)?);
    }

    let Sent { mut machine, lines, mut facts, verdict } =
        messages(options, &site, &hardware, machine)?;
    table.extend(lines);
    print(&table, &verdict)?;
    if options.is_test {
        let (busy, more) = Memory::busy(options, &site, &hardware, &machine)?;
        facts.extend(more);
        memory.push(busy);
        let lines: Vec<Line> = memory.iter().flat_map(Memory::lines).cloned().collect();
        print(&lines, &drain(&site, GATEWAY, &facts)?)?;
        println!("\nupdates of the agent, while another device sends");
        let (lines, more) = updates::tell(options, &site, &hardware, &mut machine)?;
        facts.extend(more);
        print(&lines, &drain(&site, GATEWAY, &facts)?)?;
    }
    if options.with_systems {
        println!("\nupdates of the whole system, while another device sends");
        let (lines, more) = systems::tell(options, &site, &hardware, &mut machine)?;
        facts.extend(more);
        print(&lines, &drain(&site, GATEWAY, &facts)?)?;
    }
    if options.keep {
        println!(
            "\nstill running: {}, devices at {:?}; Enter ends it",
            site.cloud.url(),
            site.login(&hardware, DEVICE).address
        );
        std::io::stdin().read_line(&mut String::new())?;
    }
    if options.is_test {
        updates::begin_another(options, &site, &mut machine)?;
    }
    let cpu = machine.cpu_time()?;
    machine.expect("status", PATIENCE)?;
    machine.cut_power()?;
    println!("  processor time of the last life: {:.0} s", cpu.as_secs_f64());
    if options.is_test {
        trials(options, &hardware)?;
        println!("a factory reset by a file on the boot partition");
        let took = reset::factory(&site, &hardware)?;
        println!("  empty, and enrolled anew by the token beside it: {:.0} s", took.as_secs_f64());
    }
    memory.iter().try_for_each(Memory::judge)?;
    println!("OK: what was acked is in the control plane, once");
    Ok(())
}

fn size_line((name, bytes): &(String, u64)) -> Line {
    (format!("size of {name}"), crate::image::disk::mib(*bytes))
}

pub(crate) fn line_s(name: &str, took: Duration) -> Line {
    (name.to_owned(), format!("{:.1} s", took.as_secs_f64()))
}

/// An agent's start on this machine, to compare with the one in the guest.
fn start_here(dir: &Path) -> Result<Line> {
    let mut gateway = Gateway::new(dir, &Setup::open("here"))?;
    gateway.start()?;
    let ms = gateway.status()?["start_ms"].as_u64().context("no start_ms in the status")?;
    gateway.stop()?;
    Ok(("agent's start to ready, this machine".to_owned(), format!("{ms} ms")))
}

/// Follows a boot; its times on the host and in the guest.
pub(crate) fn boot(machine: &mut Machine, name: &str) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    machine.expect("holm: starting slot", PATIENCE)?;
    lines.push(line_s(
        &format!("{name}: boot loader starts the kernel, host"),
        machine.begun.elapsed(),
    ));
    let clock = machine.expect("the clock showed 1970", PATIENCE)?;
    println!("  {}", clock.trim());
    let up = machine.expect(", up ", PATIENCE)?;
    lines.push(line_s(&format!("{name}: system is up, host"), machine.begun.elapsed()));
    let guest = |line: &str, before: &str| {
        let ms = milliseconds(line, before).with_context(|| format!("no time in {line:?}"))?;
        Ok::<_, anyhow::Error>(format!("{}.{:02} s", ms / 1000, ms % 1000 / 10))
    };
    lines.push((format!("{name}: system is up, guest"), guest(&up, ", up")?));
    let ready = machine.expect("agent ready", PATIENCE)?;
    lines.push(line_s(&format!("{name}: agent is ready, host"), machine.begun.elapsed()));
    lines.push((format!("{name}: agent is ready, guest"), guest(&ready, ", up")?));
    lines.push((format!("{name}: agent's start to ready, guest"), guest(&ready, "agent ready")?));
    Ok(lines)
}

/// What became of the messages.
struct Sent {
    machine: Machine,
    lines: Vec<Line>,
    facts: Vec<Fact>,
    verdict: Verdict,
}

/// Sends the messages, with a cut in their midst, and judges.
fn messages(
    options: &Options,
    site: &Site,
    hardware: &Hardware,
    mut machine: Machine,
) -> Result<Sent> {
    println!("{} messages over TLS, QoS 1", options.messages);
    let path = options.basis.dir.join("device.jsonl");
    let begun = Instant::now();
    let sender = Sender::of_all(DEVICE, options.messages);
    let device = sender.start(site, hardware, &path)?;
    let mut lines = Vec::new();
    let mut down = Duration::ZERO;
    if options.is_test {
        wait_acked(&path, usize::try_from(options.messages)? / 2, &device)?;
        println!("half of them are acked: QEMU is killed");
        machine.cut_power()?;
        let cut = Instant::now();
        machine = hardware.start()?;
        lines.extend(boot(&mut machine, "after the kill")?);
        down = cut.elapsed();
    }
    device.join().map_err(|_| anyhow!("the device panicked"))??;
    let took = begun.elapsed();
    let facts = ledger::read(&path)?;
    lines.push(line_s("all acked, the boot in between included", took));
    let rate = f64::from(options.messages) / took.saturating_sub(down).as_secs_f64();
    lines.push(("acked messages a second".to_owned(), format!("{rate:.0}")));
    let verdict = drain(site, GATEWAY, &facts)?;
    lines.push(line_s("all in the control plane", begun.elapsed()));
    Ok(Sent { machine, lines, facts, verdict })
}

fn wait_acked(path: &Path, count: usize, device: &JoinHandle<Result<Duration>>) -> Result<()> {
    wait_for(PATIENCE * 2, &format!("{count} messages to be acked"), || {
        std::thread::sleep(Duration::from_millis(100));
        let facts = ledger::read_so_far(path)?;
        let acked = facts.iter().filter(|fact| matches!(fact, Fact::Acked { .. })).count();
        ensure!(acked >= count || !device.is_finished(), "the device ended before the cut");
        Ok((acked >= count).then_some(()))
    })
}

fn trials(options: &Options, hardware: &Hardware) -> Result<()> {
    let timed = |what: &str, trial: &dyn Fn() -> Result<()>| {
        println!("{what}");
        let begun = Instant::now();
        trial()?;
        Ok::<_, anyhow::Error>(begun.elapsed().as_secs_f64())
    };
    let s =
        timed("a system that is well, in the other slot, while the agent is on trial", &|| {
            slots::good(hardware)
        })?;
    println!("  the gateway kept both, the agent first: {s:.0} s");
    let s = timed("an initramfs of the good slot with bad blocks", &|| {
        slots::worn_initramfs(hardware)
    })?;
    println!("  the other slot took over: {s:.0} s");
    let s = timed("a root of the good slot with bad blocks", &|| slots::worn_root(hardware))?;
    println!("  the other slot took over: {s:.0} s");
    let s = timed("a system that does not boot, in the other slot", &|| slots::bad(hardware))?;
    println!("  the gateway came back from it by itself: {s:.0} s");
    let s = timed("a system that hangs, in the other slot", &|| {
        slots::hanging(hardware, &options.basis.parts, &options.basis.dir)
    })?;
    println!("  the watchdog ended it, and the gateway came back: {s:.0} s");
    Ok(())
}

/// Prints a table and a verdict; a verdict with problems is an error.
fn print(table: &[Line], verdict: &Verdict) -> Result<()> {
    println!();
    print_lines(table);
    println!(
        "  {} sent, {} of them again; {} acked; {} done, {} dead letters",
        verdict.sent, verdict.resent, verdict.acked, verdict.done, verdict.dead
    );
    for problem in &verdict.problems {
        println!("  PROBLEM {problem}");
    }
    if !verdict.problems.is_empty() {
        bail!("{} problem(s), listed above", verdict.problems.len());
    }
    Ok(())
}

/// Names and values below each other.
pub(crate) fn print_lines(lines: &[Line]) {
    for (name, value) in lines {
        println!("  {name:<50}{value:>14}");
    }
}
