//! What an attempt costs; run with `--ignored --nocapture`.

use std::fs;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use edge_agent::runtime::{
    Breadcrumbs, Compiler, EngineSettings, Invocation, MemoryState, Prepared, Runtime, Workers,
};
use edge_core::effect::{Member, Work};
use edge_core::id::{AttemptId, JobId};

use super::harness::{component, event, lane, member, profile, run};

const ATTEMPTS: usize = 20_000;

fn percentiles(mut samples: Vec<Duration>) -> String {
    samples.sort_unstable();
    let at = |per_mille: usize| samples[samples.len() * per_mille / 1_000].as_nanos();
    let us = |ns: u128| format!("{}.{}", ns / 1_000, ns % 1_000 / 100);
    format!("median {} us, p99 {} us", us(at(500)), us(at(990)))
}

fn invoke_directly(prepared: &Prepared) -> Vec<Duration> {
    (0..ATTEMPTS)
        .map(|_| {
            let started = Instant::now();
            let report = run(prepared, "t", &[1; 200]);
            let took = started.elapsed();
            drop(report);
            took
        })
        .collect()
}

/// From submitting to the completion in another thread's hands, one at a time.
fn invoke_through_workers(prepared: &Arc<Prepared>, crumbs: Option<Breadcrumbs>) -> Vec<Duration> {
    let (done, completions) = mpsc::sync_channel(1);
    let workers = Workers::spawn(1, 256 << 10, crumbs, None, move |completion| {
        let _ = done.send(completion);
    });
    let workers = workers.unwrap();
    (0..ATTEMPTS)
        .map(|n| {
            let invocation = Invocation {
                attempt: AttemptId(n as u64),
                run: 1,
                prepared: prepared.clone(),
                work: Work::One(Member { job: JobId(n as u64), ..member(event("t", &[1; 200])) }),
                lane: lane(),
                state: Arc::<MemoryState>::default(),
            };
            let started = Instant::now();
            workers.submit(invocation).map_err(|_| "full").unwrap();
            completions.recv().unwrap();
            started.elapsed()
        })
        .collect()
}

#[test]
#[ignore = "a measurement"]
fn attempts() {
    for (keep_resident_kib, pagemap_scan) in [(0, false), (128, false), (128, true)] {
        let settings = EngineSettings {
            slots: 8,
            keep_resident_bytes: keep_resident_kib << 10,
            pagemap_scan,
            ..EngineSettings::default()
        };
        let runtime = Runtime::new(settings, Compiler::InProcess, None).unwrap();
        for example in ["echo", "counter"] {
            let prepared = runtime.prepare(&component(example), profile(example)).unwrap();
            let case =
                format!("{example}, keep {keep_resident_kib} KiB, pagemap_scan {pagemap_scan}");
            println!("{case}: direct {}", percentiles(invoke_directly(&prepared)));
            let waits = invoke_through_workers(&prepared, None);
            println!("{case}: workers {}", percentiles(waits));
            let dir = tempfile::tempdir().unwrap();
            let crumbs = Breadcrumbs::open(dir.path()).unwrap();
            let waits = invoke_through_workers(&prepared, Some(crumbs));
            println!("{case}: workers + breadcrumbs {}", percentiles(waits));
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn compiling_and_memory() {
    let memory = |when: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let lines = status.lines().filter(|l| l.starts_with("VmSize") || l.starts_with("VmRSS"));
        let pss = rollup.lines().filter(|l| l.starts_with("Pss:") || l.starts_with("Anonymous:"));
        println!("{when}: {}", lines.chain(pss).collect::<Vec<_>>().join(", "));
    };
    let dir = tempfile::tempdir().unwrap();
    let agent = env!("CARGO_BIN_EXE_edge-agent");
    memory("before");
    let settings = EngineSettings { slots: 8, ..EngineSettings::default() };
    let runtime = Runtime::new(settings, Compiler::child(agent.into()), Some(dir.path())).unwrap();
    memory("engine with 8 slots");
    for example in ["echo", "counter", "rogue"] {
        let bytes = component(example);
        let timed = |what: &str| {
            let started = Instant::now();
            let prepared = runtime.prepare(&bytes, profile(example)).unwrap();
            println!("{example} ({} KiB): {what} {:?}", bytes.len() >> 10, started.elapsed());
            prepared
        };
        timed("compiled in a child");
        let prepared = timed("from the cache");
        for _ in 0..1_000 {
            run(&prepared, "fine", b"");
        }
        memory("after 1,000 attempts");
    }
}
