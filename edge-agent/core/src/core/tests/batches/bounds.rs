//! Size, bytes and window: when a batch starts, and with whom.

use proptest::prelude::*;

use super::*;

#[test]
fn a_batch_starts_when_it_is_full_or_its_window_ends() {
    for state in [StateScope::Device, StateScope::None] {
        let mut world = world(state, POLICY);
        send(&mut world, 3);
        world.pass(999);
        assert!(world.running.is_empty());
        world.pass(1);
        assert_eq!(running(&world), [[1, 2, 3]], "{state:?}");
        world.finish(JobId(1), all_done());
        send(&mut world, 3);
        world.pass(500);
        assert!(world.running.is_empty());
        send(&mut world, 1);
        assert_eq!(running(&world), [[4, 5, 6, 7]], "{state:?}");
    }
}

#[test]
fn bytes_fill_a_batch_and_one_event_always_fits() {
    for state in [StateScope::Device, StateScope::None] {
        let mut world = world(state, BatchPolicy { bytes_max: 2_000, ..POLICY });
        let large = |bytes: usize| message("in/x", "d", &"x".repeat(bytes));
        world.deliver(large(5_000));
        assert_eq!(running(&world), [[1]], "alone, and at once");
        world.finish(JobId(1), all_done());
        world.deliver(large(1_000));
        assert!(world.running.is_empty());
        world.deliver(large(1_000));
        assert_eq!(running(&world), [[2]], "the second does not fit");
        world.finish(JobId(2), all_done());
        world.pass_with_deadlines(1_000);
        assert_eq!(running(&world), [[3]], "{state:?}");
    }
}

#[test]
fn what_follows_in_the_lane_and_cannot_join_ends_the_wait() {
    let mut world = world(StateScope::Device, POLICY);
    send(&mut world, 2);
    assert!(world.running.is_empty());
    world.deliver(message("single/x", "d", "of another trigger"));
    assert_eq!(running(&world), [[1, 2]]);
    world.finish(JobId(1), all_done());
    assert!(matches!(world.running[&JobId(3)].work, crate::effect::Work::One(_)));
}

#[test]
fn another_revision_batches_otherwise() {
    let mut world = world(StateScope::Device, BatchPolicy { window_ms: 60_000, ..POLICY });
    send(&mut world, 3);
    assert!(world.running.is_empty());
    world.tell(Input::Quiesce { app: "a".into() });
    let plain = release(2, vec![function("a/f")], vec![trigger("a/t", "a/f", "in/#")]);
    world.tell(Input::Activate { release: plain, probation: None });
    assert_eq!(running(&world), [[1]]);
    assert!(matches!(world.running[&JobId(1)].work, crate::effect::Work::One(_)));
}

/// The old function may no longer export what a batch calls.
#[test]
fn what_waits_for_a_trigger_that_moved_to_another_function_is_given_up() {
    let mut world = world(StateScope::Device, BatchPolicy { window_ms: 60_000, ..POLICY });
    send(&mut world, 2);
    world.deliver(message("single/x", "e", "stays"));
    world.finish(JobId(3), Outcome::Retry { reason: "later".to_owned() });
    world.tell(Input::Quiesce { app: "a".into() });
    let functions = vec![function("a/f"), function("a/g")];
    let moved = TriggerSpec { batch: Some(POLICY), ..trigger("a/t", "a/g", "in/#") };
    let next = release(2, functions, vec![moved, trigger("a/u", "a/f", "single/#")]);
    world.tell(Input::Activate { release: next, probation: None });
    assert_eq!(world.letters(), [DeadReason::FunctionGone; 2]);
    assert_eq!(world.applied.jobs.keys().map(|job| job.0).collect::<Vec<_>>(), [3]);
    send(&mut world, 4);
    assert_eq!(running(&world), [[4, 5, 6, 7]]);
    assert_eq!(world.running[&JobId(4)].function, FunctionId::new("a/g"));
}

#[test]
fn a_window_goes_on_after_a_restart() {
    let live = batched(StateScope::None, POLICY);
    let mut world = World::with(settings(), &[&live]);
    send(&mut world, 2);
    world.commit();
    world.pass(600);
    world.crash();
    world.tell(Input::Activate { release: live, probation: None });
    world.tell(Input::Started);
    assert!(world.running.is_empty());
    world.pass(400);
    assert_eq!(running(&world), [[1, 2]]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send { device: u8, bytes: u16, single: bool },
    Pass(u16),
    Done(u8),
    Retry(u8),
    Trap(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..3u8, 0..400u16, prop::bool::weighted(0.1))
            .prop_map(|(device, bytes, single)| Step::Send { device, bytes, single }),
        3 => (1..700u16).prop_map(Step::Pass),
        4 => any::<u8>().prop_map(Step::Done),
        1 => any::<u8>().prop_map(Step::Retry),
        1 => any::<u8>().prop_map(Step::Trap),
    ];
    prop::collection::vec(step, 1..120)
}

/// A plain account of what may wait and what must not.
struct Model {
    policy: BatchPolicy,
    ordered: bool,
    /// Jobs that were in work once.
    tried: BTreeSet<JobId>,
}

impl Model {
    /// Whatever just started was to start, with these neighbours and no more.
    fn started(&mut self, world: &World, attempt: &Attempt) {
        let members = attempt.work.members();
        let bytes: usize = members.iter().map(|member| member.event.cost_bytes()).sum();
        assert!(members.len() == 1 || bytes <= self.policy.bytes_max as usize);
        assert!(members.len() <= self.policy.size_max.into());
        assert!(members.is_sorted_by_key(|member| member.job));
        if self.ordered {
            let jobs = &world.applied.jobs;
            let lane = jobs.values().filter(|job| job.lane == attempt.lane).map(|job| job.id);
            assert!(lane.take(members.len()).eq(members.iter().map(|member| member.job)));
        }
        self.tried.extend(members.iter().map(|member| member.job));
    }

    /// What waits may wait: where a worker is free, nobody's window is over, nothing is full, and
    /// what was tried before waits for its next try only.
    fn check(&self, world: &World) {
        let running: BTreeSet<JobId> = world
            .running
            .values()
            .flat_map(|attempt| attempt.work.members().iter().map(|member| member.job))
            .collect();
        if world.running.len() >= 4 {
            return;
        }
        let mut lanes: BTreeMap<Option<LaneKey>, Vec<&Job>> = BTreeMap::new();
        for job in world.applied.jobs.values() {
            let lane = self.ordered.then(|| job.lane.clone());
            lanes.entry(lane).or_default().push(job);
        }
        for (lane, jobs) in lanes {
            if lane.is_some() && jobs.iter().any(|job| running.contains(&job.id)) {
                continue;
            }
            let waits_for_try = |job: &&Job| job.progress.not_before > Millis(world.at);
            if lane.is_some() && jobs.first().is_some_and(waits_for_try) {
                continue;
            }
            let idle: Vec<_> = jobs
                .into_iter()
                .filter(|job| !running.contains(&job.id) && !waits_for_try(job))
                .collect();
            let Some(oldest) = idle.first().map(|job| job.admitted_at.0) else { continue };
            let mut fill = idle.iter().map(|job| job.event.cost_bytes());
            assert!(world.at < oldest + u64::from(self.policy.window_ms), "{lane:?} {idle:?}");
            assert!(idle.len() < self.policy.size_max.into(), "{lane:?} is full: {idle:?}");
            let batch = |job: &&&Job| job.event.trigger.as_str() == "a/t";
            assert!(idle.iter().all(|job| batch(&job)), "nothing behind it can join");
            assert!(fill.by_ref().sum::<usize>() < self.policy.bytes_max as usize);
            let first = idle.first().filter(|job| self.tried.contains(&job.id));
            assert!(first.is_none(), "{first:?} was tried before");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn batches_are_as_a_plain_account_says(
        steps in steps(),
        ordered: bool,
        size_max in 1..5u16,
        window_ms in prop_oneof![Just(0u32), Just(500)],
    ) {
        let policy = BatchPolicy { size_max, window_ms, bytes_max: 900, bisect: true };
        let state = if ordered { StateScope::Device } else { StateScope::None };
        let mut world = world(state, policy);
        let mut model = Model { policy, ordered, tried: BTreeSet::new() };
        for step in steps {
            let picked = |n: u8| world.running.keys().nth(usize::from(n) % world.running.len().max(1)).copied();
            let is_batch = |job: &JobId| matches!(world.running[job].work, crate::effect::Work::Batch(_));
            let effects = match step {
                Step::Send { device, bytes, single } => {
                    let topic = if single { "single/x" } else { "in/x" };
                    let payload = "x".repeat(bytes.into());
                    let message = Arc::new(message(topic, &format!("d{device}"), &payload));
                    let delivery = DeliveryId(0);
                    world.tell(Input::Delivered { delivery, message, patience: Patience::Immediate })
                }
                Step::Pass(ms) => world.pass(ms.into()),
                Step::Done(n) => match picked(n) {
                    Some(job) if is_batch(&job) => world.finish(job, all_done()),
                    Some(job) => world.finish(job, done()),
                    None => Vec::new(),
                },
                Step::Retry(n) => picked(n).map_or(Vec::new(), |job| {
                    world.finish(job, Outcome::Retry { reason: "later".to_owned() })
                }),
                Step::Trap(n) => picked(n).map_or(Vec::new(), |job| world.finish(job, trap())),
            };
            for effect in &effects {
                if let Effect::Start(attempt) = effect {
                    model.started(&world, attempt);
                }
            }
            let full = world.core.status(world.now()).jobs >= 15;
            if !full && !world.core.status(world.now()).functions[0].probing {
                model.check(&world);
            }
        }
    }
}
