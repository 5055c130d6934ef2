//! Builds the test functions once, and makes profiles and events for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use edge_agent::runtime::{
    Attempt, BuildOptions, Compiler, EngineSettings, FunctionProfile, Grants, Limits, MemoryState,
    Needs, Prepared, Report, Runtime, StateDomain, build_function,
};
use edge_core::effect::{Member, Work};
use edge_core::id::{DeviceId, Digest, Epoch, EventId, FunctionId, JobId, LaneKey, TriggerId};
use edge_core::message::Properties;
use edge_core::op::Event;
use edge_core::outcome::{Fault, Outcome, Outputs};
use edge_core::release::StateScope;
use edge_core::time::{ClockQuality, WallTime};
use edge_core::topic::TopicFilter;

pub(crate) fn functions_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/functions")
}

/// The component of an example in `tests/functions`.
pub(crate) fn component(example: &'static str) -> Arc<[u8]> {
    static BUILT: Mutex<BTreeMap<&'static str, Arc<[u8]>>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap();
    let build = || {
        let options = BuildOptions {
            example: Some(example.to_owned()),
            target_dir: Some(functions_dir().join("target")),
            ..BuildOptions::default()
        };
        Arc::from(build_function(&functions_dir(), &options).unwrap())
    };
    Arc::clone(built.entry(example).or_insert_with(build))
}

/// One runtime for all tests: each reserves address space and a thread.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let settings = EngineSettings { slots: 16, ..EngineSettings::default() };
        Runtime::new(settings, Compiler::InProcess, None).unwrap()
    })
}

/// A profile that grants what the test functions need, and not more.
pub(crate) fn profile(example: &str) -> FunctionProfile {
    let filters = ["echo/#", "count/+", "rogue/#", "batch/#"];
    FunctionProfile {
        function: FunctionId::new(&format!("app/{example}")),
        revision: Digest([1; 32]),
        state_version: 1,
        limits: Limits { time_ms: 500, ..Limits::default() },
        grants: Grants {
            publish: filters.map(|filter| TopicFilter::new(filter).unwrap()).to_vec(),
            record: ["count", "n", "done"].map(str::to_owned).to_vec(),
            state: StateScope::Device,
            config: BTreeMap::new(),
        },
        needs: Needs::default(),
    }
}

pub(crate) fn prepare(example: &'static str) -> Arc<Prepared> {
    prepare_with(example, |_| ())
}

pub(crate) fn prepare_with(
    example: &'static str,
    change: impl FnOnce(&mut FunctionProfile),
) -> Arc<Prepared> {
    let mut profile = profile(example);
    change(&mut profile);
    runtime().prepare(&component(example), profile).unwrap()
}

pub(crate) fn event(topic: &str, payload: &[u8]) -> Event {
    Event {
        id: EventId { epoch: Epoch(0xe), n: 7 },
        trigger: TriggerId::new("app/trigger"),
        topic: topic.to_owned(),
        payload: Bytes::copy_from_slice(payload),
        properties: Properties::default(),
        device: Some(DeviceId::new("m1")),
        message_id: None,
        time: WallTime { unix_ms: 1_000, quality: ClockQuality::Synced },
        hops: 0,
        maybe_repeat: false,
    }
}

pub(crate) fn lane() -> LaneKey {
    LaneKey::Device(DeviceId::new("m1"))
}

pub(crate) fn domain(prepared: &Prepared) -> StateDomain {
    StateDomain {
        function: prepared.profile().function.clone(),
        state_version: prepared.profile().state_version,
        lane: lane(),
    }
}

/// A first attempt on empty state.
pub(crate) fn run(prepared: &Prepared, topic: &str, payload: &[u8]) -> Report {
    run_on(prepared, &Arc::default(), topic, payload)
}

pub(crate) fn run_on(
    prepared: &Prepared,
    state: &Arc<MemoryState>,
    topic: &str,
    payload: &[u8],
) -> Report {
    let work = Work::One(member(event(topic, payload)));
    let view = Arc::clone(state);
    prepared.run(&Attempt { work, lane: lane(), state: view })
}

/// A first attempt at an event.
pub(crate) fn member(event: Event) -> Member {
    Member { job: JobId(0), tries: 1, event: Arc::new(event) }
}

#[track_caller]
pub(crate) fn outputs(report: Report) -> Outputs {
    match report.outcome {
        Outcome::Done(outputs) => outputs,
        other => panic!("not done: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn fault(report: Report) -> Fault {
    match report.outcome {
        Outcome::Fault(fault) => fault,
        other => panic!("no fault: {other:?}"),
    }
}
