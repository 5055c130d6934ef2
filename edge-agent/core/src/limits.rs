//! Bounds of the core (DESIGN, section 7). Every queue has one, and a policy at it.
//!
//! | what | bound | at the bound |
//! |---|---|---|
//! | jobs of one function | [`Limits::share_jobs`], [`Limits::share_bytes`] | its `when_full` |
//! | jobs in all | `queue_jobs_max`, `queue_bytes_max` | the same; see below |
//! | deliveries held for room | `held_max`, each `hold_ms_max` long | the oldest is shed where it has no room |
//! | outbox, live bytes | `outbox_bytes_max` | by the series' policy, least urgent first ([`crate::outbox`]) |
//! | last values in the outbox | [`crate::outbox::LATEST_KEYS_MAX`] | the oldest is dropped |
//! | dead letters | `dead_letters_max` | the oldest is pushed out |
//! | key of a lane | [`LANE_KEY_BYTES_MAX`], from a body of at most [`LANE_BODY_BYTES_MAX`] | the lane of the events without key |
//! | attempts of one function at once | its concurrency, at most [`function_slots_max`] | its events wait |
//! | slots that functions reserve | [`reservable_slots`] | the deployment is refused |
//! | devices with a dedupe window | `devices_max` | the one not heard for longest is forgotten |
//!
//! No function can be starved of room by the backlog of others: half of the queue is divided
//! evenly among the functions as their own ([`Limits::own_jobs`]), the other half is common, and
//! one function never has more than a quarter of the whole. A function that finds the common
//! half taken still has its own part.

use crate::time::Millis;

/// Longest key of a lane in bytes of UTF-8; an event with a longer one has none.
pub const LANE_KEY_BYTES_MAX: usize = 256;

/// Longest body in bytes that is searched for the key of a lane: reading it is part of a turn.
pub const LANE_BODY_BYTES_MAX: usize = 64 << 10;

/// Deepest key in a body: `body.a.b.c` has three names.
pub const LANE_PATH_NAMES_MAX: usize = 8;

/// Slots of one function at most, of so many workers: a quarter, at least 1.
#[must_use]
pub fn function_slots_max(slots: u16) -> u16 {
    (slots / 4).max(1)
}

/// Slots that functions may reserve in all, of so many workers: what leaves a quarter for everybody,
/// and at least 2.
#[must_use]
pub fn reservable_slots(slots: u16) -> u16 {
    slots.saturating_sub((slots / 4).max(2))
}

/// Bounds, configurable. The defaults are those of DESIGN, section 7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Jobs in the queue, running ones included.
    pub queue_jobs_max: u32,
    /// Their events, in bytes ([`crate::op::Event::cost_bytes`]).
    pub queue_bytes_max: u64,
    /// How long the ack of a delivery may wait for room.
    pub hold_ms_max: Millis,
    /// Deliveries that wait for room; at least 1.
    pub held_max: u32,
    /// Functions in a row that one device message may pass through.
    pub hops_max: u8,
    /// Crashes of the process during its attempts after which a job is given up.
    pub crashes_max: u8,
    /// Dead letters kept.
    pub dead_letters_max: u32,
    /// Devices whose message ids are remembered. Lowered over a restart, the surplus goes with the messages
    /// that come, those first that were not heard since.
    pub devices_max: u32,
    /// Live bytes of the outbox over all streams ([`crate::op::OutboxRecord::cost_bytes`]).
    pub outbox_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_jobs_max: 10_000,
            queue_bytes_max: 64 << 20,
            hold_ms_max: Millis::from_secs(10),
            held_max: 10_000,
            hops_max: 8,
            crashes_max: 2,
            dead_letters_max: 1_000,
            devices_max: 1_000,
            outbox_bytes_max: 1 << 30,
        }
    }
}

impl Limits {
    /// Most jobs of one function: a quarter of the queue.
    #[must_use]
    pub fn share_jobs(&self) -> u32 {
        (self.queue_jobs_max / 4).max(1)
    }

    /// Most bytes of one function's events: a quarter of the queue.
    #[must_use]
    pub fn share_bytes(&self) -> u64 {
        (self.queue_bytes_max / 4).max(1)
    }

    /// Jobs that each of `functions` functions has for itself, whatever the others do.
    #[must_use]
    pub fn own_jobs(&self, functions: u32) -> u32 {
        (self.queue_jobs_max / 2 / functions.max(1)).min(self.share_jobs())
    }

    /// Bytes that each of `functions` functions has for itself.
    #[must_use]
    pub fn own_bytes(&self, functions: u32) -> u64 {
        (self.queue_bytes_max / 2 / u64::from(functions.max(1))).min(self.share_bytes())
    }
}
