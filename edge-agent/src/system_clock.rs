//! The system's wall clock: the one place that reads it for decisions about time.

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
