//! Random lives of a gateway against a reference: what clients sent and were told, and a plain
//! serial run over it.
//!
//! The app: `f` keeps a log per device, records, and publishes to `g`, which keeps one log for
//! all; `h` has no state and sheds; `k` wants the latest of each device only; `m` is ordered by a
//! level of the topic, `p` by a property that device 3 does not send. `f` and `m` take batches in
//! order, `h` takes some without. Devices 0 to 2 number their messages, device 3 does not. The oracles are those of DESIGN, section 10, as far as the core
//! sees them: A1 to A6 and A11.

use proptest::prelude::*;

use super::*;
use crate::event::ShedReason;
use crate::op::Event;
use crate::outcome::{BatchOutputs, ItemFailure, ItemFailureKind, Segment};
use crate::release::BatchPolicy;

mod reference;

use reference::{Reference, Sent};

const DEVICES: u64 = 4;
const PLAIN: u64 = 3;

#[derive(Clone, Debug)]
enum Action {
    Deliver(u64),
    Finish(usize, Kind),
    Stale(usize),
    Pass(u64),
    Commit {
        acks_lost: bool,
    },
    /// A client comes back and sends again what it was not told of.
    Reconnect(u64),
    Crash {
        breadcrumbs: bool,
    },
    Receipt(u8, u64),
    Swap {
        bad: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Well,
    /// One event of a batch fails.
    Part,
    Trap,
    Retry,
    Reject,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let kind = prop_oneof![
        12 => Just(Kind::Well),
        3 => Just(Kind::Part),
        3 => Just(Kind::Trap),
        1 => Just(Kind::Retry),
        1 => Just(Kind::Reject),
    ];
    let pass = prop_oneof![Just(1), Just(2_000), Just(10_000), Just(61_000), Just(150_000)];
    let action = prop_oneof![
        20 => (0..DEVICES).prop_map(Action::Deliver),
        24 => (any::<usize>(), kind).prop_map(|(pick, kind)| Action::Finish(pick, kind)),
        1 => any::<usize>().prop_map(Action::Stale),
        3 => pass.prop_map(Action::Pass),
        6 => any::<bool>().prop_map(|acks_lost| Action::Commit { acks_lost }),
        1 => (0..DEVICES).prop_map(Action::Reconnect),
        1 => any::<bool>().prop_map(|breadcrumbs| Action::Crash { breadcrumbs }),
        1 => (0..3u8, 0..130u64).prop_map(|(stream, percent)| Action::Receipt(stream, percent)),
        1 => any::<bool>().prop_map(|bad| Action::Swap { bad }),
    ];
    prop::collection::vec(action, 1..250)
}

fn the_release(revision: u8) -> Arc<Release> {
    let spec = |name: &str, state, when_full, concurrency| FunctionSpec {
        state,
        when_full,
        concurrency,
        pause: PausePolicy { after: 4, ..PausePolicy::default() },
        ..function(name)
    };
    let functions = vec![
        spec("a/f", StateScope::Device, WhenFull::Hold, 2),
        spec("a/g", StateScope::Function, WhenFull::Hold, 2),
        spec("a/h", StateScope::None, WhenFull::ShedNewest, 1),
        spec("a/k", StateScope::Device, WhenFull::LatestPerKey, 1),
        ordered(spec("a/m", StateScope::Lane, WhenFull::Hold, 2), "topic[1]"),
        ordered(spec("a/p", StateScope::Lane, WhenFull::Hold, 2), "property.holm-boot-id"),
    ];
    let triggers = vec![
        batch(trigger("a/tf", "a/f", "in/#"), 3, 0),
        trigger("a/tg", "a/g", "mid/#"),
        batch(trigger("a/th", "a/h", "in/#"), 4, 2_000),
        trigger("a/tk", "a/k", "in/+"),
        batch(trigger("a/tm", "a/m", "in/+"), 4, 1_500),
        trigger("a/tp", "a/p", "in/+"),
    ];
    release(revision, functions, triggers)
}

fn batch(trigger: TriggerSpec, size_max: u16, window_ms: u32) -> TriggerSpec {
    let policy = BatchPolicy { size_max, window_ms, bytes_max: 10_000, bisect: true };
    TriggerSpec { batch: Some(policy), ..trigger }
}

/// A gateway's life: the world, what its ledger says, and the reference beside it.
struct Life {
    world: World,
    reference: Reference,
    live: Arc<Release>,
    on_probation: bool,
    bad: bool,
    swaps: u64,
}

impl Life {
    fn new() -> Self {
        let mut settings = settings();
        settings.limits = Limits {
            queue_jobs_max: 40,
            held_max: 6,
            dead_letters_max: 5,
            devices_max: 3,
            // No record is dropped: they tell the reference what was done.
            outbox_bytes_max: 1_000_000,
            ..Limits::default()
        };
        settings.worker_slots = 8;
        let live = the_release(1);
        let mut life = Self {
            world: World::with(settings, &[&live]),
            reference: Reference::new(),
            live,
            on_probation: false,
            bad: false,
            swaps: 0,
        };
        life.commit();
        life
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Deliver(device) => {
                let n = self.reference.next(*device);
                self.send(*device, n);
            }
            Action::Finish(pick, kind) => self.finish(*pick, *kind),
            Action::Stale(pick) => self.stale(*pick),
            Action::Pass(ms) => self.world.pass_with_deadlines(*ms),
            Action::Commit { acks_lost: false } => self.commit(),
            Action::Commit { acks_lost: true } => {
                self.world.answers.clear();
                self.commit();
            }
            Action::Reconnect(device) => self.send_again(|sent| sent.device == *device),
            Action::Crash { breadcrumbs } => self.crash(*breadcrumbs),
            Action::Receipt(stream, percent) => self.receipt(StreamId(*stream), *percent),
            Action::Swap { bad } => self.swap(*bad),
        }
        let passed = |effect: &Effect| matches!(effect, Effect::ProbationPassed { .. });
        if self.world.told.iter().any(passed) {
            self.on_probation = false;
            self.world.told.clear();
            self.commit(); // the ledger's row stands in the same batch
        }
        self.take_back_if_failed();
        self.check_bounds();
    }

    fn send(&mut self, device: u64, n: u64) {
        let (topic, name) = (format!("in/{device}"), format!("d{device}"));
        let message = if device == PLAIN {
            message(&topic, &name, &n.to_string())
        } else {
            numbered(&topic, &name, n)
        };
        let delivery = self.world.deliver(message);
        self.reference.sent(Sent { device, n }, delivery);
    }

    /// What the app's code makes of its events: from the applied state, as an attempt sees it.
    fn run(&self, attempt: &Attempt) -> Outcome {
        let key = StateKey {
            function: attempt.function.clone(),
            state_version: attempt.state_version,
            lane: attempt.lane.clone(),
            key: "log".to_owned(),
        };
        let mut log = self.world.applied.state.get(&key).cloned().unwrap_or_default();
        let outputs = attempt.work.members().iter().map(|m| work(attempt, &m.event, &mut log));
        match &attempt.work {
            Work::One(_) => Outcome::Done(outputs.last().unwrap()),
            Work::Batch(_) => {
                let segment = |(of, outputs)| Segment { of: Some(of), outputs };
                let segments = (0..).zip(outputs).map(segment).collect();
                Outcome::BatchDone(BatchOutputs { segments, failures: Vec::new() })
            }
        }
    }

    /// The same, but one event of the batch fails.
    fn run_in_part(&self, attempt: &Attempt, pick: usize) -> Outcome {
        let mut outcome = self.run(attempt);
        if let Outcome::BatchDone(outputs) = &mut outcome {
            let index = u16::try_from(pick % attempt.work.members().len()).unwrap();
            let kinds = [ItemFailureKind::Retry, ItemFailureKind::Reject];
            let kind = kinds[pick / 7 % 2];
            outputs.failures.push(ItemFailure { index, kind, reason: "not this one".into() });
        }
        outcome
    }

    fn finish(&mut self, pick: usize, kind: Kind) {
        let count = self.world.running.len();
        let Some(attempt) = self.world.running.values().nth(pick % count.max(1)).cloned() else {
            return;
        };
        let outcome = match kind {
            _ if self.bad => trap(),
            Kind::Well => self.run(&attempt),
            Kind::Part => self.run_in_part(&attempt, pick),
            Kind::Trap => trap(),
            Kind::Retry => Outcome::Retry { reason: "later".into() },
            Kind::Reject => Outcome::Reject { reason: "no".into() },
        };
        self.world.finish(attempt.job(), outcome);
    }

    /// A4: an outcome of an attempt that is not running writes nothing.
    fn stale(&mut self, pick: usize) {
        let job = JobId(pick as u64 % 50);
        let attempt = AttemptId(self.world.core.next_attempt() + 5);
        let before = self.world.applied.clone();
        self.world.tell(Input::Finished { job, attempt, outcome: puts("log", "stale"), ran_us: 0 });
        let same = |a: &Store, b: &Store| a.state == b.state && a.jobs == b.jobs;
        assert!(same(&before, &self.world.applied));
    }

    /// A1: an ack is heard only here, after the batch.
    fn commit(&mut self) {
        self.reference.becomes_durable(&self.world.open.clone().seal(Millis(self.world.at)).ops);
        self.world.commit();
        self.reference.hear(&self.world.acked);
    }

    fn crash(&mut self, breadcrumbs: bool) {
        // A batch does not begin before its rows are durable.
        let durable = &self.world.durable.jobs;
        let begun = |attempt: &&Attempt| match &attempt.work {
            Work::One(_) => true,
            Work::Batch(members) => members.iter().all(|member| durable.contains_key(&member.job)),
        };
        let crumbs: Vec<Attempt> = self.world.running.values().filter(begun).cloned().collect();
        self.world.crash();
        self.swaps += 1;
        let probation = self.on_probation.then(ProbationPolicy::default);
        self.world.tell(Input::Activate { release: self.live.clone(), probation });
        let alone = crumbs.len() == 1;
        for attempt in crumbs.iter().filter(|_| breadcrumbs) {
            self.world.tell(Input::Crashed(crumb(attempt, alone)));
        }
        self.world.tell(Input::Started);
        self.commit();
        self.send_again(|_| true);
    }

    fn send_again(&mut self, wanted: impl Fn(&Sent) -> bool) {
        for sent in self.reference.not_acked().into_iter().filter(wanted) {
            self.send(sent.device, sent.n);
        }
    }

    fn receipt(&mut self, stream: StreamId, percent: u64) {
        self.commit(); // what is not durable has not left the gateway
        let status = self.world.core.status(self.world.now());
        let newest = status.outbox[stream.rank()].newest.0;
        self.world.tell(Input::Receipt { stream, seq: RecordSeq(newest * percent / 100) });
    }

    fn swap(&mut self, bad: bool) {
        self.quiesce();
        if self.world.core.apps.has_failed("a") {
            return;
        }
        self.activate(the_release(self.live.revision.0[0] + 1), true);
        self.bad = bad;
    }

    fn take_back_if_failed(&mut self) {
        if self.world.core.apps.has_failed("a") {
            let spent: Vec<_> = self.world.applied.jobs.values().map(progress).collect();
            self.quiesce();
            let kept: Vec<_> = self.world.applied.jobs.values().map(progress).collect();
            assert_eq!(spent, kept, "taking back costs no event anything");
            self.activate(the_release(1), false);
        }
    }

    fn quiesce(&mut self) {
        self.world.told.clear();
        self.world.tell(Input::Quiesce { app: "a".into() });
        while let Some(attempt) = self.world.running.values().next().cloned() {
            let outcome = if self.bad { trap() } else { self.run(&attempt) };
            self.world.finish(attempt.job(), outcome);
        }
        assert!(self.world.told.contains(&Effect::Quiesced { app: "a".into() }));
    }

    fn activate(&mut self, release: Arc<Release>, on_probation: bool) {
        self.swaps += 1;
        (self.live, self.on_probation, self.bad) = (release.clone(), on_probation, false);
        let probation = on_probation.then(ProbationPolicy::default);
        self.world.tell(Input::Activate { release, probation });
        self.commit(); // the ledger's row stands in the same batch
    }

    /// A5 and A6, at every step.
    fn check_bounds(&self) {
        let limits = &self.world.settings.limits;
        let status = self.world.core.status(self.world.now());
        // Attempts of f that were under way may each add three events of g, after every start.
        let excess = 6 * u32::try_from(self.swaps + 1).unwrap();
        assert!(status.jobs <= limits.queue_jobs_max + excess);
        for function in &status.functions {
            let beyond = if function.function.as_str() == "a/g" { excess } else { 0 };
            assert!(function.jobs <= limits.share_jobs() + beyond, "{function:?}");
            assert!(function.running <= 2);
        }
        assert!(status.running <= self.world.settings.worker_slots);
        assert_eq!(usize::from(status.running), self.world.running.len());
        assert!(status.held <= limits.held_max);
        assert!(status.dead_letters <= limits.dead_letters_max);
        assert_eq!(self.world.applied.letters.len(), status.dead_letters as usize);
        assert!(status.devices <= limits.devices_max);
        let bytes: u64 = status.outbox.iter().map(|stream| stream.bytes).sum();
        assert!(bytes <= limits.outbox_bytes_max);
        let of_lane = |a: &Attempt| (a.function.clone(), a.lane.clone());
        let lanes: BTreeSet<_> = self.world.running.values().map(of_lane).collect();
        assert_eq!(lanes.len(), self.world.running.len(), "one attempt of a lane at a time");
        for attempt in self.world.running.values() {
            let mut of_lane = self
                .world
                .applied
                .jobs
                .values()
                .filter(|job| job.function == attempt.function && job.lane == attempt.lane);
            if attempt.lane == LaneKey::Job(attempt.job()) {
                continue;
            }
            for member in attempt.work.members() {
                assert_eq!(of_lane.next().unwrap().id, member.job, "the oldest of its lane");
            }
        }
    }

    fn replaced(&self) -> BTreeSet<Sent> {
        let id = |event: &CoreEvent| match event {
            CoreEvent::Shed { message_id: Some(id), reason: ShedReason::Replaced, .. } => {
                let device = id.device.as_str().strip_prefix('d')?.parse().ok()?;
                Some(Sent { device, n: id.seq })
            }
            _ => None,
        };
        self.world.events.iter().filter_map(id).collect()
    }

    /// Faults are over: everything must come to an end.
    fn come_to_rest(&mut self) {
        self.bad = false;
        for _ in 0..2_000 {
            while !self.world.running.is_empty() {
                self.finish(0, Kind::Well);
                self.check_bounds();
            }
            self.take_back_if_failed();
            self.commit();
            let status = self.world.core.status(self.world.now());
            if status.jobs == 0 && status.held == 0 && self.reference.not_acked().is_empty() {
                return;
            }
            self.send_again(|_| true);
            self.world.pass_with_deadlines(5_000);
        }
        panic!("does not come to rest: {:?}", self.world.core.status(self.world.now()));
    }
}

/// What one event leaves, of a function that keeps a log where it has state.
fn work(attempt: &Attempt, event: &Event, log: &mut Bytes) -> Outputs {
    let mut outputs = Outputs::default();
    outputs.records.push(Record {
        name: attempt.function.as_str().to_owned(),
        payload: event.payload.clone(),
        content_type: String::new(),
    });
    let device = event.device.clone().unwrap();
    if attempt.state != StateScope::None {
        let n = std::str::from_utf8(&event.payload).unwrap();
        *log = [log.as_ref(), format!("{device}:{n} ").as_bytes()].concat().into();
        outputs.state.push(StateChange { key: "log".to_owned(), value: Some(log.clone()) });
    }
    if attempt.function.as_str() == "a/f" {
        let Outcome::Done(published) = publishes(&[&format!("mid/{device}")]) else {
            unreachable!()
        };
        outputs.publishes = published.publishes;
        outputs.publishes[0].payload = event.payload.clone();
    }
    outputs
}

fn progress(job: &Job) -> (JobId, u8, u8) {
    (job.id, job.progress.attempts, job.progress.crashes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn every_acked_message_ends_once_and_in_order(actions in actions()) {
        let mut life = Life::new();
        for action in &actions {
            life.act(action);
        }
        life.come_to_rest();
        life.reference.check(&life.world.durable.state, &life.replaced());
    }
}
