//! `cargo xtask bench memory`: what an agent with one function holds of a machine's memory, at rest and
//! at work.
//!
//! The figure is the proportional set size of its one process, from `smaps_rollup`: the median of
//! samples, after a warm-up. It counts pages of the program as well, which the kernel takes back when
//! memory runs short; they are told apart.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::contender::Holm;
use super::load::{self, Pace};
use super::meter::{self, Memory};
use crate::author::{Author, fixture};

/// From one sample to the next.
const EVERY: Duration = Duration::from_secs(5);
/// Devices that send.
const CONNECTIONS: u16 = 100;
/// Unfinished messages of each.
const IN_FLIGHT: u16 = 50;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the agent keeps its data; empty.
    pub dir: PathBuf,
    /// The program.
    pub agent: PathBuf,
    /// How long nothing happens, before samples are taken.
    pub warm_up: Duration,
    /// How long samples are taken, at rest and at work.
    pub measured: Duration,
    /// Messages a second, of all devices together.
    pub rate: u32,
}

/// Samples of one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// How many.
    pub samples: usize,
    /// Each part the median of its own samples.
    pub median: Memory,
    /// The largest.
    pub most_kib: u64,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// With one function, and without messages.
    pub idle: Figure,
    /// With messages.
    pub busy: Figure,
    /// Messages a second that were finished.
    pub rate: u64,
}

/// Starts the agent, deploys a function, and measures.
///
/// # Errors
/// The agent does not do its part, or a message is lost.
pub fn measure(plan: &Plan) -> Result<Figures> {
    let author = Author::new(&plan.dir.join("author"))?;
    let bundle = author.build(&fixture("apps/pipeline"))?;
    let agent =
        Holm::start(&plan.dir.join("holm"), &plan.agent, author.key()?, &bundle, IN_FLIGHT)?;
    let pid = agent.pids()?[0];
    sleep(plan.warm_up);
    let idle = at_rest(pid, plan.measured)?;
    let (busy, rate) = at_work(&agent, pid, plan)?;
    agent.stop()?;
    Ok(Figures { idle, busy, rate })
}

fn at_rest(pid: u32, measured: Duration) -> Result<Figure> {
    let begun = Instant::now();
    let mut samples = Vec::new();
    while begun.elapsed() < measured {
        samples.push(meter::memory(pid)?);
        sleep(EVERY);
    }
    figure(&samples)
}

/// Memory while messages come, and how many a second were finished.
fn at_work(agent: &Holm, pid: u32, plan: &Plan) -> Result<(Figure, u64)> {
    let load = load::Plan {
        address: agent.address(),
        connections: CONNECTIONS,
        in_flight: IN_FLIGHT,
        pace: Pace::PerSecond(plan.rate),
        warm_up: plan.warm_up,
        measured: plan.measured,
        pids: vec![pid],
    };
    let begun = Instant::now();
    let (tell, told) = sync_channel(1);
    let sender = std::thread::Builder::new().name("load".into()).spawn(move || {
        // The receiver lives until the outcome has come.
        let _ = tell.send(load::run(&load));
    })?;
    let mut samples = Vec::new();
    let outcome = loop {
        match told.recv_timeout(EVERY) {
            Ok(outcome) => break outcome?,
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the load generator panicked"),
            Err(RecvTimeoutError::Timeout) => {
                let at = begun.elapsed();
                if at >= plan.warm_up && at < plan.warm_up + plan.measured {
                    samples.push(meter::memory(pid)?);
                }
            }
        }
    };
    // It has sent its last word.
    let _ = sender.join();
    let lost = outcome.judgement.lost.len();
    ensure!(lost == 0, "{lost} messages are lost");
    let window = u64::try_from(outcome.window.as_millis())?.max(1);
    Ok((figure(&samples)?, outcome.finished * 1_000 / window))
}

fn figure(samples: &[Memory]) -> Result<Figure> {
    let median = |part: fn(&Memory) -> u64| {
        let mut values: Vec<u64> = samples.iter().map(part).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().context("no sample: measure for longer")
    };
    Ok(Figure {
        samples: samples.len(),
        median: Memory {
            pss_kib: median(|sample| sample.pss_kib)?,
            own_kib: median(|sample| sample.own_kib)?,
            file_kib: median(|sample| sample.file_kib)?,
        },
        most_kib: samples.iter().map(|sample| sample.pss_kib).max().unwrap_or_default(),
    })
}

/// Whether two figures are within their bounds, in KiB; says which is not.
///
/// # Errors
/// One of them is over.
pub fn judge(figures: &Figures, idle_kib_max: u64, busy_kib_max: u64) -> Result<()> {
    let bounded = |name: &str, figure: &Figure, max: u64| {
        let Memory { pss_kib, own_kib, file_kib } = figure.median;
        ensure!(
            pss_kib <= max,
            "{name}: {pss_kib} KiB are over the budget of {max} ({own_kib} of its own, {file_kib} of the program)"
        );
        Ok(())
    };
    bounded("idle", &figures.idle, idle_kib_max)?;
    bounded("busy", &figures.busy, busy_kib_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(pss_kib: u64) -> Memory {
        Memory { pss_kib, own_kib: 1, file_kib: pss_kib - 1 }
    }

    #[test]
    fn a_peak_is_told_and_is_not_the_figure() {
        let figure = figure(&[sample(900), sample(7), sample(5)]).expect("three samples");
        assert_eq!(figure, Figure { samples: 3, median: sample(7), most_kib: 900 });
        assert!(super::figure(&[]).is_err());
    }

    #[test]
    fn each_state_has_its_budget() {
        let figure = |kib| Figure { samples: 1, median: sample(kib), most_kib: kib };
        let figures = Figures { idle: figure(10), busy: figure(15), rate: 1_000 };
        assert!(judge(&figures, 10, 15).is_ok());
        assert!(judge(&figures, 9, 15).expect_err("over").to_string().starts_with("idle: 10 KiB"));
        assert!(judge(&figures, 10, 14).expect_err("over").to_string().starts_with("busy: 15 KiB"));
    }
}
