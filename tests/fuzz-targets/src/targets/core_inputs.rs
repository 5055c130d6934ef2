//! The decision core under any order of messages, outcomes, receipts, swaps and time; outcomes hold
//! whatever a function may return.
//!
//! What must hold: no panic; every delivery is settled at most once; attempts in work, dead letters
//! and the outbox stay within their bounds, jobs too but for what outcomes add; an outcome that
//! names no running attempt does nothing; a lane has one attempt at a time; a batch is within its
//! bounds, in order, of one trigger and, with order, of one lane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use edge_core::core::{Core, Settings};
use edge_core::effect::{Attempt, Effect, Work};
use edge_core::id::{
    AttemptId, DeliveryId, DeviceId, Digest, Epoch, FunctionId, JobId, RecordSeq, StreamId,
    TriggerId,
};
use edge_core::input::{Input, Patience};
use edge_core::limits::Limits;
use edge_core::message::{Message, Origin, PROPERTY_BOOT_ID, PROPERTY_SEQUENCE, Properties, QoS};
use edge_core::op::CoreOp;
use edge_core::release::{
    BatchPolicy, Durability, FunctionSpec, PausePolicy, ProbationPolicy, Release, RetryPolicy,
    StateScope, TriggerSource, TriggerSpec, WhenFull,
};
use edge_core::time::{Millis, Now, WallTime};
use edge_core::topic::TopicFilter;

use crate::bytes_reader::BytesReader;

mod outcomes;

use outcomes::{outcome, topic};

/// Attempts in work at once.
const SLOTS: u16 = 3;
/// What one outcome of this target publishes at most.
const PUBLISHES_MAX: u32 = 9;

pub(super) fn run(bytes: &[u8]) {
    let mut reader = BytesReader::new(bytes);
    let mut world = World::new(reader.byte());
    while !reader.is_empty() {
        world.step(&mut reader);
        world.check();
    }
}

struct World {
    core: Core,
    limits: Limits,
    now: Now,
    deliveries: u64,
    open: BTreeSet<DeliveryId>,
    running: BTreeMap<AttemptId, Attempt>,
    revision: u8,
    /// Of the revision that is live.
    batch: BatchPolicy,
}

fn limits() -> Limits {
    Limits {
        queue_jobs_max: 16,
        queue_bytes_max: 16 << 10,
        held_max: 4,
        dead_letters_max: 4,
        devices_max: 2,
        outbox_bytes_max: 4 << 10,
        ..Limits::default()
    }
}

impl World {
    fn new(policy: u8) -> Self {
        let settings = Settings {
            limits: limits(),
            epoch: Epoch(1),
            worker_slots: SLOTS,
            first_attempt: 1,
            safe_mode: false,
        };
        let mut world = Self {
            core: Core::new(settings),
            limits: limits(),
            now: Now { at: Millis(1_000), wall: WallTime::default() },
            deliveries: 0,
            open: BTreeSet::new(),
            running: BTreeMap::new(),
            revision: policy,
            batch: BatchPolicy::default(),
        };
        world.activate(false);
        world.tell(Input::Started);
        world
    }

    fn step(&mut self, reader: &mut BytesReader<'_>) {
        match reader.byte() % 12 {
            0..=2 => self.deliver(reader),
            3..=6 => self.finish(reader),
            7 => {
                self.now.at = self.now.at + Millis(u64::from(reader.u16()) * 8);
                self.tell(Input::Tick);
            }
            8 => {
                let stream = StreamId(reader.byte() % 4);
                let seq = RecordSeq(u64::from(reader.byte()));
                self.tell(if reader.byte().is_multiple_of(8) {
                    Input::GoOnAfter { stream, seq }
                } else {
                    Input::Receipt { stream, seq }
                });
            }
            9 => {
                let body = Bytes::copy_from_slice(reader.take(8));
                self.tell(Input::Report { stream: StreamId(reader.byte() % 4), body });
            }
            10 => self.tell(Input::Quiesce { app: "a".to_owned() }),
            _ => self.tell(Input::Resume { app: "a".to_owned() }),
        }
    }

    fn deliver(&mut self, reader: &mut BytesReader<'_>) {
        self.deliveries += 1;
        let delivery = DeliveryId(self.deliveries);
        self.open.insert(delivery);
        let how = reader.byte();
        let patience = if how & 1 == 0 { Patience::Holdable } else { Patience::Immediate };
        let device = DeviceId::new(["d", "e", "f"][usize::from(how >> 1) % 3]);
        let mut properties = Properties::default();
        if how & 0x80 != 0 {
            let sequence = reader.byte().to_string();
            properties.user.push((PROPERTY_BOOT_ID.to_owned(), "1".to_owned()));
            properties.user.push((PROPERTY_SEQUENCE.to_owned(), sequence));
        }
        let len = usize::from(reader.byte() % 16);
        let message = Message {
            topic: topic(reader.byte()),
            payload: Bytes::copy_from_slice(reader.take(len)),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties,
            expiry_s: None,
            origin: Origin::Client { identity: device.clone(), client_id: "c".into() },
            device: Some(device),
            hops: 0,
            at: self.now.at,
            wall: self.now.wall,
        };
        self.tell(Input::Delivered { delivery, message: Arc::new(message), patience });
    }

    fn finish(&mut self, reader: &mut BytesReader<'_>) {
        let nth = usize::from(reader.byte());
        let outcome = outcome(reader);
        let Some((&id, _)) = self.running.iter().nth(nth % usize::from(SLOTS)) else {
            // Nobody runs under these numbers: nothing of it may count.
            let (job, attempt) = (JobId(nth as u64), AttemptId(u64::MAX));
            let effects = self.handle(Input::Finished { job, attempt, outcome, ran_us: 1 });
            let writes = effects.iter().any(|effect| {
                matches!(effect, Effect::Op(CoreOp::PutState { .. } | CoreOp::FinishJob { .. }, _))
            });
            return assert!(!writes, "an outcome of nobody counted");
        };
        let attempt = self.running.remove(&id).expect("it was just there");
        let ran_us = u64::from(reader.u16());
        self.tell(Input::Finished { job: attempt.job(), attempt: id, outcome, ran_us });
    }

    /// Another revision goes live; the app is quiet.
    fn activate(&mut self, probation: bool) {
        self.revision = self.revision.wrapping_add(1);
        self.batch = batch_policy(self.revision);
        let release = Arc::new(release(self.revision));
        let probation = probation.then(ProbationPolicy::default);
        self.tell(Input::Activate { release, probation });
    }

    fn tell(&mut self, input: Input) {
        drop(self.handle(input));
    }

    fn handle(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.handle(input, self.now, &mut effects);
        let mut quiet = false;
        for effect in &effects {
            match effect {
                Effect::Settle { delivery, .. } => {
                    assert!(self.open.remove(delivery), "{delivery:?} was settled before");
                }
                Effect::Start(attempt) => {
                    let lane = |other: &Attempt| {
                        (other.function == attempt.function) && (other.lane == attempt.lane)
                    };
                    let ordered = attempt.state != StateScope::None;
                    assert!(!(ordered && self.running.values().any(lane)), "two in one lane");
                    check_work(&attempt.work, self.batch);
                    self.running.insert(attempt.attempt, (**attempt).clone());
                }
                Effect::Quiesced { .. } => quiet = true,
                Effect::ProbationFailed { .. } => quiet |= self.running.is_empty(),
                _ => {}
            }
        }
        if quiet && self.running.is_empty() {
            self.activate(self.revision.is_multiple_of(2));
        }
        effects
    }

    fn check(&self) {
        let status = self.core.status(self.now);
        let excess = PUBLISHES_MAX * u32::from(SLOTS) * 64;
        assert!(status.jobs <= self.limits.queue_jobs_max + excess, "{status:?}");
        assert!(status.running <= SLOTS, "{status:?}");
        assert!(usize::from(status.running) == self.running.len(), "{status:?}");
        assert!(status.held <= self.limits.held_max, "{status:?}");
        assert!(status.dead_letters <= self.limits.dead_letters_max, "{status:?}");
        assert!(status.devices <= self.limits.devices_max, "{status:?}");
        let bytes: u64 = status.outbox.iter().map(|stream| stream.bytes).sum();
        assert!(bytes <= self.limits.outbox_bytes_max, "{status:?}");
        for stream in &status.outbox {
            assert!(stream.stored_to <= stream.newest, "{status:?}");
        }
    }
}

/// What a function is given is within the bounds of its trigger, and in order.
fn check_work(work: &Work, policy: BatchPolicy) {
    let members = work.members();
    let trigger = &work.first().event.trigger;
    assert_eq!(matches!(work, Work::Batch(_)), trigger.as_str() != "a/u", "{trigger:?}");
    assert!(members.iter().all(|member| member.event.trigger == *trigger), "{members:?}");
    assert!(members.windows(2).all(|pair| pair[0].job < pair[1].job), "{members:?}");
    assert!(members.len() <= policy.size_max.into(), "{members:?}");
    let bytes: usize = members.iter().map(|member| member.event.cost_bytes()).sum();
    assert!(members.len() == 1 || bytes <= policy.bytes_max as usize, "{members:?}");
}

/// How the events of a revision go together.
fn batch_policy(revision: u8) -> BatchPolicy {
    BatchPolicy {
        size_max: u16::from(revision % 3) + 1,
        window_ms: u32::from(revision & 0x10 != 0) * 1_000,
        bytes_max: 700,
        bisect: revision & 0x08 == 0,
    }
}

fn release(revision: u8) -> Release {
    let policies =
        [WhenFull::Hold, WhenFull::ShedNewest, WhenFull::ShedOldest, WhenFull::LatestPerKey];
    let scopes = [StateScope::Device, StateScope::Function, StateScope::None];
    let function = |name: &str, at: usize| FunctionSpec {
        id: FunctionId::new(name),
        state: scopes[(usize::from(revision) + at) % 3],
        state_version: 1,
        concurrency: 2,
        when_full: policies[(usize::from(revision) + at) % 4],
        ordered: (revision & 0x40 != 0).then(|| "topic".parse().expect("an order")),
        reserved: u16::from(revision & 0x20 != 0),
        pause: PausePolicy { after: 3, ..PausePolicy::default() },
    };
    let trigger = |name: &str, function: &str, filter: &str, batch: bool| TriggerSpec {
        id: TriggerId::new(name),
        function: FunctionId::new(function),
        source: TriggerSource::Mqtt { filters: vec![TopicFilter::new(filter).expect("a filter")] },
        filter: None,
        batch: batch.then(|| batch_policy(revision)),
        on_success: None,
        on_failure: None,
        retry: RetryPolicy::default(),
        durability: Durability::Prompt,
    };
    Release {
        app: "a".to_owned(),
        revision: Digest([revision; 32]),
        functions: vec![function("a/one", 0), function("a/two", 1)],
        series: std::collections::BTreeMap::new(),
        triggers: vec![
            trigger("a/t", "a/one", "in/#", true),
            trigger("a/u", "a/two", "out", false),
            trigger("a/v", "a/two", "in", true),
        ],
    }
}
