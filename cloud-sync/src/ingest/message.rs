//! What one message of a gateway changes, and what it is answered with.

use std::collections::BTreeSet;

use sync_protocol::InstanceId;
use sync_protocol::wire::{
    AppState, Conflicts, Down, Hello, Receipt, StateReport, StreamMark, Up, Welcome,
};

use super::{Ledger, alarm};
use crate::deployments::{self, Claim};
use crate::limits::EPOCHS_PER_GATEWAY_MAX;
use crate::store::deployments::{AppRow, StepRow};
use crate::store::fleet::SeenRow;
use crate::store::{GatewayId, Rows, StoreError};

/// Takes a message that belongs into the store. Chunk requests, replies and logs do not.
pub(crate) fn take(
    rows: &mut dyn Rows,
    instance: InstanceId,
    gateway: GatewayId,
    up: &Up,
    now_ms: u64,
) -> Result<Vec<Down>, StoreError> {
    match up {
        Up::Hello(hello) => take_hello(rows, instance, gateway, hello, now_ms),
        Up::Records(run) => {
            let taken = Ledger::open(rows, gateway, run.stream, now_ms)?.take_run(run)?;
            tracing::trace!(?gateway, stream = run.stream, ?taken, "records");
            let (stream, seq, positions) = (run.stream, taken.stored_to, taken.conflicts);
            Ok(vec![if positions.is_empty() {
                Down::Receipt(Receipt { stream, seq })
            } else {
                Down::Conflicts(Conflicts { stream, seq, positions })
            }])
        }
        Up::StateReport(report) => {
            take_state(rows, instance, gateway, report, now_ms)?;
            Ok(Vec::new())
        }
        Up::Health(health) => {
            rows.set_health(gateway, health, now_ms)?;
            Ok(Vec::new())
        }
        Up::ChunkRequest(_) | Up::Reply(_) | Up::Logs(_) | Up::CertificateRequest(_) => {
            Ok(Vec::new())
        }
    }
}

fn take_hello(
    rows: &mut dyn Rows,
    instance: InstanceId,
    gateway: GatewayId,
    hello: &Hello,
    now_ms: u64,
) -> Result<Vec<Down>, StoreError> {
    take_epoch(rows, gateway, hello.epoch, now_ms)?;
    let seen = SeenRow {
        agent_version: hello.agent_version.clone(),
        platform: hello.platform.clone(),
        epoch: hello.epoch,
    };
    rows.set_seen(gateway, &seen)?;
    let mut stored = Vec::with_capacity(hello.streams.len());
    for said in &hello.streams {
        let taken = Ledger::open(rows, gateway, said.stream, now_ms)?.take_position(said)?;
        let (stream, seq) = (said.stream, taken.stored_to);
        let there = rows.places(gateway, stream, seq, 1)?;
        let epoch = there.first().filter(|place| place.first <= seq).map_or(0, |place| place.epoch);
        stored.push(StreamMark { stream, seq, epoch });
    }
    take_state(rows, instance, gateway, &hello.state, now_ms)?;
    let welcome = Welcome { instance, unix_ms: now_ms, stored };
    let desired = deployments::desired(rows, instance, gateway)?;
    Ok(vec![Down::Welcome(welcome), Down::Desired(desired)])
}

/// A process run that comes back after another one spoke is a second gateway: an honest gateway
/// never uses an epoch again.
fn take_epoch(
    rows: &mut dyn Rows,
    gateway: GatewayId,
    epoch: u64,
    now_ms: u64,
) -> Result<(), StoreError> {
    let mut epochs = rows.epochs(gateway)?;
    if epochs.first() == Some(&epoch) {
        return Ok(());
    }
    if let (true, Some(other)) = (epochs.contains(&epoch), epochs.first()) {
        let text = format!(
            "process run {epoch:016x} is back after run {other:016x} spoke: two machines use \
             this gateway's certificate; enrol one of them under another name"
        );
        rows.raise_alarm(gateway, alarm::TWO_GATEWAYS, &text, now_ms)?;
    }
    epochs.retain(|known| *known != epoch);
    epochs.insert(0, epoch);
    epochs.truncate(EPOCHS_PER_GATEWAY_MAX);
    rows.put_epochs(gateway, &epochs)
}

fn take_state(
    rows: &mut dyn Rows,
    instance: InstanceId,
    gateway: GatewayId,
    report: &StateReport,
    now_ms: u64,
) -> Result<(), StoreError> {
    if let Some(theirs) = report.instance {
        if theirs != instance {
            let text =
                format!("the gateway follows control plane {theirs}, this one is {instance}");
            rows.raise_alarm(gateway, alarm::FOREIGN_INSTANCE, &text, now_ms)?;
        }
        rows.set_reported(gateway, theirs, report.generation)?;
        if theirs == instance {
            take_generation(rows, gateway, report, now_ms)?;
        }
    }
    let known = rows.apps_of(gateway)?;
    let named: BTreeSet<&str> = report.apps.iter().map(|app| app.app.as_str()).collect();
    for row in known.iter().filter(|row| !named.contains(row.app.as_str())) {
        rows.delete_app(gateway, &row.app)?;
        let app = AppRow { at_ms: now_ms, running: None, reason: String::new(), ..row.clone() };
        rows.add_step(gateway, &StepRow { app, gone: true })?;
    }
    for said in &report.apps {
        let before = known.iter().find(|row| row.app == said.app);
        let row = app_row(said, report.generation, now_ms);
        if before.is_none_or(|before| !same(before, &row)) {
            rows.put_app(gateway, &row)?;
            rows.add_step(gateway, &StepRow { app: row, gone: false })?;
        }
    }
    Ok(())
}

fn take_generation(
    rows: &mut dyn Rows,
    gateway: GatewayId,
    report: &StateReport,
    now_ms: u64,
) -> Result<(), StoreError> {
    let generation = report.generation;
    let (code, text) = match deployments::catch_up(rows, gateway, report)? {
        Claim::Known => return Ok(()),
        Claim::Ahead => (
            alarm::CLOUD_BEHIND,
            format!(
                "the gateway has taken generation {generation}, which this control plane never \
                 stated: was a backup restored? What it should run is stated again above that"
            ),
        ),
        Claim::Absurd => (
            alarm::ABSURD_GENERATION,
            format!(
                "the gateway says that it has taken generation {generation}, which no control plane \
                 ever stated: it takes up nothing more; set it up anew with an empty data folder"
            ),
        ),
    };
    rows.raise_alarm(gateway, code, &text, now_ms)
}

fn app_row(said: &AppState, generation: u64, at_ms: u64) -> AppRow {
    AppRow {
        app: said.app.clone(),
        revision: said.revision,
        phase: said.phase,
        reason: said.reason.clone(),
        running: said.running,
        generation,
        at_ms,
    }
}

/// The same but for the moment and the generation, which other apps move.
fn same(before: &AppRow, now: &AppRow) -> bool {
    let (at_ms, generation) = (before.at_ms, before.generation);
    *before == AppRow { at_ms, generation, ..now.clone() }
}
