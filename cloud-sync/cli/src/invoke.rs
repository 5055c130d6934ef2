//! `holm invoke`: runs one function here, in the gateway's own sandbox, on events from a file.
//!
//! # Invariants
//! - Limits and grants are those of `holm.toml`; nothing leaves this machine.
//! - An event that is not done changes no state, as on a gateway.
//! - Events of a trigger with `batch` that follow each other are one batch where a gateway that had
//!   them all waiting would make one of them.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use edge_agent::runtime::{
    Attempt, Compiler, EngineSettings, EventFile, FunctionProfile, Grants, Limits, MemoryState,
    Prepared, Runtime, StateDomain,
};
use edge_core::effect::{Member, Work};
use edge_core::id::{Digest, Epoch, EventId, JobId, LaneKey, TriggerId};
use edge_core::op::Event;
use edge_core::order;
use edge_core::outcome::StateChange;
use edge_core::release::StateScope;
use edge_core::topic::TopicFilter;
use sync_protocol::manifest;

use crate::app::{App, Function, Project};
use crate::args::Invoke;
use crate::build;
use crate::events;
use crate::failure::{Done, Exit, Failure};
use crate::out::Out;
use crate::state_file::StateFile;

mod ends;
mod gather;
mod print;

use ends::Ends;
use gather::gather;
use print::Shown;

const STATE_FILE_BYTES_MAX: u64 = 64 << 20;

/// `holm invoke`
///
/// # Errors
/// The app, the event or the state file has mistakes, the function does not build or is none, or
/// it did not return ok.
pub fn run(args: &Invoke, out: &Out) -> Done {
    let project = Project::open(&args.app)?;
    let name = &args.function;
    let function = project.app.functions.get(name).ok_or_else(|| {
        let names: Vec<_> = project.app.functions.keys().map(String::as_str).collect();
        let problem = format!("{} has no function `{name}`", project.file.display());
        Failure::new(Exit::NotFound, problem).next(format!("its functions: {}", names.join(", ")))
    })?;
    let events = events::read(&args.events, &project.dir)?;
    let mut session = Session::new(&project.app, name, function, args.state.as_deref())?;
    let component = if args.no_build {
        build::kept_component(&project, name)?
    } else {
        build::component(&project, name, function, out)?
    };
    let prepared = prepare(&project.app, name, function, &component)?;
    let mut failed = 0;
    let total = events.len();
    let numbered = events.into_iter().zip(1_u64..);
    let mut members = numbered
        .map(|(file, n)| session.member(file, n, out))
        .collect::<Done<VecDeque<Member>>>()?;
    while let Some(work) = session.next(&mut members) {
        failed += session.run(&prepared, work, out)?;
    }
    session.save()?;
    if failed == 0 {
        return Ok(());
    }
    let problem = format!("`{name}` did not return ok for {failed} of {total} events");
    Err(Failure::new(Exit::Function, problem))
}

fn prepare(app: &App, name: &str, function: &Function, component: &[u8]) -> Done<Arc<Prepared>> {
    let profile = FunctionProfile {
        function: app.function_id(name),
        revision: Digest([0; 32]),
        state_version: function.state_version,
        limits: limits(&function.limits),
        grants: grants(function)?,
        needs: app.needs(name),
    };
    let settings = EngineSettings {
        slots: 1,
        function_memory_bytes_max: function.limits.memory_bytes,
        ..EngineSettings::default()
    };
    let runtime = Runtime::new(settings, Compiler::InProcess, None)
        .map_err(|error| Failure::failed(error.to_string()))?;
    runtime
        .prepare(component, profile)
        .map_err(|error| Failure::input(format!("function `{name}` cannot be run: {error}")))
}

fn limits(limits: &manifest::Limits) -> Limits {
    Limits {
        memory_bytes: limits.memory_bytes,
        time_ms: limits.time_ms,
        stack_bytes: limits.stack_bytes,
        publishes: limits.publishes,
        publish_bytes: limits.publish_bytes,
        records: limits.records,
        record_bytes: limits.record_bytes,
        log_bytes: limits.log_bytes,
        state_write_bytes: limits.state_write_bytes,
        state_bytes: limits.state_bytes,
    }
}

fn scope(state: manifest::StateScope) -> StateScope {
    match state {
        manifest::StateScope::Device => StateScope::Device,
        manifest::StateScope::Function => StateScope::Function,
        manifest::StateScope::None => StateScope::None,
        manifest::StateScope::Lane => StateScope::Lane,
    }
}

fn grants(function: &Function) -> Done<Grants> {
    let publish: Result<Vec<TopicFilter>, _> =
        function.grants.publish.iter().map(|filter| TopicFilter::new(filter)).collect();
    Ok(Grants {
        publish: publish.map_err(|error| Failure::input(format!("`publish`: {error}")))?,
        record: function.grants.record.clone(),
        state: scope(function.state),
        config: function.config.clone(),
    })
}

/// Events one after the other, with the state between them.
struct Session<'a> {
    app: &'a App,
    name: &'a str,
    function: &'a Function,
    state: Arc<MemoryState>,
    file: Option<(&'a Path, StateFile)>,
}

impl<'a> Session<'a> {
    fn new(
        app: &'a App,
        name: &'a str,
        function: &'a Function,
        path: Option<&'a Path>,
    ) -> Done<Self> {
        let state = Arc::new(MemoryState::default());
        let mut session = Self { app, name, function, state, file: None };
        if let Some(path) = path {
            let file = session.load(path)?;
            for (device, key, value) in file.entries() {
                let change = StateChange { key: key.to_owned(), value: Some(value.into()) };
                let lane = order::named(function.lanes().as_ref(), Some(device));
                session.state.apply(&session.domain(lane), &[change]);
            }
            session.file = Some((path, file));
        }
        Ok(session)
    }

    fn load(&self, path: &Path) -> Done<StateFile> {
        let id = self.app.function_id(self.name);
        let version = self.function.state_version;
        if !path.exists() {
            return Ok(StateFile::new(id.as_str(), version));
        }
        let bytes = crate::failure::read_file(path, STATE_FILE_BYTES_MAX)?;
        let wrong = |why: String| Failure::input(format!("{}: {why}", path.display()));
        let file = StateFile::parse(&bytes).map_err(wrong)?;
        if file.function != id.as_str() {
            return Err(wrong(format!("holds the state of `{}`, not of `{id}`", file.function)));
        }
        if file.state_version != version {
            let found = file.state_version;
            let next = "on a gateway the function's `migrate` carries it over at deployment";
            return Err(
                wrong(format!("has state_version {found}, the function {version}")).next(next)
            );
        }
        Ok(file)
    }

    fn domain(&self, lane: LaneKey) -> StateDomain {
        StateDomain {
            function: self.app.function_id(self.name),
            state_version: self.function.state_version,
            lane,
        }
    }

    /// What a gateway would start next, if all events were waiting: the first, and behind it those
    /// that go into one batch with it.
    fn next(&self, waiting: &mut VecDeque<Member>) -> Option<Work> {
        let first = waiting.pop_front()?;
        let trigger = first.event.trigger.as_str().rsplit('/').next().unwrap_or_default();
        let Some(batch) = self.app.triggers.get(trigger).and_then(manifest::Trigger::batch) else {
            return Some(Work::One(first));
        };
        Some(Work::Batch(gather(first, waiting, batch, |first, next| self.is_of(first, next))))
    }

    /// Whether an event may be in the batch that begins with `first`.
    fn is_of(&self, first: &Member, next: &Member) -> bool {
        let in_order = self.function.lanes().is_some();
        next.event.trigger == first.event.trigger
            && (!in_order || self.lane(next) == self.lane(first))
    }

    fn lane(&self, member: &Member) -> LaneKey {
        order::lane(self.function.lanes().as_ref(), (&*member.event).into(), member.job)
    }

    /// Makes one attempt, and tells how many of its events are not done.
    fn run(&mut self, prepared: &Prepared, work: Work, out: &Out) -> Done<usize> {
        let lane = self.lane(work.first());
        let in_order = self.function.lanes().is_some();
        let domain = self.domain(lane.clone());
        let state = Arc::clone(&self.state);
        let attempt = Attempt { work, lane, state };
        let report = prepared.run(&attempt);
        let count = attempt.work.members().len();
        let ends = Ends::of(&report.outcome, count, in_order);
        for outputs in ends.effects(&report.outcome) {
            self.state.apply(&domain, &outputs.state);
        }
        if let Some((_, file)) = &mut self.file {
            let owner = domain.lane.name().unwrap_or_default();
            file.clear(owner);
            for (key, value) in self.state.entries(&domain) {
                file.put(owner, &key, &value);
            }
        }
        Shown { work: &attempt.work, report: &report, ends: &ends }.print(out)?;
        Ok(ends.not_done())
    }

    fn member(&self, file: EventFile, n: u64, out: &Out) -> Done<Member> {
        let tries = file.tries();
        let event = Arc::new(self.event(file, n, out)?);
        Ok(Member { job: JobId(n), tries, event })
    }

    /// The event as a gateway would make it.
    fn event(&self, file: EventFile, n: u64, out: &Out) -> Done<Event> {
        let mut event =
            file.into_event().map_err(|error| Failure::input(format!("event {n}: {error}")))?;
        event.id = EventId { epoch: Epoch(0), n };
        if event.trigger.as_str().is_empty() {
            let name = self.trigger(&event.topic).unwrap_or_else(|| {
                let wakes = format!("no trigger of `{}` matches `{}`", self.name, event.topic);
                out.note(&format!("{wakes}: a gateway would not run it"));
                String::new()
            });
            event.trigger = TriggerId::new(&format!("{}/{name}", self.app.name));
        }
        Ok(event)
    }

    /// The trigger that would wake the function: by topic, or a schedule where there is none.
    fn trigger(&self, topic: &str) -> Option<String> {
        let wakes = |trigger: &manifest::Trigger| match &trigger.source {
            manifest::Source::Mqtt(source) => {
                source.topics.iter().any(|filter| sync_protocol::filter::matches(filter, topic))
            }
            manifest::Source::Schedule(_) => topic.is_empty(),
        };
        self.app
            .triggers
            .iter()
            .find(|(_, trigger)| trigger.function == self.name && wakes(trigger))
            .map(|(name, _)| name.clone())
    }

    fn save(&self) -> Done {
        let Some((path, file)) = &self.file else { return Ok(()) };
        std::fs::write(path, file.to_text()).map_err(|error| Failure::file("write", path, &error))
    }
}
