//! The system's clocks, but for the monotonic one: the one place that reads them for decisions about time.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// What it shows, in milliseconds since 1970; 0 before that.
#[must_use]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let shown = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    #[cfg(feature = "plant")]
    let shown = planted::read().map_or(shown, |(unix_ms, _)| unix_ms);
    shown
}

/// Set where the system's time daemon says that the clock is disciplined: another number each time
/// it found it right or set it right.
#[must_use]
pub(crate) fn disciplined() -> Option<u64> {
    #[cfg(feature = "plant")]
    if let Some((_, disciplined)) = planted::read() {
        return disciplined;
    }
    /// `systemd-timesyncd` touches it at each synchronization.
    const SYNCED_FLAG: &str = "/run/systemd/timesync/synchronized";
    let touched = std::fs::metadata(SYNCED_FLAG).and_then(|flag| flag.modified()).ok()?;
    let since = touched.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// How long the machine has been up, in milliseconds, in steps of ten; the time of a sleep counts.
#[must_use]
pub(crate) fn uptime_ms() -> Option<u64> {
    hundredths(&fs::read_to_string("/proc/uptime").ok()?)
}

/// How long ago the system made this process, in milliseconds, in steps of ten.
#[must_use]
pub(crate) fn process_ms() -> Option<u64> {
    let ticks_per_s = rustix::param::clock_ticks_per_second();
    let begun = begun_ms(&fs::read_to_string("/proc/self/stat").ok()?, ticks_per_s)?;
    Some(uptime_ms()?.saturating_sub(begun))
}

/// The first number of `/proc/uptime`: seconds with two decimals.
fn hundredths(uptime: &str) -> Option<u64> {
    let (seconds, rest) = uptime.split_once('.')?;
    let (seconds, hundredths): (u64, u64) = (seconds.parse().ok()?, rest.get(..2)?.parse().ok()?);
    Some(seconds * 1_000 + hundredths * 10)
}

/// Field 22 of `/proc/PID/stat`, counted behind the name, which may hold anything.
fn begun_ms(stat: &str, ticks_per_s: u64) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let ticks: u64 = behind.split_ascii_whitespace().nth(19)?.parse().ok()?;
    (ticks * 1_000).checked_div(ticks_per_s)
}

/// `HOLM_PLANT=clock:FILE`: the clock shows what is written in FILE. A test writes
/// `ERROR_MS [DISCIPLINED]`: how far it is off, and the number that [`disciplined`] gives.
#[cfg(feature = "plant")]
mod planted {
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::time::{SystemTime, UNIX_EPOCH};

    static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let plant = std::env::var("HOLM_PLANT").ok()?;
        plant.strip_prefix("clock:").map(PathBuf::from)
    });

    pub(super) fn read() -> Option<(u64, Option<u64>)> {
        let text = std::fs::read_to_string(FILE.as_ref()?).expect("the planted clock is there");
        let mut words = text.split_whitespace();
        let error_ms: i64 = words.next()?.parse().expect("ERROR_MS [DISCIPLINED]");
        let disciplined = words.next().map(|word| word.parse().expect("a number"));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let true_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Some((true_ms.saturating_add_signed(error_ms), disciplined))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_system_are_read() {
        assert_eq!(hundredths("13933.33 3994.16\n"), Some(13_933_330));
        assert_eq!(hundredths("soon"), None);
        let stat = "7 (a) b 3) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0 1234 99 1";
        assert_eq!(begun_ms(stat, 100), Some(12_340));
        assert_eq!(begun_ms("7 (a", 100), None);
        assert!(process_ms().is_some_and(|age| age < uptime_ms().expect("it is up")));
    }
}
