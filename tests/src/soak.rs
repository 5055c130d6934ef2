//! A soak: real processes for a long time, with everything that happens to them in the field.
//!
//! One control plane and two gateways with the app `cold-chain`; devices that never stop sending,
//! lose their connections and come back; visitors that connect, say one thing and leave; good and bad
//! versions; cut links; SIGKILLs. Once a second memory, file descriptors, threads, disk and the ages
//! of queues are looked at. In the end nothing may be lost or done twice ([`crate::crash::judge`]),
//! and the curves of the last lives must be flat ([`flat`]).

mod cast;
mod chart;
mod flat;
mod report;
mod sample;
mod script;
mod visitor;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::interrupt::Interrupt;

use cast::Cast;
use sample::Sampler;

pub use report::Report;

/// Devices of each gateway.
const DEVICES: usize = 4;

/// What is soaked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is written; made if absent.
    pub dir: PathBuf,
    /// Chooses what happens when.
    pub seed: u64,
    /// How long the devices send.
    pub length: Duration,
    /// Readings a second of each device.
    pub rate_per_s: f64,
}

/// Soaks and judges; `tell` is given a line now and then.
///
/// # Errors
/// Something does not come up or to rest, or it is interrupted. What was found is in the report.
pub fn run(options: &Options, interrupt: &Interrupt, tell: &mut dyn FnMut(&str)) -> Result<Report> {
    std::fs::create_dir_all(&options.dir)?;
    tell("starting a control plane, two gateways and their devices");
    let mut cast = Cast::begin(options)?;
    let begun = Instant::now();
    let sampler = Sampler::start(cast.subjects()?, begun)?;
    let mut events = Vec::new();
    let mut told = Duration::ZERO;
    for step in script::write(options.length, options.seed) {
        wait_until(begun + step.at, interrupt)?;
        let what = cast.act(step.act).with_context(|| format!("{:?}", step.act))?;
        events.extend(what.map(|what| (begun.elapsed().as_secs_f64(), step.act, what)));
        if begun.elapsed() >= told + Duration::from_secs(60) {
            told = begun.elapsed();
            tell(&format!("  {:>5} s   {} events", told.as_secs(), events.len()));
        }
    }
    wait_until(begun + options.length, interrupt)?;
    tell("the devices stop; waiting until everything is worked off and stored upstream");
    cast.rest()?;
    let samples = sampler.finish()?;
    let seen = cast.finish()?;
    Ok(Report::of(options, begun, events, samples, &seen))
}

fn wait_until(due: Instant, interrupt: &Interrupt) -> Result<()> {
    const NAP: Duration = Duration::from_millis(200);
    loop {
        interrupt.check()?;
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(NAP));
    }
}
