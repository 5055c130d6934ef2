//! How long a device waits after the broker has ended its session. Clock-free.
//!
//! Without it two devices of one name would take the session from each other as fast as their lines carry a hello.

const WAIT_MS_MIN: u64 = 1_000;
/// A session that lived for so long starts again at the shortest wait.
const WAIT_MS_MAX: u64 = 60_000;

/// The wait of one address: it doubles from session to session.
#[derive(Debug, Default)]
pub(super) struct Holdoff {
    wait_ms: u64,
    up_ms: u64,
    until_ms: u64,
}

impl Holdoff {
    /// A session has begun.
    pub(super) fn up(&mut self, now_ms: u64) {
        self.up_ms = now_ms;
    }

    /// The broker has ended the session.
    pub(super) fn hung_up(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.up_ms) >= WAIT_MS_MAX {
            self.wait_ms = 0;
        }
        self.wait_ms = (self.wait_ms * 2).clamp(WAIT_MS_MIN, WAIT_MS_MAX);
        self.until_ms = now_ms + self.wait_ms;
    }

    /// Before then there is no new session.
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_to_a_minute_and_starts_again_after_a_long_session() {
        let (mut holdoff, mut now) = (Holdoff::default(), 0);
        let mut waits = Vec::new();
        for lived_ms in [5; 8].into_iter().chain([60_000]) {
            holdoff.up(now);
            now += lived_ms;
            holdoff.hung_up(now);
            waits.push((holdoff.until_ms() - now) / 1_000);
            now = holdoff.until_ms();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 1]);
    }
}
