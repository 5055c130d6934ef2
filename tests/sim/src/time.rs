//! Virtual time, in microseconds since the simulation began.
//!
//! Each reading of the monotonic clock costs a little time, so that what the loop bounds by time
//! (its turns) is bounded here too, and costs the same at every run of a seed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use edge_agent::agent::stepped::{Boot, Clocks};

use crate::rng::Rng;

/// One second.
pub const SECOND: u64 = 1_000_000;
/// One millisecond.
pub const MILLI: u64 = 1_000;
/// The wall clock at the beginning: 2027-01-15, in milliseconds since 1970.
const WALL_MS: u64 = 1_800_000_000_000;
/// What one reading of the clock costs, at most.
const READING_US_MAX: u64 = 12;

/// The clocks of the simulated machine.
#[derive(Clone)]
pub struct Time(Rc<Inner>);

struct Inner {
    now: Cell<u64>,
    /// Added to the wall clock, in milliseconds.
    wall_offset_ms: Cell<i64>,
    /// Set while the system vouches for the wall clock; another number each time.
    disciplined: Cell<Option<u64>>,
    settings: Cell<u64>,
    /// Boots of the machine, and when the last one was.
    boot: Cell<(u64, u64)>,
    rng: RefCell<Rng>,
}

impl Time {
    /// Time at its beginning.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        Self(Rc::new(Inner {
            now: Cell::new(0),
            wall_offset_ms: Cell::new(0),
            disciplined: Cell::new(None),
            settings: Cell::new(0),
            boot: Cell::new((1, 0)),
            rng: RefCell::new(rng),
        }))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.0.now.get()
    }

    /// Time goes on to `at`; it never goes back.
    pub fn advance_to(&self, at: u64) {
        self.0.now.set(self.now().max(at));
    }

    /// Sets the wall clock off by so much, and whether the system vouches for it.
    pub fn set_wall(&self, offset_ms: i64, disciplined: bool) {
        self.0.wall_offset_ms.set(offset_ms);
        self.0.settings.set(self.0.settings.get() + 1);
        self.0.disciplined.set(disciplined.then_some(self.0.settings.get()));
    }

    /// The machine boots.
    pub fn boot_again(&self) {
        self.0.boot.set((self.0.boot.get().0 + 1, self.now()));
    }

    /// The true wall clock in milliseconds since 1970: what a control plane shows.
    #[must_use]
    pub fn true_wall_ms(&self) -> u64 {
        WALL_MS + self.now() / MILLI
    }

    /// How far back the wall clock must be set to show 1970.
    #[must_use]
    pub fn to_1970_ms(&self) -> i64 {
        -self.true_wall_ms().cast_signed()
    }
}

impl Clocks for Time {
    fn mono(&self) -> Duration {
        let cost = self.0.rng.borrow_mut().within(1, READING_US_MAX);
        self.advance_to(self.now() + cost);
        Duration::from_micros(self.now())
    }

    fn unix_ms(&self) -> u64 {
        self.true_wall_ms().saturating_add_signed(self.0.wall_offset_ms.get())
    }

    fn disciplined(&self) -> Option<u64> {
        self.0.disciplined.get()
    }

    fn boot(&self) -> Option<Boot> {
        let (id, began) = self.0.boot.get();
        Some(Boot { id, since_ms: (self.now() - began) / MILLI })
    }
}
