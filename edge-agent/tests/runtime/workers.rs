//! The pool: every invocation ends in one completion, whatever happens.

use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edge_agent::runtime::{
    Breadcrumbs, Compiler, Completion, EngineSettings, Invocation, MemoryState, Prepared, Runtime,
    StateDomain, StateView, Workers,
};
use edge_core::effect::{Member, Work};
use edge_core::id::{AttemptId, FunctionId, JobId};
use edge_core::op::StateKey;
use edge_core::outcome::{FaultKind, Outcome};

use super::harness::{component, event, lane, member, prepare, prepare_with, profile};

const STACK: usize = 256 << 10;
const LONG: Duration = Duration::from_secs(30);

fn pool(count: usize, breadcrumbs: Option<Breadcrumbs>) -> (Workers, Receiver<Completion>) {
    let (done, completions) = mpsc::channel();
    let workers = Workers::spawn(count, STACK, breadcrumbs, None, move |completion| {
        let _ = done.send(completion);
    });
    (workers.unwrap(), completions)
}

fn invocation(job: u64, prepared: &Arc<Prepared>, topic: &str) -> Invocation {
    Invocation {
        attempt: AttemptId(job),
        run: 1,
        prepared: prepared.clone(),
        work: Work::One(Member { job: JobId(job), ..member(event(topic, b"")) }),
        lane: lane(),
        state: Arc::<MemoryState>::default(),
    }
}

#[test]
fn every_invocation_ends_in_one_completion() {
    let (workers, completions) = pool(3, None);
    let counter = prepare("counter");
    let mut jobs = Vec::new();
    for job in 0..200 {
        let mut next = invocation(job, &counter, "t");
        while let Err(back) = workers.submit(next) {
            next = *back;
            jobs.push(completions.recv_timeout(LONG).unwrap().job.0);
        }
    }
    while jobs.len() < 200 {
        jobs.push(completions.recv_timeout(LONG).unwrap().job.0);
    }
    jobs.sort_unstable();
    assert!(jobs.into_iter().eq(0..200));
}

#[test]
fn a_full_pool_hands_back() {
    let (workers, completions) = pool(2, None);
    let rogue = prepare("rogue");
    let accepted = (0..6).filter(|job| workers.submit(invocation(*job, &rogue, "loop")).is_ok());
    let accepted = accepted.count();
    // Two may have been taken from the queue already.
    assert!((2..=4).contains(&accepted), "{accepted}");
    for _ in 0..accepted {
        let completion = completions.recv_timeout(LONG).unwrap();
        let Outcome::Fault(fault) = completion.outcome else { panic!("no fault") };
        assert_eq!(fault.kind, FaultKind::Timeout);
    }
}

#[test]
fn stopping_drops_what_was_not_started() {
    let (workers, completions) = pool(1, None);
    let rogue = prepare_with("rogue", |profile| profile.limits.time_ms = 3_000);
    workers.submit(invocation(1, &rogue, "loop")).map_err(|_| "full").unwrap();
    // There is room for the second when the first is in work.
    while workers.submit(invocation(2, &rogue, "fine")).is_err() {
        std::thread::yield_now();
    }
    workers.stop();
    let ended: Vec<u64> = completions.iter().map(|completion| completion.job.0).collect();
    assert_eq!(ended, [1]);
}

/// An attempt may have minutes left: a stop that cannot wait ends it, and leaves no breadcrumb.
#[test]
fn stopping_now_ends_what_loops() {
    let dir = tempfile::tempdir().unwrap();
    let breadcrumbs = Breadcrumbs::open(dir.path()).unwrap();
    let (workers, completions) = pool(1, Some(breadcrumbs));
    let settings = EngineSettings { slots: 2, ..EngineSettings::default() };
    // One of its own: what ends here are all attempts of a runtime.
    let runtime = Runtime::new(settings, Compiler::InProcess, None).unwrap();
    let mut patient = profile("rogue");
    patient.limits.time_ms = sync_protocol::limits::TIME_MS_MAX;
    let rogue = runtime.prepare(&component("rogue"), patient).unwrap();
    workers.submit(invocation(1, &rogue, "loop")).map_err(|_| "full").unwrap();
    // There is room for the second when the first is in work.
    while workers.submit(invocation(2, &rogue, "loop")).is_err() {
        std::thread::yield_now();
    }
    let since = Instant::now();
    workers.stop_now(&runtime);
    assert!(since.elapsed() < LONG, "{:?}", since.elapsed());
    let ended: Vec<Completion> = completions.iter().collect();
    let [Completion { job: JobId(1), outcome: Outcome::Fault(fault), .. }] = &ended[..] else {
        panic!("{ended:?}")
    };
    assert_eq!(fault.kind, FaultKind::Timeout);
    assert_eq!(Breadcrumbs::open(dir.path()).unwrap().left(), []);
}

enum Broken {
    Panics,
    Fails,
}

impl StateView for Broken {
    fn get(&self, _key: &StateKey) -> io::Result<Option<Bytes>> {
        match self {
            Self::Panics => panic!("the store has a fault"),
            Self::Fails => Err(io::Error::other("the card is gone")),
        }
    }

    fn scan(
        &self,
        _domain: &StateDomain,
        _prefix: &str,
        _after: Option<&str>,
        _limit: usize,
    ) -> io::Result<Vec<(String, Bytes)>> {
        self.get(&StateKey {
            function: FunctionId::new(""),
            state_version: 0,
            lane: lane(),
            key: String::new(),
        })?;
        Ok(Vec::new())
    }

    fn used_bytes(&self, _function: &FunctionId, _state_version: u32) -> u64 {
        0
    }
}

#[test]
fn faults_of_the_host_are_values_too() {
    let (workers, completions) = pool(1, None);
    let counter = prepare("counter");
    let cases = [
        (Broken::Panics, "the gateway failed while running the function: the store has a fault"),
        (Broken::Fails, "the gateway could not read the state: the card is gone"),
    ];
    for (state, words) in cases {
        let invocation = Invocation { state: Arc::new(state), ..invocation(1, &counter, "t") };
        workers.submit(invocation).map_err(|_| "full").unwrap();
        let completion = completions.recv_timeout(LONG).unwrap();
        let Outcome::Fault(fault) = completion.outcome else { panic!("no fault") };
        assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Host, words));
    }
    // The worker lives on.
    workers.submit(invocation(2, &counter, "t")).map_err(|_| "full").unwrap();
    let completion = completions.recv_timeout(LONG).unwrap();
    assert!(matches!(completion.outcome, Outcome::Done(_)));
}

#[test]
fn a_crash_of_the_process_names_what_was_in_work() {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--quiet", "workers::crashes_while_a_function_runs"])
        .env("HOLM_TEST_DIR", dir.path())
        .status()
        .unwrap();
    assert!(!status.success());
    let crumbs = Breadcrumbs::open(dir.path()).unwrap();
    let crashed = crumbs.left();
    let [crashed] = crashed.as_slice() else { panic!("{crashed:?}") };
    assert_eq!((crashed.job, crashed.run), (JobId(42), 1));
    assert_eq!(crashed.function.as_str(), "app/rogue");
    assert_eq!(crashed.event, event("loop", b"").id);
    crumbs.settle().unwrap();
    assert_eq!(Breadcrumbs::open(dir.path()).unwrap().left(), []);
}

#[test]
#[ignore = "run by the test above; it aborts"]
fn crashes_while_a_function_runs() {
    let dir = std::env::var_os("HOLM_TEST_DIR").unwrap();
    let breadcrumbs = Breadcrumbs::open(dir.as_ref()).unwrap();
    let (workers, completions) = pool(2, Some(breadcrumbs));
    let rogue = prepare_with("rogue", |profile| profile.limits.time_ms = 60_000);
    workers.submit(invocation(41, &rogue, "fine")).map_err(|_| "full").unwrap();
    completions.recv_timeout(LONG).unwrap();
    workers.submit(invocation(42, &rogue, "loop")).map_err(|_| "full").unwrap();
    // It never completes, so that all that can be seen is the crumb itself.
    std::thread::sleep(Duration::from_millis(200));
    std::process::abort();
}

/// Three functions that loop on as many workers must not keep a quiet one waiting.
#[test]
fn a_quiet_function_is_quick_beside_loops() {
    let (workers, completions) = pool(8, None);
    let rogue = prepare_with("rogue", |profile| profile.limits.time_ms = 3_000);
    let echo = prepare("echo");
    for job in 0..3 {
        workers.submit(invocation(job, &rogue, "loop")).map_err(|_| "full").unwrap();
    }
    let mut waits: Vec<Duration> = Vec::new();
    for job in 100..300 {
        let started = Instant::now();
        workers.submit(invocation(job, &echo, "t")).map_err(|_| "full").unwrap();
        let completion = completions.recv_timeout(LONG).unwrap();
        if completion.job == JobId(job) {
            waits.push(started.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    println!("quiet function beside 3 loops: median {:?}, p99 {p99:?}", waits[waits.len() / 2]);
    assert!(waits.len() >= 190);
    assert!(p99 < Duration::from_millis(500), "{p99:?}");
}

/// The nice value of the thread of that name, or of this process's first thread.
fn niceness(thread: Option<&str>) -> i32 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let first = format!("{} ", std::process::id());
    let wanted = |stat: &String| match thread {
        Some(name) => stat.contains(&format!("({name})")),
        None => stat.starts_with(&first),
    };
    let stat = stats.into_iter().find(wanted).unwrap();
    // Field 19, counted from 1; the name in parentheses is field 2.
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(16).unwrap().parse().unwrap()
}

#[test]
fn workers_give_way_to_the_loop() {
    // A name of its own among the pools of other tests: the last worker of the largest.
    let (workers, completions) = pool(12, None);
    let echo = prepare("echo");
    for job in 0..12 {
        workers.submit(invocation(job, &echo, "t")).map_err(|_| "full").unwrap();
    }
    for _ in 0..12 {
        completions.recv_timeout(LONG).unwrap();
    }
    let expected = (niceness(None) + 5).min(19);
    let started = Instant::now();
    while niceness(Some("function-11")) != expected {
        assert!(started.elapsed() < LONG, "{}", niceness(Some("function-11")));
    }
}
