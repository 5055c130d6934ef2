//! How much of its life the disk has left.

use std::fmt::Write;

use serde_json::Value;

use super::bytes;
use crate::doctor::Finding;

const USED_WARNING_PERCENT: f64 = 80.0;
const LEFT_WARNING_YEARS: f64 = 2.0;
/// The rate of less running time is that of setting things up, and not told.
const RATE_AFTER_MS: u64 = 86_400_000;

/// By what the block device counts, where the system tells; else by what the store wrote.
pub(super) fn wear(disk: &Value) -> Option<Finding> {
    const CHECK: &str = "wear";
    const LESS: &str = "write less often: `commit_interval` in [disk] (acks and outputs wait up to so \
                        long); and have another card ready, made of a backup (`edge-agent backup`). Where \
                        its data sheet says that this one takes more, set `endurance` in [disk]";
    let of = if disk["device_written_bytes"].is_u64() { "device" } else { "life" };
    let number = |what: &str| disk[format!("{of}_{what}")].as_u64();
    let has_rate = number("ms") >= Some(RATE_AFTER_MS);
    let mut what = match number("written_bytes_per_day").filter(|_| has_rate) {
        Some(day) => format!("{} a day over its life", bytes(day)),
        None => format!("{} written so far", bytes(number("written_bytes")?)),
    };
    let used = disk["life_used_percent"].as_f64();
    let left = disk["years_left"].as_f64().filter(|_| has_rate);
    let wrote = "invariant: writing to a string succeeds";
    if let (Some(used), Some(all)) = (used, disk["endurance_bytes"].as_u64()) {
        write!(what, "; {used} % of the {} that it can take are used", bytes(all)).expect(wrote);
    }
    if let Some(left) = left {
        write!(what, ", {left} years left at this rate").expect(wrote);
    }
    let is_worn = used.is_some_and(|used| used > USED_WARNING_PERCENT)
        || left.is_some_and(|left| left < LEFT_WARNING_YEARS);
    Some(if is_worn { Finding::warning(CHECK, what, LESS) } else { Finding::ok(CHECK, what) })
}
