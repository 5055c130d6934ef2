//! A small world around the core: a store that keeps what became durable, clients that wait for
//! acks, workers that do what they are told.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::*;
use crate::batch::{BatchLimits, OpenBatch};
use crate::effect::Attempt;
use crate::id::{AttemptId, DeliveryId, DeviceId, Digest, JobId, LaneKey};
use crate::input::{Crumb, Patience};
use crate::message::{Message, Origin, PROPERTY_BOOT_ID, PROPERTY_SEQUENCE, Properties, QoS};
use crate::op::{CoreOp, DeadLetter, OutboxRecord, StateKey};
use crate::outcome::{Fault, FaultKind, Outcome, Outputs, Publish, Record, StateChange};
use crate::release::{
    Durability, FunctionSpec, PausePolicy, ProbationPolicy, Release, RetryPolicy, StateScope,
    TriggerSource, WhenFull,
};
use crate::time::{ClockQuality, WallTime};
use crate::topic::{Topic, TopicFilter};

mod admission;
mod ages;
mod batches;
mod destinations;
mod filters;
mod lanes;
mod outcomes;
mod pauses;
mod releases;
mod restarts;
mod safe_mode;
mod serial;
mod sharing;
mod store;

use store::Store;

/// The core with everything around it.
struct World {
    settings: Settings,
    core: Core,
    at: u64,
    wall: WallTime,
    /// As applied: what attempts read.
    applied: Store,
    /// As durable: what a crash leaves.
    durable: Store,
    open: OpenBatch<CoreOp>,
    deliveries: u64,
    /// Answers that wait for the open batch.
    answers: Vec<(DeliveryId, Verdict)>,
    acked: BTreeMap<DeliveryId, Verdict>,
    running: BTreeMap<JobId, Attempt>,
    published: Vec<Arc<Message>>,
    events: Vec<CoreEvent>,
    /// Effects that are neither of the above.
    told: Vec<Effect>,
}

fn settings() -> Settings {
    let limits = Limits {
        queue_jobs_max: 80,
        queue_bytes_max: 1 << 20,
        dead_letters_max: 1_000,
        ..Limits::default()
    };
    Settings { limits, epoch: Epoch(1), worker_slots: 16, first_attempt: 1, safe_mode: false }
}

impl World {
    fn new(settings: Settings) -> Self {
        Self {
            core: Core::new(settings.clone()),
            settings,
            at: 1_000,
            wall: WallTime::default(),
            applied: Store::default(),
            durable: Store::default(),
            open: OpenBatch::new(BatchLimits::default()),
            deliveries: 0,
            answers: Vec::new(),
            acked: BTreeMap::new(),
            running: BTreeMap::new(),
            published: Vec::new(),
            events: Vec::new(),
            told: Vec::new(),
        }
    }

    /// A world in which these revisions are live.
    fn with(settings: Settings, releases: &[&Arc<Release>]) -> Self {
        let mut world = Self::new(settings);
        for release in releases {
            world.tell(Input::Activate { release: (*release).clone(), probation: None });
        }
        world.tell(Input::Started);
        world
    }

    fn now(&self) -> Now {
        Now { at: Millis(self.at), wall: self.wall }
    }

    /// One call of the core. Returns its effects; the world has taken them in.
    fn tell(&mut self, input: Input) -> Vec<Effect> {
        if let Input::Finished { job, attempt, .. } = &input
            && self.running.get(job).is_some_and(|running| running.attempt == *attempt)
        {
            self.running.remove(job);
            self.open.stopped(*job);
        }
        let mut out = Vec::new();
        self.core.handle(input, self.now(), &mut out);
        out.iter().for_each(|effect| self.take(effect));
        if let Some(deadline) = self.core.next_deadline() {
            assert!(deadline.0 > self.at, "what is due was done");
        }
        out
    }

    fn take(&mut self, effect: &Effect) {
        match effect {
            Effect::Op(op, pace) => {
                self.applied.apply(op);
                self.open.push(op.clone(), *pace, Millis(self.at));
            }
            Effect::Settle { delivery, verdict, .. } => {
                self.answers.push((*delivery, verdict.clone()));
            }
            Effect::Start(attempt) => {
                self.open.started(attempt.job());
                let twice = self.running.insert(attempt.job(), (**attempt).clone());
                assert!(twice.is_none(), "a job has one attempt at a time");
            }
            Effect::Publish(message, _) => self.published.push(message.clone()),
            Effect::Event(event) => self.events.push(event.clone()),
            other => self.told.push(other.clone()),
        }
    }

    /// The open batch becomes durable, and its acks go out.
    fn commit(&mut self) {
        self.open.seal(Millis(self.at)).ops.iter().for_each(|op| self.durable.apply(op));
        assert_eq!(self.durable, self.applied, "all that was applied is durable");
        self.acked.extend(self.answers.drain(..));
    }

    /// The process dies and starts again from what was durable.
    fn crash(&mut self) {
        self.settings.epoch = Epoch(self.settings.epoch.0 + 1);
        self.settings.first_attempt = self.core.next_attempt();
        self.core = Core::restore(self.settings.clone(), self.durable.rows());
        self.applied = self.durable.clone();
        self.open = OpenBatch::new(BatchLimits::default());
        self.answers.clear();
        self.running.clear();
    }

    fn deliver(&mut self, message: Message) -> DeliveryId {
        self.deliver_as(message, Patience::Holdable)
    }

    fn deliver_as(&mut self, message: Message, patience: Patience) -> DeliveryId {
        self.deliveries += 1;
        let delivery = DeliveryId(self.deliveries);
        self.tell(Input::Delivered { delivery, message: Arc::new(message), patience });
        delivery
    }

    fn finish(&mut self, job: JobId, outcome: Outcome) -> Vec<Effect> {
        let attempt = self.running[&job].attempt;
        self.tell(Input::Finished { job, attempt, outcome, ran_us: 1_000 })
    }

    /// The one running job.
    fn the_job(&self) -> JobId {
        assert_eq!(self.running.len(), 1, "{:?}", self.running);
        *self.running.keys().next().unwrap()
    }

    fn finish_the_job(&mut self, outcome: Outcome) -> Vec<Effect> {
        self.finish(self.the_job(), outcome)
    }

    fn pass(&mut self, ms: u64) -> Vec<Effect> {
        self.at += ms;
        self.wall.unix_ms += ms;
        self.tell(Input::Tick)
    }

    /// Ticks at each deadline up to a time.
    fn pass_with_deadlines(&mut self, ms: u64) {
        let end = self.at + ms;
        while let Some(deadline) = self.core.next_deadline().filter(|d| d.0 <= end) {
            self.pass(deadline.0 - self.at);
        }
        self.pass(end - self.at);
    }

    /// The answer to a delivery, once it is given.
    fn answer(&self, delivery: DeliveryId) -> Option<Verdict> {
        let mut answers = self.answers.iter().filter(|(d, _)| *d == delivery);
        let found = answers.next().map(|(_, verdict)| verdict.clone());
        assert!(answers.next().is_none(), "a delivery is answered once");
        found.or_else(|| self.acked.get(&delivery).cloned())
    }

    /// Reasons of the dead letters, in order of their events.
    fn letters(&self) -> Vec<crate::op::DeadReason> {
        self.applied.letters.values().map(|letter| letter.reason).collect()
    }

    fn saw(&self, wanted: impl Fn(&CoreEvent) -> bool) -> usize {
        self.events.iter().filter(|event| wanted(event)).count()
    }
}

/// What a worker leaves behind when the process dies during an attempt.
fn crumb(attempt: &Attempt, alone: bool) -> Crumb {
    Crumb {
        job: attempt.job(),
        event: attempt.work.first().event.id,
        run: attempt.run,
        function: attempt.function.clone(),
        likeness: attempt.work.first().event.likeness(),
        alone,
        batched: attempt.work.members().len() > 1,
    }
}

fn message(topic: &str, device: &str, payload: &str) -> Message {
    Message {
        topic: Topic::new(topic).unwrap(),
        payload: Bytes::from(payload.to_owned()),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties::default(),
        expiry_s: None,
        origin: Origin::Client { identity: DeviceId::new(device), client_id: device.to_owned() },
        device: Some(DeviceId::new(device)),
        hops: 0,
        at: Millis(0),
        wall: WallTime::default(),
    }
}

/// With a message id.
fn numbered(topic: &str, device: &str, seq: u64) -> Message {
    let mut message = message(topic, device, &seq.to_string());
    message.properties.user = vec![
        (PROPERTY_BOOT_ID.to_owned(), "b007".to_owned()),
        (PROPERTY_SEQUENCE.to_owned(), seq.to_string()),
    ];
    message
}

fn function(name: &str) -> FunctionSpec {
    FunctionSpec {
        id: FunctionId::new(name),
        state: StateScope::Device,
        state_version: 1,
        concurrency: 4,
        when_full: WhenFull::Hold,
        ordered: None,
        reserved: 0,
        pause: PausePolicy::default(),
    }
}

/// By what its events are ordered.
fn ordered(spec: FunctionSpec, by: &str) -> FunctionSpec {
    FunctionSpec { ordered: Some(by.parse().unwrap()), ..spec }
}

/// `app/trigger` wakes `app/function` on `filter`.
fn trigger(name: &str, function: &str, filter: &str) -> TriggerSpec {
    TriggerSpec {
        id: TriggerId::new(name),
        function: FunctionId::new(function),
        source: TriggerSource::Mqtt { filters: vec![TopicFilter::new(filter).unwrap()] },
        filter: None,
        batch: None,
        on_success: None,
        on_failure: None,
        retry: RetryPolicy::default(),
        durability: Durability::Prompt,
    }
}

fn release(revision: u8, functions: Vec<FunctionSpec>, triggers: Vec<TriggerSpec>) -> Arc<Release> {
    let app = functions[0].id.app().to_owned();
    let (revision, series) = (Digest([revision; 32]), BTreeMap::new());
    Arc::new(Release { app, revision, functions, triggers, series })
}

/// One function `a/f` on `in/#` that is paused after so many events that fault.
fn pausing(after: u16) -> Arc<Release> {
    let spec =
        FunctionSpec { pause: PausePolicy { after, ..PausePolicy::default() }, ..function("a/f") };
    release(1, vec![spec], vec![trigger("a/t", "a/f", "in/#")])
}

/// One function `a/f` on `in/#`.
fn simple() -> Arc<Release> {
    release(1, vec![function("a/f")], vec![trigger("a/t", "a/f", "in/#")])
}

fn done() -> Outcome {
    Outcome::Done(Outputs::default())
}

fn publishes(topics: &[&str]) -> Outcome {
    let publish = |topic: &&str| Publish {
        topic: Topic::new(topic).unwrap(),
        payload: Bytes::from_static(b"out"),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties::default(),
    };
    Outcome::Done(Outputs { publishes: topics.iter().map(publish).collect(), ..Outputs::default() })
}

fn puts(key: &str, value: &str) -> Outcome {
    let value = Some(Bytes::from(value.to_owned()));
    let state = vec![StateChange { key: key.to_owned(), value }];
    Outcome::Done(Outputs { state, ..Outputs::default() })
}

fn trap() -> Outcome {
    Outcome::Fault(Fault { kind: FaultKind::Trap, message: "unreachable".to_owned() })
}
