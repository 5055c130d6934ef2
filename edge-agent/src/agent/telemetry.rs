//! Events of core and broker become log lines; whoever follows gets those of functions, and what an
//! operator must know.

use std::collections::BTreeMap;

use edge_broker::broker::{BrokerEvent, DropReason};
use edge_core::event::CoreEvent;
use edge_core::id::EventId;
use edge_core::outcome::Outcome;
use edge_core::time::{Millis, Now};
use sync_protocol::wire::{LogLevel, LogLine};

use super::feed::Feed;
use super::seams::Watch;
use crate::runtime::{self, Completion};

/// Interval of health reports.
const HEALTH_EVERY: Millis = Millis(30_000);

/// Drops are told at most this often: a flood of messages must not become a flood of lines.
const DROPS_EVERY: Millis = Millis(1_000);

/// What is told, to whom and when.
#[derive(Default)]
pub(super) struct Telemetry {
    /// Lines for whoever follows.
    pub(super) feed: Feed,
    watch: Option<Box<dyn Watch>>,
    health_at: Millis,
    /// Messages the broker has dropped and nobody was told of.
    untold_drops: BTreeMap<DropReason, u64>,
    drops_told_at: Millis,
    /// Attempts that failed since start.
    pub faults: u64,
}

impl Telemetry {
    /// Nothing was told yet; `watch` sees every event of the core.
    #[must_use]
    pub(super) fn new(watch: Option<Box<dyn Watch>>) -> Self {
        Self { watch, ..Self::default() }
    }

    /// When there is something to send, or drops are to be told.
    #[must_use]
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let drops = (!self.untold_drops.is_empty()).then_some(self.drops_told_at + DROPS_EVERY);
        [Some(self.health_at), self.feed.next_deadline(), drops].into_iter().flatten().min()
    }

    /// Whether a health report is due; the next one is set.
    pub(super) fn health_is_due(&mut self, now: Millis) -> bool {
        let due = self.health_at <= now;
        if due {
            self.health_at = now + HEALTH_EVERY;
        }
        due
    }

    /// The control plane is there (again): it is told at once how the gateway is.
    pub(super) fn greet(&mut self) {
        self.health_at = Millis::default();
    }

    /// An attempt has ended.
    pub(super) fn attempt(&mut self, done: &Completion, now: Now) {
        let Completion { function, events, .. } = done;
        // What is said of a whole batch is said of no event of it.
        let only = if let [only] = events.as_slice() { Some(*only) } else { None };
        let of_attempt = |level, event: Option<EventId>, text: String| LogLine {
            unix_ms: now.wall.unix_ms,
            level,
            source: function.as_str().to_owned(),
            event: event.map(crate::uplink::convert::event_id),
            text,
        };
        for line in &done.logs {
            log(line.level, function.as_str(), &line.text);
            let event = line.of.and_then(|of| events.get(usize::from(of)).copied()).or(only);
            self.feed.push(of_attempt(level(line.level), event, line.text.clone()), now.at);
        }
        if let Outcome::Fault(fault) = &done.outcome {
            self.faults += 1;
            let (first, kind) = (events.first(), &fault.kind);
            let events = events.len();
            tracing::warn!(%function, ?first, events, %kind, fault.message, "attempt faulted");
            let of = if events > 1 { format!(" in a batch of {events}") } else { String::new() };
            let text = format!("{kind}{of}: {}", fault.message);
            self.feed.push(of_attempt(LogLevel::Error, only, text), now.at);
        }
    }

    /// Something happened in the core.
    pub(super) fn core(&mut self, event: &CoreEvent, now: Now) {
        if let Some(watch) = &mut self.watch {
            watch.core(event, now);
        }
        if self.feed.is_followed(now.at)
            && let Some((level, source, text)) = told(event)
        {
            let (unix_ms, source) = (now.wall.unix_ms, source.to_owned());
            self.feed.push(LogLine { unix_ms, level, source, event: None, text }, now.at);
        }
        match event {
            CoreEvent::Admitted { .. }
            | CoreEvent::Started { .. }
            | CoreEvent::BatchStarted { .. }
            | CoreEvent::Done { .. }
            | CoreEvent::Unrouted { .. }
            | CoreEvent::Filtered { .. }
            | CoreEvent::ReceiptTaken { .. } => tracing::trace!(?event, "core"),
            CoreEvent::DeadLettered { .. }
            | CoreEvent::BatchHalved { .. }
            | CoreEvent::Shed { .. }
            | CoreEvent::OutboxDropped { .. }
            | CoreEvent::FunctionPaused { .. }
            | CoreEvent::SafeModeLeft
            | CoreEvent::ReceiptRefused { .. }
            | CoreEvent::CrashCounted { .. } => tracing::warn!(?event, "core"),
            CoreEvent::Activated { .. }
            | CoreEvent::Deactivated { .. }
            | CoreEvent::FunctionResumed { .. } => {
                tracing::info!(?event, "core");
            }
            event => tracing::debug!(?event, "core"),
        }
    }

    /// Something happened in the broker.
    pub(super) fn broker(&mut self, event: &BrokerEvent, now: Millis) {
        match event {
            BrokerEvent::Dropped { reason, messages } => {
                *self.untold_drops.entry(*reason).or_default() += messages;
                self.tell_drops(now);
            }
            BrokerEvent::Violation { .. } => tracing::warn!(?event, "broker"),
            event => tracing::debug!(?event, "broker"),
        }
    }

    /// Tells of dropped messages, unless that was done a moment ago.
    pub(super) fn tell_drops(&mut self, now: Millis) {
        if now < self.drops_told_at + DROPS_EVERY {
            return;
        }
        while let Some((reason, messages)) = self.untold_drops.pop_first() {
            tracing::warn!(?reason, messages, "messages were dropped");
            self.drops_told_at = now;
        }
    }
}

/// What an operator who follows wants to know: level, `app/function` or nothing for the gateway
/// itself, text.
fn told(event: &CoreEvent) -> Option<(LogLevel, &str, String)> {
    use LogLevel::{Error, Info, Warn};
    Some(match event {
        CoreEvent::Retrying { function, error, .. } => {
            (Warn, function.as_str(), format!("will be tried again: {error}"))
        }
        CoreEvent::BatchHalved { function, size, error, .. } => {
            let text = format!("a batch faulted and goes again, at most {size} at once: {error}");
            (Warn, function.as_str(), text)
        }
        CoreEvent::DeadLettered { function, event, reason, error, .. } => {
            (Error, function.as_str(), format!("event {event} was given up ({reason:?}): {error}"))
        }
        CoreEvent::Shed { function, event, reason, .. } => {
            (Warn, function.as_str(), format!("event {event} was shed ({reason:?})"))
        }
        CoreEvent::FunctionPaused { function, faults, again, .. } => {
            let what = if *again { "still paused" } else { "paused" };
            (Error, function.as_str(), format!("{what} after {faults} faults in a row"))
        }
        CoreEvent::SafeModeLeft => (Info, "", "functions run again".to_owned()),
        CoreEvent::FunctionResumed { function } => {
            (Info, function.as_str(), "no longer paused".to_owned())
        }
        CoreEvent::OutboxDropped { from, to, reason, .. } => {
            (Warn, "", format!("records {} to {} were dropped ({reason:?})", from.0, to.0))
        }
        CoreEvent::Activated { app, revision, on_probation } => {
            let how = if *on_probation { ", on probation" } else { "" };
            (Info, "", format!("{app}: revision {} runs{how}", &revision.to_string()[..12]))
        }
        CoreEvent::Deactivated { app } => (Info, "", format!("{app}: runs no more")),
        _ => return None,
    })
}

fn log(level: runtime::LogLevel, source: &str, text: &str) {
    match level {
        runtime::LogLevel::Error | runtime::LogLevel::Panic => {
            tracing::error!(target: "function", source, text);
        }
        runtime::LogLevel::Warn => tracing::warn!(target: "function", source, text),
        runtime::LogLevel::Info => tracing::info!(target: "function", source, text),
        runtime::LogLevel::Debug => tracing::debug!(target: "function", source, text),
        runtime::LogLevel::Trace => tracing::trace!(target: "function", source, text),
    }
}

fn level(level: runtime::LogLevel) -> LogLevel {
    match level {
        runtime::LogLevel::Trace => LogLevel::Trace,
        runtime::LogLevel::Debug => LogLevel::Debug,
        runtime::LogLevel::Info => LogLevel::Info,
        runtime::LogLevel::Warn => LogLevel::Warn,
        runtime::LogLevel::Error | runtime::LogLevel::Panic => LogLevel::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_told_at_most_once_a_second_and_none_is_forgotten() {
        let mut telemetry = Telemetry { health_at: Millis(60_000), ..Telemetry::default() };
        let drop = BrokerEvent::Dropped { reason: DropReason::Expired, messages: 2 };
        telemetry.broker(&drop, Millis(5_000));
        assert!(telemetry.untold_drops.is_empty(), "the first at once");
        telemetry.broker(&drop, Millis(5_001));
        telemetry.broker(&drop, Millis(5_999));
        assert_eq!(telemetry.untold_drops[&DropReason::Expired], 4);
        assert_eq!(telemetry.next_deadline(), Some(Millis(6_000)));
        telemetry.tell_drops(Millis(6_000));
        assert!(telemetry.untold_drops.is_empty());
        assert_eq!(telemetry.next_deadline(), Some(Millis(60_000)));
    }
}
