//! What the gateway says of itself: `edge-agent status`, and health for the control plane.
//!
//! The fields are described in `docs/status-fields.md`; a test compares that page with the document.

use edge_broker::broker::DropReason as BrokerDrop;
use edge_core::op::DropReason;
use edge_core::status::{Counters, DropStatus, FunctionStatus, Status, StreamStatus};
use edge_core::time::{ClockQuality, Millis, WallTime};
use serde_json::{Map, Value, json};
use sync_protocol::wire::Health;

use super::gateway::Gateway;
use crate::uplink::Say;

impl Gateway {
    pub(super) fn status(&self) -> Value {
        let core = self.core.status(self.now);
        let stats = self.reader.stats();
        let broker = self.broker.status();
        let (desk, firmware) = (self.desk.counters(), self.firmware.counters());
        json!({
            "gateway": self.name,
            "version": env!("CARGO_PKG_VERSION"),
            "agent": self.update.json(),
            "system": self.system.json(),
            "epoch": self.epoch.to_string(),
            "uptime_s": self.clock.uptime_s(),
            "start_ms": self.start_ms,
            "listeners": self.listeners,
            "degraded": self.degraded(&core),
            "errors": self.errors.json(),
            "safe_mode_left_ms": self.safe_mode_left(),
            "clock": {
                "synced": self.now.wall.quality == ClockQuality::Synced,
                "error_ms": self.link.clock_error_ms,
            },
            "uplink": self.link.json(self.now.at, self.uplink.is_some()),
            "devices": {
                "connected": broker.connected,
                "sessions": broker.sessions,
                "remembered": core.devices,
                "remembered_max": core.devices_max,
                "ids_forgotten": core.counters.devices_forgotten,
                "known": self.desk.known(),
                "forgotten": desk.forgotten,
                "false_claims": core.counters.false_claims,
                "undecodable": desk.undecodable,
                "log_lines_dropped": desk.lines_dropped,
                "metrics_dropped": desk.metrics_dropped,
                "firmware_chunks": firmware.chunks,
                "firmware_refused": firmware.refused,
            },
            "buses": self.buses.json(),
            "queue": queue(&core),
            "filters": core.triggers,
            "batches": batches(&core),
            "outbox": self.outbox(&core),
            "drops": drops(&core.counters, |reason| {
                self.broker.counters().dropped.get(&reason).copied().unwrap_or_default()
            }),
            "disk": self.wear.json(&stats, self.now.at),
            "deployments": super::report::json(&self.deployments.reconciler),
            "loop": self.turns.json(),
            "store": stats,
            "broker": broker,
            "core": core,
        })
    }

    /// Depth and age of what has yet to leave the gateway.
    fn outbox(&self, core: &Status) -> Value {
        let streams = &core.outbox;
        let ages: Vec<_> = streams.iter().map(|stream| self.oldest_age(stream)).collect();
        let by_stream = streams.iter().zip(&ages).map(|(stream, age)| {
            json!({
                "stream": stream.stream,
                "records": stream.records,
                "bytes": stream.bytes,
                "stored_to": stream.stored_to,
                "newest": stream.newest,
                "oldest_age_ms": age,
            })
        });
        json!({
            "records": streams.iter().map(|stream| stream.records).sum::<u64>(),
            "bytes": streams.iter().map(|stream| stream.bytes).sum::<u64>(),
            "oldest_age_ms": ages.iter().flatten().max(),
            "streams": by_stream.collect::<Vec<_>>(),
            "dropped": core.outbox_drops.iter().map(dropped).collect::<Vec<_>>(),
            "renumbered": core.counters.outbox_renumbered,
        })
    }

    /// By the wall clock: gateway time of a record's writing is not kept with it.
    fn oldest_age(&self, stream: &StreamStatus) -> Option<Millis> {
        if stream.records == 0 {
            return None;
        }
        let StreamStatus { stream, stored_to, .. } = *stream;
        // A store that cannot be read tells so at its next commit.
        let oldest = self.reader.outbox_read(stream, stored_to.next(), 1, 1).ok()?;
        let oldest = oldest.first()?;
        age(self.timeline.of_run(oldest.epoch, oldest.time), self.now.wall)
    }

    /// Why this gateway is not well; empty where it is.
    fn degraded(&self, core: &Status) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.reader.headroom_bytes() == 0 {
            let waiting = self.room.waiting();
            reasons.push(format!(
                "the store is full: nothing new is acked until there is room on the disk or the \
                 control plane has taken records; {waiting} messages wait, their devices keep them"
            ));
        }
        if let Some(left) = self.safe_mode_left() {
            let (ends, seconds) = (self.life().ends(), left.0.div_ceil(1_000));
            reasons.push(format!(
                "safe mode: the process died {ends} times in a row; no function runs for {seconds} s \
                 yet, or until `edge-agent resume`"
            ));
        }
        if let Some(error) = self.link.clock_error_ms {
            reasons
                .push(format!("the system clock differs from the control plane's by {error} ms"));
        }
        if self.uplink.is_some() && !self.link.up {
            let reason = Some(self.link.reason.as_str()).filter(|reason| !reason.is_empty());
            reasons.push(format!("no control plane: {}", reason.unwrap_or("connecting")));
        }
        for (app, ledger) in &self.deployments.reconciler.ledger().apps {
            if let Some(failed) = &ledger.failed {
                reasons
                    .push(format!("{app}: revision {} failed: {}", failed.revision, failed.reason));
            }
        }
        reasons.extend(self.buses.degraded());
        reasons.extend(core_reasons(core));
        reasons
    }

    /// Health for the control plane and log lines for whoever follows.
    pub(super) fn report_health(&mut self) {
        if let Some(logs) = self.telemetry.feed.take(self.now.at) {
            self.say(Say::Logs(logs));
        }
        if !self.telemetry.health_is_due(self.now.at) {
            return;
        }
        let status = self.core.status(self.now);
        let outbox = &status.outbox;
        let oldest = outbox.iter().filter_map(|stream| self.oldest_age(stream)).max();
        self.say(Say::Health(Box::new(Health {
            uptime_s: self.clock.uptime_s(),
            queue_jobs: u64::from(status.jobs),
            queue_bytes: status.bytes,
            outbox_records: outbox.iter().map(|stream| stream.records).sum(),
            outbox_bytes: outbox.iter().map(|stream| stream.bytes).sum(),
            outbox_oldest_age_ms: oldest.unwrap_or_default().0,
            dead_letters: u64::from(status.dead_letters),
            clients: self.broker.status().connected as u64,
            events_done: status.counters.done,
            faults: self.telemetry.faults,
            written_bytes_day: self.wear.per_day(&self.reader.stats(), self.now.at),
            degraded: self.degraded(&status),
        })));
    }
}

fn dropped(row: &DropStatus) -> Value {
    let reason = match row.reason {
        DropReason::Full => "full",
        DropReason::Expired => "expired",
        DropReason::Purged => "purged",
        DropReason::Skipped => "skipped",
        DropReason::Newest => "newest",
        DropReason::Replaced => "replaced",
    };
    json!({ "reason": reason, "series": row.label, "records": row.records })
}

/// The wall clock's distance; `None` where it was set back meanwhile, or where the one is a time
/// and the other the label of a clock that nobody vouched for.
fn age(written: WallTime, now: WallTime) -> Option<Millis> {
    if written.quality != now.quality {
        return None;
    }
    now.unix_ms.checked_sub(written.unix_ms).map(Millis)
}

/// Functions that were given batches.
fn batches(core: &Status) -> Value {
    let given = core.functions.iter().filter(|function| function.batches > 0);
    let row = |function: &FunctionStatus| {
        json!({
            "function": function.function, "batches": function.batches, "halved": function.bisected,
        })
    };
    given.map(row).collect()
}

fn queue(core: &Status) -> Value {
    json!({
        "jobs": core.jobs,
        "bytes": core.bytes,
        "running": core.running,
        "held": core.held,
        "oldest_age_ms": core.functions.iter().filter_map(|function| function.oldest_ms).max(),
    })
}

/// Reasons that the core's own status gives.
fn core_reasons(core: &Status) -> Vec<String> {
    let mut reasons = Vec::new();
    if core.held > 0 {
        let held = core.held;
        reasons
            .push(format!("{held} messages wait for their acks: the queue of a function is full"));
    }
    for function in &core.functions {
        let (name, jobs) = (&function.function, function.jobs);
        if let Some(left) = function.paused_ms {
            let (faults, seconds) = (function.faults_in_row, left.0.div_ceil(1_000));
            let how = match function.probing {
                true => "and tried again now".to_owned(),
                false => format!("for {seconds} s yet"),
            };
            reasons.push(format!(
                "{name} is paused after {faults} faults in a row, {how}; {jobs} wait; \
                 `edge-agent functions resume {name}` ends it"
            ));
        }
        if function.dormant && jobs > 0 {
            reasons.push(format!("{name} is not deployed; {jobs} events wait for it"));
        }
    }
    let stopped = core.apps.iter().filter_map(|app| app.stopped.map(|why| (&app.app, why)));
    reasons.extend(stopped.map(|(app, why)| format!("{app} starts nothing: {why}")));
    reasons
}

/// What was dropped since the process started, by reason.
fn drops(core: &Counters, broker: impl Fn(BrokerDrop) -> u64) -> Value {
    let queue = [
        ("queue_newest", core.shed_newest),
        ("queue_oldest", core.shed_oldest),
        ("queue_replaced", core.shed_replaced),
        ("queue_held_too_long", core.shed_held),
        ("dead_letters_pushed_out", core.dead_letters_pushed_out),
        ("outbox_full", core.outbox_dropped),
        ("outbox_newest", core.outbox_newest),
        ("outbox_expired", core.outbox_expired),
        ("outbox_replaced", core.outbox_replaced),
        ("outbox_skipped", core.outbox_skipped),
    ];
    let clients = [
        ("client_ingress_budget", BrokerDrop::IngressBudget),
        ("client_not_authorized", BrokerDrop::NotAuthorized),
        ("session_full", BrokerDrop::QueueFull),
        ("sessions_full", BrokerDrop::QueueTotalFull),
        ("client_slow", BrokerDrop::SlowConsumer),
        ("message_expired", BrokerDrop::Expired),
        ("message_too_large_for_client", BrokerDrop::TooLargeForClient),
        ("message_not_encodable", BrokerDrop::NotEncodable),
        ("retained_full", BrokerDrop::RetainedFull),
    ];
    let clients = clients.map(|(name, reason)| (name, broker(reason)));
    let all = queue.into_iter().chain(clients);
    Value::Object(all.map(|(name, count)| (name.to_owned(), count.into())).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests;
