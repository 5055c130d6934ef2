//! The queue in flash keeps what it said it keeps, wherever power is cut.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a panic is how a test says no"
)]

#[allow(dead_code, reason = "another test looks at the bytes")]
#[path = "support/nor.rs"]
mod nor;

use std::task::{Context, Waker};

use device_sdk::queue::{FlashQueue, Overflow, Queue, QueueError};
use embassy_futures::block_on;
use nor::{Nor, PAGE};

const PAGES: usize = 6;
const REGION: std::ops::Range<u32> = 0..(PAGES * PAGE) as u32;
const STEPS: u64 = 60;

fn open<'a>(chip: &Nor, buffer: &'a mut [u8], overflow: Overflow) -> FlashQueue<'a, Nor> {
    FlashQueue::new(chip.clone(), REGION, buffer, overflow).unwrap()
}

/// A record that says which one it is, in every byte.
fn record(id: u64) -> Vec<u8> {
    let length = 3 + (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize;
    let mut bytes = vec![(id & 0xff) as u8; length];
    bytes[0] = (id >> 8) as u8;
    bytes
}

fn id_of(bytes: &[u8]) -> u64 {
    let id = u64::from(bytes[0]) << 8 | u64::from(bytes[1]);
    assert_eq!(bytes, record(id), "a record that nobody pushed");
    id
}

/// Ids of all records, in order.
fn all(queue: &mut FlashQueue<'_, Nor>) -> Result<Vec<u64>, QueueError> {
    let mut out = [0; 128];
    let mut ids = Vec::new();
    while let Some(length) = block_on(queue.peek(ids.len() as u32, &mut out))? {
        ids.push(id_of(&out[..length]));
    }
    Ok(ids)
}

/// What a run did before power was cut.
struct Run {
    kept: Vec<u64>,
    /// The record that was being pushed.
    pushing: Option<u64>,
    is_popping: bool,
    /// Drops of each push that ended, by step.
    dropped: Vec<u32>,
}

/// Pushes and pops by `seed` until the steps are done or power is cut.
fn run(chip: &Nor, seed: u64, overflow: Overflow) -> Run {
    let mut buffer = [0; 128];
    let mut queue = open(chip, &mut buffer, overflow);
    let mut run = Run { kept: Vec::new(), pushing: None, is_popping: false, dropped: Vec::new() };
    let mut random = seed | 1;
    for step in 0..STEPS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let is_pop = (random >> 33) % 5 < 2 && step > 20;
        let ended = if is_pop {
            block_on(queue.pop()).map(|()| 0)
        } else {
            block_on(queue.push(&record(step)))
        };
        match ended {
            Ok(dropped) if is_pop => {
                run.kept.drain(..run.kept.len().min(1));
                run.dropped.push(dropped);
            }
            Ok(dropped) => {
                run.kept.drain(..dropped as usize);
                run.kept.push(step);
                run.dropped.push(dropped);
            }
            Err(QueueError::Full) if overflow == Overflow::DropNewest => run.dropped.push(0),
            Err(error) => {
                assert!(chip.is_off(), "{error:?} with power on, at step {step}");
                run.pushing = (!is_pop).then_some(step);
                run.is_popping = is_pop;
                return run;
            }
        }
    }
    run
}

/// Whether the records found are what may be there after the cut. `drops`: what an uncut push drops at that step.
fn is_allowed(run: &Run, drops: u32, found: &[u64]) -> bool {
    let most = if run.is_popping { 1 } else { drops as usize };
    let without_new = found.strip_suffix(run.pushing.as_slice()).into_iter();
    without_new
        .chain([found])
        .any(|rest| (0..=most.min(run.kept.len())).any(|dropped| run.kept[dropped..] == *rest))
}

fn cut_everywhere(overflow: Overflow, seed: u64) -> u64 {
    let blank = if seed.is_multiple_of(2) { 0xff } else { 0 };
    let chip = Nor::new(PAGES, blank, seed);
    let uncut = run(&chip, seed, overflow);
    let total = chip.steps();
    assert!(total > 150 && uncut.dropped.len() as u64 == STEPS);

    for cut in 0..total {
        let chip = Nor::new(PAGES, blank, seed ^ cut << 8);
        chip.power_on(Some(cut));
        let run = run(&chip, seed, overflow);
        assert!(chip.is_off() || run.dropped.len() as u64 == STEPS);
        // Power fails again while the queue is opened, at two more places.
        let mut buffer = [0; 128];
        for again in [1 + cut % 3, 2 + cut % 7] {
            chip.power_on(Some(again));
            let _ = all(&mut open(&chip, &mut buffer, overflow));
        }
        chip.power_on(None);
        let mut queue = open(&chip, &mut buffer, overflow);
        let found = all(&mut queue).unwrap();
        let drops = uncut.dropped.get(run.dropped.len()).copied().unwrap_or(0);
        assert!(
            is_allowed(&run, drops, &found),
            "seed {seed}, cut at step {cut} of the flash: kept {:?}, pushing {:?}, popping {}, found {found:?}",
            run.kept,
            run.pushing,
            run.is_popping
        );
        assert_eq!(queue.len() as usize, found.len());
        goes_on(&mut queue, &found);
    }
    total
}

/// After a cut the queue is as good as before.
fn goes_on(queue: &mut FlashQueue<'_, Nor>, found: &[u64]) {
    let dropped = match block_on(queue.push(&record(900))) {
        Ok(dropped) => dropped as usize,
        Err(QueueError::Full) => return,
        Err(error) => panic!("{error:?} after a cut"),
    };
    let expected: Vec<u64> = found[dropped..].iter().copied().chain([900]).collect();
    assert_eq!(all(queue).unwrap(), expected);
    for _ in 0..expected.len() {
        block_on(queue.pop()).unwrap();
    }
    assert_eq!(all(queue).unwrap(), []);
    assert_eq!(queue.reformatted(), 0, "the pages made no sense");
}

#[test]
fn what_was_pushed_survives_a_cut_at_every_step_while_the_oldest_are_dropped() {
    let cuts: u64 = (1..=4).map(|seed| cut_everywhere(Overflow::DropOldest, seed)).sum();
    println!("{cuts} cuts");
}

#[test]
fn what_was_pushed_survives_a_cut_at_every_step_while_the_newest_are_refused() {
    let cuts: u64 = (1..=4).map(|seed| cut_everywhere(Overflow::DropNewest, seed)).sum();
    println!("{cuts} cuts");
}

/// Polls a future so often and drops it; whether it had ended.
fn give_up_after(polls: usize, future: impl Future) -> bool {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..polls).any(|_| future.as_mut().poll(&mut context).is_ready())
}

#[test]
fn a_call_that_was_dropped_half_way_harms_nothing() {
    let mut given_up = 0;
    for polls in 0.. {
        let chip = Nor::new(PAGES, 0xff, 5);
        let mut buffer = [0; 128];
        let mut queue = open(&chip, &mut buffer, Overflow::DropOldest);
        for id in 0..25 {
            block_on(queue.push(&record(id))).unwrap();
        }
        let before = all(&mut queue).unwrap();
        let is_popped = give_up_after(polls, queue.pop());
        let popped = all(&mut queue).unwrap();
        assert!(popped == before[1..] || (!is_popped && popped == before));
        let is_pushed = give_up_after(polls, queue.push(&record(100)));
        let pushed = all(&mut queue).unwrap();
        let is_there = pushed.last() == Some(&100);
        assert!(is_there || !is_pushed);
        let kept = &pushed[..pushed.len() - usize::from(is_there)];
        assert!(
            popped.ends_with(kept) && popped.len() - kept.len() <= 25,
            "{popped:?}, {pushed:?}"
        );
        goes_on(&mut queue, &pushed);
        if is_popped && is_pushed {
            break;
        }
        given_up += 1;
    }
    assert!(given_up > 5, "{given_up}");
}

#[test]
fn a_region_of_another_layout_is_left_as_it_is() {
    let chip = Nor::new(PAGES, 0xff, 5);
    let mut buffer = [0; 128];
    block_on(open(&chip, &mut buffer, Overflow::DropOldest).push(&record(1))).unwrap();
    let smaller = 0..((PAGES - 1) * PAGE) as u32;
    let mut other =
        FlashQueue::new(chip.clone(), smaller, &mut buffer, Overflow::DropOldest).unwrap();
    assert_eq!(block_on(other.push(&record(2))), Err(QueueError::Foreign));
    assert_eq!(all(&mut open(&chip, &mut buffer, Overflow::DropOldest)).unwrap(), [1]);
}

#[test]
fn a_record_longer_than_the_buffer_or_a_page_is_refused() {
    let chip = Nor::new(PAGES, 0xff, 5);
    let (mut buffer, mut long) = ([0; 16], [0; 2 * PAGE]);
    let mut queue = open(&chip, &mut buffer, Overflow::DropOldest);
    assert_eq!(block_on(queue.push(&[1; 17])), Err(QueueError::TooLong));
    let mut queue = open(&chip, &mut long, Overflow::DropOldest);
    assert_eq!(block_on(queue.push(&[1; PAGE + 1])), Err(QueueError::TooLong));
    assert_eq!(block_on(queue.push(&[1; 100])), Ok(0));
}
