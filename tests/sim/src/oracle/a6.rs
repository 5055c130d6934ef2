//! A6: every bound holds after every turn, plus the stated excess of outcomes.

use edge_broker::broker::{Limits, Status as Broker};
use edge_core::status::Status as Core;

use super::{Oracle, hold};
use crate::plan::{self, Bounds};
use crate::seen::Seen;

/// Jobs that outcomes may cause beyond the queue: an outcome always commits (DESIGN, section 7).
/// Each worker brings at most one echo at a time; they end before new messages are admitted.
const EXCESS_JOBS: u32 = 64;

pub(super) struct A6;

impl Oracle for A6 {
    fn name(&self) -> &'static str {
        "a6"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Turned { core, broker, limits, bounds, .. } = seen else { return Ok(()) };
        core_bounds(core, bounds)?;
        broker_bounds(broker, limits)
    }
}

fn core_bounds(core: &Core, bounds: &Bounds) -> Result<(), String> {
    let most = |what: &str, value: u64, most: u64| {
        hold(value <= most, || format!("{what}: {value}, at most {most}"))
    };
    most("jobs", core.jobs.into(), (bounds.queue_jobs_max + EXCESS_JOBS).into())?;
    most("attempts in work", core.running.into(), plan::WORKERS.into())?;
    most("dead letters", core.dead_letters.into(), 1_000)?;
    most("devices", core.devices.into(), 1_000)?;
    let bytes = core.outbox.iter().map(|stream| stream.bytes).sum();
    most("outbox bytes", bytes, bounds.outbox_bytes_max)
}

fn broker_bounds(broker: &Broker, limits: &Limits) -> Result<(), String> {
    // One read of each connection may bring more than the budgets.
    let read = limits.packet_bytes_max() + (64 << 10);
    let reads = read * broker.connections.max(1);
    let bounds = [
        ("connections", broker.connections, limits.connections_max),
        ("kept sessions", broker.persistent_sessions, limits.sessions_max),
        ("retained", broker.retained_messages, limits.retained_messages_max),
        ("queued bytes", broker.queued_bytes, limits.queued_total_bytes_max + reads),
        ("ingress bytes", broker.ingress_bytes, limits.ingress_total_bytes_max + reads),
        ("egress bytes", broker.egress_bytes, limits.egress_total_bytes_max + reads),
    ];
    bounds.into_iter().try_for_each(|(what, value, most)| {
        hold(value <= most, || format!("{what}: {value}, at most {most}"))
    })
}
