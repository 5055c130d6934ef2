use alloc::rc::Rc;
use alloc::vec;
use core::cell::RefCell;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use embedded_storage_async::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use proptest::prelude::*;

use super::*;
use crate::effects::QoS;

const PAGE: usize = 512;
const WORD: usize = 4;
/// For the state of a former function.
pub(super) const HEAP: u64 = 64 << 10;

/// NOR flash that loses power after so many words or pages, in the middle of what it does.
#[derive(Clone, Debug)]
pub(super) struct Nor {
    bytes: Rc<RefCell<Vec<u8>>>,
    /// Steps that are left.
    power: Rc<RefCell<usize>>,
}

#[derive(Debug)]
pub(super) struct Off;

impl NorFlashError for Off {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl Nor {
    pub(super) fn new(pages: usize) -> Self {
        // What was never erased looks like anything.
        let bytes = Rc::new(RefCell::new(vec![0; pages * PAGE]));
        Self { bytes, power: Rc::new(RefCell::new(usize::MAX)) }
    }

    /// Power for so many steps.
    pub(super) fn power(&self, steps: usize) {
        *self.power.borrow_mut() = steps;
    }

    fn step(&self) -> Result<(), Off> {
        let mut power = self.power.borrow_mut();
        *power = power.checked_sub(1).ok_or(Off)?;
        Ok(())
    }
}

impl ErrorType for Nor {
    type Error = Off;
}

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Off> {
        let at = offset as usize;
        out.copy_from_slice(&self.bytes.borrow()[at..at + out.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.borrow().len()
    }
}

impl NorFlash for Nor {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Off> {
        let (from, to) = (from as usize, to as usize);
        assert!(from.is_multiple_of(PAGE) && to.is_multiple_of(PAGE));
        for page in (from..to).step_by(PAGE) {
            // Half of a page first: a torn erasure.
            self.step()?;
            self.bytes.borrow_mut()[page..page + PAGE / 2].fill(0xff);
            self.step()?;
            self.bytes.borrow_mut()[page..page + PAGE].fill(0xff);
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Off> {
        assert!((offset as usize).is_multiple_of(WORD) && bytes.len().is_multiple_of(WORD));
        for (n, word) in bytes.chunks(WORD).enumerate() {
            self.step()?;
            let at = offset as usize + n * WORD;
            for (cell, byte) in self.bytes.borrow_mut()[at..at + WORD].iter_mut().zip(word) {
                assert!(*cell == 0xff, "written twice at {at}");
                *cell &= byte;
            }
        }
        Ok(())
    }
}

/// The flash of this test never waits.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn publication(n: u8, len: usize) -> Publication {
    Publication {
        topic: "out/a".into(),
        payload: vec![n; len],
        qos: QoS::AtLeastOnce,
        retain: false,
        content_type: Some("x".into()),
        properties: vec![("a".into(), "b".into())],
    }
}

pub(super) fn event(n: u8, len: usize) -> Effects {
    let change = |key: &str, value| StateChange { key: key.into(), value };
    let state = vec![
        change("n", Some(vec![n; len])),
        change(
            if n.is_multiple_of(2) { "even" } else { "odd" },
            (!n.is_multiple_of(3)).then(|| vec![n]),
        ),
    ];
    Effects { publishes: vec![publication(n, 3)], records: vec![], state }
}

/// An event as `Function::process` leaves it: applied in memory, then committed.
fn work(store: &mut Store<Nor>, effects: Effects) -> Result<(), StoreError> {
    store.state_mut().apply(&effects.state);
    now(store.commit(effects))
}

#[test]
fn state_and_what_is_owed_outlive_a_restart() {
    let flash = Nor::new(8);
    let mut store = now(Store::open(flash.clone(), "a/f", HEAP)).unwrap();
    assert_eq!((store.owed().len(), store.state().entries().count()), (0, 0));
    for n in 0..200 {
        work(&mut store, event(n, 9)).unwrap();
        assert_eq!(store.owed(), [publication(n, 3)]);
        if n < 199 {
            now(store.handed_over()).unwrap();
        }
    }
    let kept = entries(store.state());
    let mut again = now(Store::open(flash.clone(), "a/f", HEAP)).unwrap();
    assert_eq!((entries(again.state()), again.owed()), (kept, [publication(199, 3)].as_slice()));
    assert_eq!(again.unreadable(), 0);
    now(again.handed_over()).unwrap();
    let again = now(Store::open(flash.clone(), "a/f", HEAP)).unwrap();
    assert_eq!(again.owed(), []);
}

#[test]
fn a_function_of_another_name_begins_anew_and_costs_the_former_one_nothing() {
    let flash = Nor::new(8);
    let open = |function| now(Store::open(flash.clone(), function, HEAP)).unwrap();
    let mut store = open("a/f");
    work(&mut store, event(7, 9)).unwrap();
    let kept = entries(store.state());
    let mut other = open("a/g");
    assert_eq!(other.state().entries().count(), 0);
    assert_eq!(other.owed(), [publication(7, 3)], "it owes what the other one did");
    // So much that the journal begins anew a few times.
    for n in 0..200 {
        work(&mut other, event(n, 9)).unwrap();
        now(other.handed_over()).unwrap();
    }
    let others = entries(other.state());
    // Taken back, and offered again.
    for _ in 0..2 {
        assert_eq!(entries(open("a/f").state()), kept);
        assert_eq!(entries(open("a/g").state()), others);
    }
    // Two names, and not three.
    assert_eq!(open("a/h").state().entries().count(), 0);
    assert_eq!(entries(open("a/g").state()), others);
    assert_eq!(open("a/f").state().entries().count(), 0);
}

#[test]
fn wherever_power_is_cut_while_the_name_changes_both_states_are_there() {
    for cut in 0.. {
        let flash = Nor::new(8);
        let open = |function| now(Store::open(flash.clone(), function, HEAP));
        let mut store = open("a/f").unwrap();
        work(&mut store, event(7, 9)).unwrap();
        let kept = entries(store.state());
        flash.power(cut);
        let is_open = open("a/g").is_ok();
        flash.power(usize::MAX);
        assert_eq!(entries(open("a/f").unwrap().state()), kept, "cut {cut}");
        if is_open {
            break;
        }
    }
}

#[test]
fn the_former_state_goes_where_both_have_no_room() {
    // Half of this region is a page of 512 bytes.
    let flash = Nor::new(2);
    let open = |function| now(Store::open(flash.clone(), function, HEAP)).unwrap();
    work(&mut open("a/f"), event(1, 300)).unwrap();
    work(&mut open("a/g"), event(2, 300)).unwrap();
    let others = entries(open("a/g").state());
    assert_eq!(others.len(), 2);
    assert_eq!(open("a/f").state().entries().count(), 0);
}

#[test]
fn the_former_state_goes_where_the_heap_has_no_room_for_it() {
    let flash = Nor::new(8);
    let open = |function, heap| now(Store::open(flash.clone(), function, heap)).unwrap();
    work(&mut open("a/f", HEAP), event(1, 9)).unwrap();
    let kept = entries(open("a/f", HEAP).state());
    let needed = 3 * kept.iter().map(|(key, value)| entry_bytes(key, value) as u64).sum::<u64>();
    drop(open("a/g", needed));
    assert_eq!(entries(open("a/f", HEAP).state()), kept);
    drop(open("a/g", HEAP));
    // A new version of the same function needs more of the heap.
    drop(open("a/g", needed - 1));
    assert_eq!(open("a/f", HEAP).state().entries().count(), 0);
}

#[test]
fn what_does_not_fit_and_what_is_no_region_is_refused() {
    let mut store = now(Store::open(Nor::new(2), "a/f", HEAP)).unwrap();
    assert_eq!(work(&mut store, event(1, PAGE)), Err(StoreError::TooLong));
    for pages in [0, 1, 3] {
        assert_eq!(now(Store::open(Nor::new(pages), "a/f", HEAP)).unwrap_err(), StoreError::Layout);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Power is cut again and again. After each cut the state is that of an event that was begun, with its publishes owed,
    /// or of one that was committed before; nothing that was committed is lost.
    #[test]
    fn after_a_power_cut_an_event_is_there_as_a_whole_or_not_at_all(
        cuts in prop::collection::vec(1_usize..400, 1..12),
        len in 1_usize..120,
    ) {
        let flash = Nor::new(4);
        drop(now(Store::open(flash.clone(), "a/f", HEAP)).unwrap());
        // Last event that was committed, and whether its publishes are known to be handed over.
        let (mut done, mut is_handed) = (None::<u8>, true);
        let mut model = vec![State::default()];
        let mut next = 0_u8;
        for cut in cuts {
            flash.power(cut);
            let mut begun = None;
            let mut is_handing = false;
            if let Ok(mut store) = now(Store::open(flash.clone(), "a/f", HEAP)) {
                while next < 250 {
                    if now(store.handed_over()).is_err() {
                        is_handing = true;
                        break;
                    }
                    is_handed = true;
                    begun = Some(next);
                    let mut state = model.last().unwrap().clone();
                    state.apply(&event(next, len).state);
                    model.push(state);
                    if work(&mut store, event(next, len)).is_err() {
                        break;
                    }
                    (done, is_handed, begun) = (Some(next), false, None);
                    next += 1;
                }
            }
            flash.power(usize::MAX);
            let store = now(Store::open(flash.clone(), "a/f", HEAP)).unwrap();
            let found = entries(store.state());
            let is_whole = begun.is_some() && found == entries(model.last().unwrap());
            if is_whole {
                prop_assert_eq!(store.owed(), [publication(next, 3)]);
                (done, is_handed) = (Some(next), false);
                next += 1;
            } else {
                if begun.is_some() {
                    model.pop();
                }
                prop_assert_eq!(found, entries(model.last().unwrap()), "after event {:?}", done);
                match done {
                    Some(n) if !is_handed && !is_handing => {
                        prop_assert_eq!(store.owed(), [publication(n, 3)]);
                    }
                    Some(n) if !is_handed => {
                        let owed = store.owed();
                        prop_assert!(owed.is_empty() || owed == [publication(n, 3)]);
                        is_handed = owed.is_empty();
                    }
                    _ => prop_assert_eq!(store.owed(), []),
                }
            }
        }
    }
}
