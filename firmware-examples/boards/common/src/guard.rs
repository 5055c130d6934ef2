//! What the watchdog is fed by: not a timer alone, but a sensor's task that gets on.
//!
//! A reading that has begun must be in the queue before [`STUCK_MS_MAX`]: sensor, flash and the client's task have a part in
//! that. The link to the gateway has none: a device without a gateway measures on.

use core::sync::atomic::{AtomicU32, Ordering};

use embassy_time::{Duration, Instant, Ticker};

/// Time for a reading, with an erased page of flash on its way, in milliseconds.
pub const STUCK_MS_MAX: u32 = 60_000;
/// From look to look, in milliseconds. A watchdog must wait for a multiple of it.
pub const FEED_MS: u64 = 1_000;

/// No reading is under way.
const IDLE: u32 = 0;
/// Since when one is, in milliseconds from the start, which wrap after 49 days.
static BUSY_SINCE_MS: AtomicU32 = AtomicU32::new(IDLE);

/// A reading that is under way, until it is dropped.
pub(crate) struct Busy(());

impl Busy {
    pub(crate) fn begin() -> Self {
        BUSY_SINCE_MS.store(now_ms().max(IDLE + 1), Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY_SINCE_MS.store(IDLE, Ordering::Relaxed);
    }
}

/// Feeds the watchdog for as long as the device gets on; then says so and lets it bite.
pub async fn run(mut feed: impl FnMut()) -> ! {
    let mut ticker = Ticker::every(Duration::from_millis(FEED_MS));
    loop {
        if is_stuck(BUSY_SINCE_MS.load(Ordering::Relaxed), now_ms()) {
            defmt::error!("a reading takes longer than {} ms: the watchdog resets", STUCK_MS_MAX);
        } else {
            feed();
        }
        ticker.next().await;
    }
}

const fn is_stuck(since_ms: u32, now_ms: u32) -> bool {
    since_ms != IDLE && now_ms.wrapping_sub(since_ms) > STUCK_MS_MAX
}

#[expect(clippy::cast_possible_truncation, reason = "differences are taken modulo 2^32")]
fn now_ms() -> u32 {
    Instant::now().as_millis() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reading_that_takes_too_long_is_stuck() {
        assert!(!is_stuck(IDLE, u32::MAX), "nothing is under way");
        assert!(!is_stuck(5, 5 + STUCK_MS_MAX));
        assert!(is_stuck(5, 6 + STUCK_MS_MAX));
        // Begun before the milliseconds wrapped.
        assert!(!is_stuck(u32::MAX - 10, 10));
        assert!(is_stuck(u32::MAX - 10, STUCK_MS_MAX));
    }

    #[test]
    fn a_reading_is_under_way_until_it_is_dropped() {
        let busy = Busy::begin();
        assert_ne!(BUSY_SINCE_MS.load(Ordering::Relaxed), IDLE);
        drop(busy);
        assert_eq!(BUSY_SINCE_MS.load(Ordering::Relaxed), IDLE);
    }
}
