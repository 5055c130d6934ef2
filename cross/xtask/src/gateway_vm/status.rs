//! What the gateway says of itself on its console.

use std::collections::BTreeMap;

/// A status line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Milliseconds since the kernel started.
    pub(crate) up_ms: u64,
    /// Whether the control plane is reached.
    pub(crate) is_linked: bool,
    /// Memory of the agent in KiB, each shared page in parts, from `smaps_rollup` in the guest.
    pub(crate) pss_kib: u64,
    /// That of its launcher.
    pub(crate) launcher_kib: u64,
}

/// `... holm: status up_ms=1 slot=a agent=2 agent_slot=a agent_state=trial uplink=up pss_kib=3 launcher_kib=4 ...`
pub(crate) fn parse(line: &str) -> Option<Status> {
    let (_, words) = line.split_once("holm: status ")?;
    let pairs = words.split_whitespace().filter_map(|word| word.split_once('='));
    let values: BTreeMap<_, _> = pairs.collect();
    Some(Status {
        up_ms: values.get("up_ms")?.parse().ok()?,
        is_linked: *values.get("uplink")? == "up",
        pss_kib: values.get("pss_kib")?.parse().ok().filter(|pss| *pss > 0)?,
        launcher_kib: values.get("launcher_kib")?.parse().ok()?,
    })
}

/// All status lines of a part of the console.
pub(crate) fn all(console: &str) -> Vec<Status> {
    console.lines().filter_map(parse).collect()
}

/// The middle one of some numbers; `None` of none.
pub(crate) fn median(mut numbers: Vec<u64>) -> Option<u64> {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied()
}

/// The number before ` ms` behind `before` in a line of the console.
pub(crate) fn milliseconds(line: &str, before: &str) -> Option<u64> {
    let (_, rest) = line.split_once(before)?;
    rest.split_once(" ms")?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Status, all, median, milliseconds};

    #[test]
    fn status_lines_are_found_among_others() {
        let console = "U-Boot\nholm: status up_ms=31240 slot=a agent=258 agent_slot=b agent_state=confirmed uplink=up \
                       pss_kib=7216 launcher_kib=1844 data_free_kib=9\n\
                       holm: status up_ms=40000 slot=a agent=none agent_slot=none agent_state=none uplink=none \
                       pss_kib=0 launcher_kib=1844 data_free_kib=9\n";
        let status = Status { up_ms: 31_240, is_linked: true, pss_kib: 7_216, launcher_kib: 1_844 };
        assert_eq!(all(console), [status]);
    }

    #[test]
    fn times_are_read_from_lines() {
        let line = "holm: agent ready 1730 ms after its start, up 29290 ms";
        assert_eq!(milliseconds(line, "agent ready"), Some(1_730));
        assert_eq!(milliseconds(line, ", up"), Some(29_290));
        assert_eq!(milliseconds(line, "slot"), None);
        assert_eq!(median(vec![3, 1, 2]), Some(2));
        assert_eq!(median(Vec::new()), None);
    }
}
