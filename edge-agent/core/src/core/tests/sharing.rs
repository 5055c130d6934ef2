//! Who gets the workers: reserved slots, caps, worker time.

use proptest::prelude::*;

use super::*;
use crate::limits::{function_slots_max, reservable_slots};
use crate::status::FunctionStatus;

/// Functions `a/f0`, `a/f1`, ... with (concurrency, reserved), each on `fN/#`.
fn sharing(functions: &[(u16, u16)]) -> Arc<Release> {
    let spec = |n: usize, (concurrency, reserved): (u16, u16)| FunctionSpec {
        state: StateScope::None,
        concurrency,
        reserved,
        ..function(&format!("a/f{n}"))
    };
    let specs = functions.iter().enumerate().map(|(n, slots)| spec(n, *slots)).collect();
    let trigger = |n| trigger(&format!("a/t{n}"), &format!("a/f{n}"), &format!("f{n}/#"));
    release(1, specs, (0..functions.len()).map(trigger).collect())
}

fn world(slots: u16, functions: &[(u16, u16)]) -> World {
    let mut settings = settings();
    settings.worker_slots = slots;
    settings.limits.queue_jobs_max = 4_000;
    World::with(settings, &[&sharing(functions)])
}

fn send(world: &mut World, n: usize) {
    world.deliver_as(message(&format!("f{n}/x"), "d", "x"), Patience::Immediate);
}

fn status(world: &World) -> Vec<FunctionStatus> {
    world.core.status(world.now()).functions
}

fn end(world: &mut World, job: JobId, ran_us: u64) {
    let attempt = world.running[&job].attempt;
    world.tell(Input::Finished { job, attempt, outcome: done(), ran_us });
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    End(usize, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..6_usize).prop_map(Step::Send),
        2 => (any::<usize>(), 10..50_000_u64).prop_map(|(pick, us)| Step::End(pick, us)),
    ];
    prop::collection::vec(step, 1..300)
}

/// After every step: no bound is exceeded, and whoever waits has a reason.
fn check(world: &World, slots: u16) {
    let functions = status(world);
    let reserved: u16 = functions.iter().map(|f| f.reserved).sum();
    let common: u16 = functions.iter().map(|f| f.running.saturating_sub(f.reserved)).sum();
    assert!(common <= slots - reserved, "reserved slots stay free for theirs: {functions:?}");
    for f in &functions {
        assert!(f.running <= f.concurrency, "{f:?}");
        let waits = f.jobs > u32::from(f.running) && f.running < f.concurrency;
        assert!(!waits || f.running >= f.reserved, "a slot of its own is free: {f:?}");
        assert!(!waits || common == slots - reserved, "a slot of all is free: {f:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_slot_idles_and_reserved_ones_are_kept(
        slots in 2..17_u16,
        functions in prop::collection::vec((1..6_u16, 0..4_u16), 6),
        steps in steps(),
    ) {
        let mut world = world(slots, &functions);
        for step in steps {
            match step {
                Step::Send(n) => send(&mut world, n),
                Step::End(pick, ran_us) => {
                    let count = world.running.len().max(1);
                    if let Some(job) = world.running.keys().nth(pick % count).copied() {
                        end(&mut world, job, ran_us);
                    }
                }
            }
            check(&world, slots);
        }
    }

    /// Six flooded functions on eight workers, of which each may use two: whatever their attempts
    /// cost, the worker time that each got differs by no more than a quantum and what is in work.
    #[test]
    fn worker_time_is_divided_evenly(costs_us in prop::collection::vec(100..20_000_u64, 6)) {
        let mut world = world(8, &[(2, 0); 6]);
        for n in 0..6 * 150 {
            send(&mut world, n % 6);
        }
        let mut ends: BTreeMap<JobId, u64> = BTreeMap::new();
        let mut now_us = 0;
        let cost = |world: &World, job: &JobId| {
            let n: usize = world.running[job].function.as_str()[3..].parse().unwrap();
            costs_us[n]
        };
        loop {
            for job in world.running.keys() {
                ends.entry(*job).or_insert(now_us + cost(&world, job));
            }
            let (job, at) = ends.iter().min_by_key(|(_, at)| **at).map(|(j, at)| (*j, *at)).unwrap();
            now_us = at;
            ends.remove(&job);
            let ran_us = cost(&world, &job);
            end(&mut world, job, ran_us);
            let functions = status(&world);
            if functions.iter().any(|f| f.jobs == u32::from(f.running)) {
                break; // one has no backlog any more
            }
            let times = functions.iter().map(|f| f.worker_us);
            let spread = times.clone().max().unwrap() - times.min().unwrap();
            prop_assert!(spread <= 10_000 + 3 * 20_000, "{spread} us apart: {functions:?}");
        }
        // Not a word of the above was empty: the cheapest ran most.
        let most: u64 = costs_us.iter().copied().min().unwrap() * 148;
        prop_assert!(status(&world).iter().any(|f| f.worker_us >= most));
    }
}

#[test]
fn a_quiet_function_starts_at_the_next_end() {
    let mut world = world(8, &[(2, 0); 6]);
    for n in 0..600 {
        send(&mut world, n % 5);
    }
    for _ in 0..100 {
        let job = *world.running.keys().next().unwrap();
        end(&mut world, job, 40_000);
    }
    send(&mut world, 5);
    let quiet = |a: &Attempt| a.function.as_str() == "a/f5";
    assert!(!world.running.values().any(quiet), "all slots are taken");
    let job = *world.running.keys().next().unwrap();
    end(&mut world, job, 40_000);
    assert!(world.running.values().any(quiet));
}

#[test]
fn a_reserved_slot_is_free_whoever_floods() {
    let mut world = world(8, &[(2, 0), (2, 0), (2, 0), (2, 0), (2, 2)]);
    for n in 0..400 {
        send(&mut world, n % 4);
    }
    assert_eq!(world.running.len(), 6, "two of eight stay free");
    send(&mut world, 4);
    send(&mut world, 4);
    assert_eq!(world.running.len(), 8, "and start at once");
    let spent: Vec<u64> = status(&world).iter().map(|f| f.worker_us).collect();
    assert_eq!(spent, [0; 5], "before anything ended");
}

/// A gateway that was given fewer workers keeps going: what is not there is not reserved.
#[test]
fn reservations_beyond_the_workers_are_cut_in_order() {
    let world = world(8, &[(2, 2), (2, 2), (2, 2), (2, 2)]);
    let reserved: Vec<u16> = status(&world).iter().map(|f| f.reserved).collect();
    assert_eq!(reserved, [2, 2, 2, 0]);
    assert_eq!((reservable_slots(8), reservable_slots(16), reservable_slots(1)), (6, 12, 0));
    assert_eq!((function_slots_max(8), function_slots_max(3)), (2, 1));
}

#[test]
fn slots_of_an_app_that_goes_are_for_all_again() {
    let mut world = world(8, &[(2, 2), (2, 0)]);
    let other = release(
        2,
        vec![FunctionSpec { concurrency: 2, ..function("b/f") }],
        vec![trigger("b/t", "b/f", "b/#")],
    );
    world.tell(Input::Activate { release: other, probation: None });
    let reserved = |world: &World| status(world).iter().map(|f| f.reserved).sum::<u16>();
    assert_eq!(reserved(&world), 2);
    world.tell(Input::Quiesce { app: "a".into() });
    world.tell(Input::Deactivate { app: "a".into() });
    assert_eq!(reserved(&world), 0);
    for n in 0..4 {
        world.deliver(message("b/x", &n.to_string(), "x"));
    }
    check(&world, 8);
    assert_eq!(world.running.len(), 2);
}
