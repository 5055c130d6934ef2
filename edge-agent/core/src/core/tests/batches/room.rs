//! Batches of a function that has no room for more: it makes room, whatever its window says.

use proptest::prelude::*;

use super::*;
use crate::event::{RedriveRefusal, ShedReason};

/// A window that no test waits for.
const LONG: BatchPolicy =
    BatchPolicy { size_max: 100, window_ms: 300_000, bytes_max: 200_000, bisect: true };

/// Five jobs for one function, and so many bytes.
fn small(bytes: u64) -> Settings {
    let mut settings = settings();
    settings.limits.queue_jobs_max = 20;
    settings.limits.queue_bytes_max = 4 * bytes;
    settings
}

fn full(state: StateScope, when_full: WhenFull, policy: BatchPolicy, bytes: u64) -> World {
    let spec = FunctionSpec { state, when_full, ..function("a/f") };
    let batch = TriggerSpec { batch: Some(policy), ..trigger("a/t", "a/f", "in/#") };
    World::with(small(bytes), &[&release(1, vec![spec], vec![batch])])
}

fn jobs(world: &World) -> Vec<u64> {
    world.applied.jobs.keys().map(|job| job.0).collect()
}

#[test]
fn a_full_queue_waits_for_nobody() {
    for state in [StateScope::Device, StateScope::None] {
        let mut world = full(state, WhenFull::Hold, LONG, 1 << 20);
        send(&mut world, 4);
        assert!(world.running.is_empty());
        send(&mut world, 1);
        assert_eq!(running(&world), [[1, 2, 3, 4, 5]], "{state:?}");
        send(&mut world, 1); // is held
        world.finish(JobId(1), all_done());
        assert!(world.running.is_empty(), "there is room again");
        assert_eq!(world.applied.jobs.len(), 1);
        send(&mut world, 11); // 4 fill the queue, 7 are held
        assert_eq!(running(&world), [[6, 7, 8, 9, 10]]);
        world.finish(JobId(6), all_done());
        assert_eq!(running(&world), [[11, 12, 13, 14, 15]], "two are still held: {state:?}");
    }
}

#[test]
fn a_running_batch_is_not_shed() {
    for (when_full, reason) in
        [(WhenFull::ShedOldest, ShedReason::Oldest), (WhenFull::LatestPerKey, ShedReason::Replaced)]
    {
        let policy = BatchPolicy { size_max: 3, ..POLICY };
        let mut world = full(StateScope::Device, when_full, policy, 1 << 20);
        send(&mut world, 9);
        assert_eq!(running(&world), [[1, 2, 3]]);
        let shed =
            |event: &CoreEvent| matches!(event, CoreEvent::Shed { reason: r, .. } if *r == reason);
        assert_eq!(world.saw(shed), 4);
        assert_eq!(jobs(&world), [1, 2, 3, 8, 9]);
        world.finish(JobId(1), all_done());
        world.pass_with_deadlines(1_000);
        assert_eq!(running(&world), [[8, 9]]);
    }
}

/// What is shed is the head of what waits: the next head does not open a new window.
#[test]
fn a_function_that_sheds_for_room_runs() {
    for when_full in [WhenFull::ShedOldest, WhenFull::LatestPerKey] {
        for state in [StateScope::Device, StateScope::None] {
            let mut world = full(state, when_full, LONG, 1 << 20);
            send(&mut world, 20);
            let first: Vec<u64> = running(&world).concat();
            assert_eq!(first, [1, 2, 3, 4, 5], "{when_full:?} {state:?}");
            world.finish(JobId(1), all_done());
            let shed = world.saw(|event| matches!(event, CoreEvent::Shed { .. }));
            assert_eq!(shed, 15, "while they run, there is nothing else to shed");
        }
    }
}

/// Bytes are short before the last job is: what did not fit tells it.
#[test]
fn a_function_that_sheds_for_bytes_runs() {
    for when_full in [WhenFull::ShedOldest, WhenFull::LatestPerKey] {
        for state in [StateScope::Device, StateScope::None] {
            let mut world = full(state, when_full, LONG, 2_000);
            let large = || message("in/x", "d", &"x".repeat(500));
            for _ in 0..3 {
                world.deliver(large());
            }
            assert!(world.running.is_empty(), "two thousand bytes have room for three");
            world.deliver(large());
            let keyed = when_full == WhenFull::LatestPerKey && state == StateScope::None;
            // Without order each lane is a job's own, and none is replaced.
            let expected: &[u64] = if keyed { &[1, 2, 3] } else { &[2, 3, 4] };
            assert_eq!(running(&world).concat(), expected, "{when_full:?} {state:?}");
        }
    }
}

/// `a/g` publishes to `a/f`, which has one lane and a window.
fn fed() -> World {
    let f = FunctionSpec { state: StateScope::Function, concurrency: 1, ..function("a/f") };
    let g = FunctionSpec { state: StateScope::None, ..function("a/g") };
    let policy = BatchPolicy { window_ms: 60_000, ..LONG };
    let batch = TriggerSpec { batch: Some(policy), ..trigger("a/t", "a/f", "in/#") };
    let feeds = trigger("a/u", "a/g", "go/#");
    World::with(small(1 << 20), &[&release(1, vec![f, g], vec![batch, feeds])])
}

#[test]
fn an_overfull_function_works_while_its_feeders_wait() {
    let mut world = fed();
    send(&mut world, 4);
    world.pass_with_deadlines(60_000);
    send(&mut world, 1);
    assert_eq!(running(&world), [vec![1, 2, 3, 4]]);
    world.deliver(message("go/x", "d", "x"));
    world.finish(JobId(6), publishes(&["in/1"; 6]));
    world.deliver(message("go/x", "d", "x"));
    assert_eq!(running(&world), [vec![1, 2, 3, 4]], "the feeder waits");
    world.finish(JobId(1), all_done());
    let overfull: Vec<u64> = vec![5, 7, 8, 9, 10, 11, 12];
    assert_eq!(running(&world), [overfull], "with more than its room it waits for nobody");
    world.finish(JobId(5), all_done());
    assert_eq!(running(&world), [[13]], "the feeder goes on");
    assert_eq!(world.letters(), []);
}

#[test]
fn a_redrive_finds_no_window_in_its_way() {
    let mut world = full(StateScope::Device, WhenFull::Hold, LONG, 1 << 20);
    send(&mut world, 5);
    world.finish(JobId(1), failing(&[(0, ItemFailureKind::Reject)]));
    let letter = world.applied.letters.values().next().unwrap().clone();
    send(&mut world, 1);
    assert_eq!(jobs(&world), [2, 3, 4, 5, 6]);
    assert_eq!(world.core.redrive_refusal(&letter), Some(RedriveRefusal::Full));
    world.finish(JobId(2), all_done());
    assert_eq!(world.core.redrive_refusal(&letter), None);
    send(&mut world, 3);
    assert_eq!(running(&world), Vec::<Vec<u64>>::new());
    world.tell(Input::Redrive { letter: Box::new(letter) });
    assert_eq!(running(&world).concat().len(), 5, "it filled the queue");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send { device: u8, bytes: u16, patience: Patience },
    Done(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let patience = prop_oneof![Just(Patience::Holdable), Just(Patience::Immediate)];
    let step = prop_oneof![
        4 => (0..3u8, 0..700u16, patience)
            .prop_map(|(device, bytes, patience)| Step::Send { device, bytes, patience }),
        1 => any::<u8>().prop_map(Step::Done),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whenever an event finds no room, the function works.
    #[test]
    fn no_function_without_room_waits(
        steps in steps(),
        state in prop_oneof![
            Just(StateScope::Device), Just(StateScope::None), Just(StateScope::Function)
        ],
        when_full in prop_oneof![
            Just(WhenFull::Hold), Just(WhenFull::ShedOldest), Just(WhenFull::ShedNewest),
            Just(WhenFull::LatestPerKey)
        ],
    ) {
        let mut world = full(state, when_full, LONG, 2_000);
        for step in steps {
            let crowded = |event: &CoreEvent| matches!(
                event,
                CoreEvent::Shed { .. } | CoreEvent::Held { .. }
            );
            let before = world.saw(crowded);
            match step {
                Step::Send { device, bytes, patience } => {
                    let payload = "x".repeat(bytes.into());
                    world.deliver_as(message("in/x", &format!("d{device}"), &payload), patience);
                }
                Step::Done(n) => {
                    let count = world.running.len().max(1);
                    if let Some(job) = world.running.keys().nth(usize::from(n) % count).copied() {
                        world.finish(job, all_done());
                    }
                }
            }
            let status = world.core.status(world.now());
            let short = world.saw(crowded) > before || status.held > 0 || status.jobs >= 5;
            prop_assert!(!short || !world.running.is_empty(), "{:?}", world.applied.jobs);
        }
    }
}
