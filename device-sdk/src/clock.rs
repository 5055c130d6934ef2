//! The time, as the gateway tells it. Pure: the caller says how long the device has been running.
//!
//! A device has no clock that goes on without power. It asks the gateway; half of the round trip is how wrong the answer
//! can be. Until the first answer stamps count from the start of the device and say so.

use device_protocol::system::{TimeReply, TimeRequest};
use device_protocol::{Quality, Timestamp};

/// How often the device asks for the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ClockConfig {
    /// From one answer to the next request, in milliseconds.
    pub period_ms: u32,
    /// From a request without an answer to the next one, in milliseconds.
    pub retry_ms: u32,
    /// An answer that took longer is not used, in milliseconds.
    pub round_trip_max_ms: u32,
    /// A stamp that may be more wrong than this is no longer [`Quality::Synced`], in milliseconds.
    pub error_ms_max: u32,
}

impl Default for ClockConfig {
    fn default() -> Self {
        Self {
            period_ms: 15 * 60_000,
            retry_ms: 10_000,
            round_trip_max_ms: 4_000,
            error_ms_max: 5_000,
        }
    }
}

/// How wrong the device's oscillator is assumed to be, in parts per million.
const DRIFT_PPM: u64 = 100;

/// See the module.
#[derive(Clone, Debug)]
pub struct Clock {
    config: ClockConfig,
    /// What the gateway said, and the uptime that it belongs to.
    told: Option<Told>,
    /// Uptime of the open request.
    asked_ms: Option<u64>,
    /// Uptime from which on to ask.
    due_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    now: Timestamp,
    at_ms: u64,
    error_ms: u32,
}

impl Clock {
    /// One that knows nothing yet.
    #[must_use]
    pub const fn new(config: ClockConfig) -> Self {
        Self { config, told: None, asked_ms: None, due_ms: 0 }
    }

    /// The stamp of now.
    #[must_use]
    pub fn stamp(&self, uptime_ms: u64) -> Timestamp {
        self.told.map_or(Timestamp::uptime(uptime_ms), |told| {
            let since_ms = uptime_ms.saturating_sub(told.at_ms);
            let ms = told.now.ms.saturating_add(since_ms);
            let is_sure = self.error_ms(uptime_ms).is_some_and(|ms| ms <= self.config.error_ms_max);
            let quality = if is_sure { told.now.quality } else { Quality::Unsynced };
            Timestamp { quality, ms }
        })
    }

    /// How wrong [`Clock::stamp`] can be, in milliseconds; none without a time.
    #[must_use]
    pub fn error_ms(&self, uptime_ms: u64) -> Option<u32> {
        let told = self.told?;
        let drift_ms = uptime_ms.saturating_sub(told.at_ms).saturating_mul(DRIFT_PPM) / 1_000_000;
        Some(told.error_ms.saturating_add(u32::try_from(drift_ms).unwrap_or(u32::MAX)))
    }

    /// Uptime from which on [`Clock::request`] has something to say.
    #[must_use]
    pub const fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// The request to send now, if one is due. It counts as sent.
    pub fn request(&mut self, uptime_ms: u64) -> Option<TimeRequest> {
        if uptime_ms < self.due_ms {
            return None;
        }
        self.asked_ms = Some(uptime_ms);
        self.due_ms = uptime_ms.saturating_add(u64::from(self.config.retry_ms));
        Some(TimeRequest { uptime_ms })
    }

    /// An answer came; whether it was used. An answer to no open request, a late one, and one that is worse than what
    /// is known are not.
    pub fn reply(&mut self, reply: &TimeReply, uptime_ms: u64) -> bool {
        if self.asked_ms != Some(reply.uptime_ms) || reply.now.quality == Quality::Uptime {
            return false;
        }
        self.asked_ms = None;
        let Some(round_trip_ms) = uptime_ms.checked_sub(reply.uptime_ms) else { return false };
        if round_trip_ms > u64::from(self.config.round_trip_max_ms) {
            return false;
        }
        self.due_ms = uptime_ms.saturating_add(u64::from(self.config.period_ms));
        let half_ms = round_trip_ms / 2;
        let error_ms = u32::try_from(round_trip_ms - half_ms).unwrap_or(u32::MAX);
        let better = self.told.is_none_or(|told| {
            reply.now.quality > told.now.quality
                || (reply.now.quality == told.now.quality
                    && self.error_ms(uptime_ms).is_none_or(|known_ms| error_ms <= known_ms))
        });
        // Where the gateway has lost its own clock, what it said before is still the better one.
        if better {
            let now = Timestamp { ms: reply.now.ms.saturating_add(half_ms), ..reply.now };
            self.told = Some(Told { now, at_ms: uptime_ms, error_ms });
        }
        better
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WALL_MS: u64 = 1_750_000_000_000;

    fn reply(uptime_ms: u64, quality: Quality, ms: u64) -> TimeReply {
        TimeReply { uptime_ms, now: Timestamp { quality, ms } }
    }

    fn asked(at_ms: u64) -> Clock {
        let mut clock = Clock::new(ClockConfig::default());
        assert_eq!(clock.request(at_ms), Some(TimeRequest { uptime_ms: at_ms }));
        clock
    }

    #[test]
    fn without_an_answer_stamps_count_from_the_start_and_say_so() {
        let mut clock = asked(0);
        assert_eq!(clock.stamp(70), Timestamp::uptime(70));
        assert_eq!(clock.request(9_999), None, "the request is still open");
        assert!(clock.request(10_000).is_some(), "it is repeated");
    }

    #[test]
    fn half_of_the_round_trip_is_added_and_is_the_error() {
        let mut clock = asked(1_000);
        assert!(clock.reply(&reply(1_000, Quality::Synced, WALL_MS), 1_100));
        assert_eq!(clock.stamp(1_100).unix_ms(), Some(WALL_MS + 50));
        assert_eq!(clock.error_ms(1_100), Some(50));
        assert_eq!(clock.error_ms(1_100 + 1_000_000), Some(50 + 100), "and the drift since");
        assert_eq!(clock.due_ms(), 1_100 + 15 * 60_000);
    }

    #[test]
    fn a_worse_answer_does_not_replace_a_better_one() {
        let mut clock = asked(0);
        assert!(clock.reply(&reply(0, Quality::Synced, WALL_MS), 10));
        let later_ms = clock.due_ms();
        assert!(clock.request(later_ms).is_some());
        assert!(!clock.reply(&reply(later_ms, Quality::Unsynced, 5), later_ms + 10));
        assert_eq!(clock.stamp(later_ms + 10).quality, Quality::Synced);
    }

    #[test]
    fn an_answer_to_no_open_request_or_a_late_one_is_not_used() {
        let mut clock = asked(1_000);
        assert!(!clock.reply(&reply(999, Quality::Synced, WALL_MS), 1_010));
        assert!(!clock.reply(&reply(1_000, Quality::Uptime, 5), 1_010));
        assert!(!clock.reply(&reply(1_000, Quality::Synced, WALL_MS), 6_000), "late");
        assert!(!clock.reply(&reply(1_000, Quality::Synced, WALL_MS), 1_010), "and closed now");
        assert_eq!(clock.stamp(7_000), Timestamp::uptime(7_000));
    }

    proptest! {
        #[test]
        fn the_true_time_is_within_the_error(there in 0_u64..2_000, back in 0_u64..2_000, later in 0_u64..1_000_000) {
            let mut clock = asked(500);
            // The gateway stamps the answer when the request arrives: at that moment it is WALL_MS.
            prop_assert!(clock.reply(&reply(500, Quality::Synced, WALL_MS), 500 + there + back));
            let uptime_ms = 500 + there + back + later;
            let (stamp, truth) = (clock.stamp(uptime_ms).ms, WALL_MS + back + later);
            prop_assert!(stamp.abs_diff(truth) <= u64::from(clock.error_ms(uptime_ms).unwrap()));
        }

        #[test]
        fn no_answer_makes_it_panic(uptime_ms: u64, told: u64, ms: u64, now_ms: u64) {
            let mut clock = Clock::new(ClockConfig::default());
            let _ = clock.request(uptime_ms);
            clock.reply(&reply(told, Quality::Synced, ms), now_ms);
            clock.reply(&reply(uptime_ms, Quality::Unsynced, ms), now_ms);
            let _ = (clock.stamp(now_ms), clock.error_ms(now_ms), clock.stamp(uptime_ms));
        }
    }
}
