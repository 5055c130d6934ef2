//! What is remembered of one device.

use std::collections::BTreeMap;

use device_protocol::Timestamp;
use device_protocol::update::Stage;
use edge_core::time::{Millis, Now};

use super::{COMPLAIN_EVERY, LINES_BURST, LINES_PER_S, REPORT_EVERY, REPORTS_BURST, Told};

/// The latest value of a figure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    pub(super) value: i64,
    pub(super) measured: Timestamp,
    pub(super) came_at: Millis,
}

/// Whether it is connected, and when it was heard last.
pub(super) type Rank = (bool, Millis);

/// One device.
#[derive(Debug)]
pub(super) struct Entry {
    /// Connections under its name, now.
    pub(super) connections: u32,
    pub(super) seen_at: Millis,
    /// Boot and sequence of its last message that had them.
    pub(super) last: Option<(u64, u64)>,
    pub(super) messages: u64,
    pub(super) repeats: u64,
    pub(super) refused: u64,
    pub(super) undecodable: u64,
    pub(super) lines_dropped: u64,
    /// Of those, not told with a line yet; those that the device dropped are among them.
    pub(super) lines_untold: u64,
    pub(super) metrics: BTreeMap<String, Figure>,
    pub(super) firmware: Option<Told>,
    /// Image and stage that the control plane was told last.
    pub(super) reported: Option<([u8; 8], Stage)>,
    reports_left: u32,
    reports_since: Millis,
    complained_at: Option<Millis>,
    complaints_untold: u64,
    /// Lines that may pass now, and since when that is so.
    lines_left: u32,
    lines_since: Millis,
}

impl Entry {
    pub(super) fn new(now: Now) -> Self {
        Self {
            connections: 0,
            seen_at: now.at,
            last: None,
            messages: 0,
            repeats: 0,
            refused: 0,
            undecodable: 0,
            lines_dropped: 0,
            lines_untold: 0,
            metrics: BTreeMap::new(),
            firmware: None,
            reported: None,
            reports_left: REPORTS_BURST,
            reports_since: now.at,
            complained_at: None,
            complaints_untold: 0,
            lines_left: LINES_BURST,
            lines_since: now.at,
        }
    }

    /// Which one is forgotten first: those away before those connected, then by when they were heard.
    pub(super) fn rank(&self) -> Rank {
        (self.connections > 0, self.seen_at)
    }

    /// Takes one line of the rate, if there is one.
    pub(super) fn lets_line_through(&mut self, now: Millis) -> bool {
        const LINE: Millis = Millis(1_000 / LINES_PER_S as u64);
        let (left, since) = (&mut self.lines_left, &mut self.lines_since);
        take(left, since, LINE, LINES_BURST, now)
    }

    /// Takes one report of the rate, if there is one.
    pub(super) fn lets_report_through(&mut self, now: Millis) -> bool {
        let (left, since) = (&mut self.reports_left, &mut self.reports_since);
        take(left, since, REPORT_EVERY, REPORTS_BURST, now)
    }

    /// When the next report of the rate is there, after one was refused.
    pub(super) fn report_due(&self) -> Millis {
        self.reports_since + REPORT_EVERY
    }

    /// Whether it is time to complain; then, how many complaints were not told before.
    pub(super) fn complain(&mut self, now: Millis) -> Option<u64> {
        if self.complained_at.is_some_and(|at| now < at + COMPLAIN_EVERY) {
            self.complaints_untold += 1;
            return None;
        }
        self.complained_at = Some(now);
        Some(std::mem::take(&mut self.complaints_untold))
    }
}

/// Takes one of `left`, which grows by one every `each` up to `burst`.
fn take(left: &mut u32, since: &mut Millis, each: Millis, burst: u32, now: Millis) -> bool {
    let earned = now.since(*since).0 / each.0;
    *since = *since + Millis(earned * each.0);
    let earned = u32::try_from(earned).unwrap_or(u32::MAX);
    *left = left.saturating_add(earned).min(burst);
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}
