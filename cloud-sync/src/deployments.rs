//! Desired state: deployments, what they mean for a gateway, and how far they are.
//!
//! Invariants:
//! - A deployment is never changed: a newer one for the same app and gateway replaces it.
//! - The generation of a gateway is the number of the newest deployment that is for it; so it
//!   changes only when something changes for that gateway, and it only grows; after a restore from
//!   a backup it goes on above what the gateway has taken ([`catch_up`]).

mod progress;

#[cfg(test)]
mod tests;

use sync_protocol::wire::{AppTarget, Desired, StateReport};
use sync_protocol::{Digest, InstanceId};

pub(crate) use progress::{GatewayProgress, Progress, progress};

use crate::failure::Failure;
use crate::limits::TARGETS_MAX;
use crate::store::deployments::{Cause, DeploymentRow, Target};
use crate::store::{GatewayId, Rows, StoreError};

/// Deployments looked through for the revision before.
const HISTORY_MAX: u32 = 1_000;

/// What a gateway should run, as it is told.
pub(crate) fn desired<R: Rows + ?Sized>(
    rows: &R,
    instance: InstanceId,
    gateway: GatewayId,
) -> Result<Desired, StoreError> {
    let wanted = rows.desired(gateway)?;
    let generation = wanted.iter().map(|row| row.deployment).max().unwrap_or_default();
    let apps = wanted
        .into_iter()
        .filter_map(|row| Some(AppTarget { app: row.app, revision: row.revision? }))
        .collect();
    Ok(Desired { instance, generation, apps })
}

/// Who restates what a gateway should run, as deployments name it.
const RESTORED: &str = "(restored backup)";

/// A gateway that has taken a generation which this control plane never stated knows it from before
/// a backup was put back. It would take all that follows for old news; so the numbers go on above
/// that generation, and what the gateway should run is stated again where it runs something else.
/// True where that was necessary.
pub(crate) fn catch_up(
    rows: &mut dyn Rows,
    gateway: GatewayId,
    report: &StateReport,
    now_ms: u64,
) -> Result<bool, StoreError> {
    let wanted = rows.desired(gateway)?;
    let newest = wanted.iter().map(|row| row.deployment).max().unwrap_or_default();
    if report.generation <= newest {
        return Ok(false);
    }
    let mut is_behind = rows.skip_deployments_to(report.generation)?;
    for row in &wanted {
        let app = report.apps.iter().find(|app| app.app == row.app);
        if app.and_then(|app| app.running) != row.revision {
            rows.restate(gateway, row, RESTORED, now_ms)?;
            is_behind = true;
        }
    }
    Ok(is_behind)
}

/// Who makes a deployment, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker<'a> {
    /// Name of the operator.
    pub(crate) by: &'a str,
    /// Milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
}

/// Reads a list of gateway names; `None` stands for all gateways.
pub(crate) fn target(rows: &dyn Rows, gateways: Option<&[String]>) -> Result<Target, Failure> {
    let Some(names) = gateways else { return Ok(Target::All) };
    if names.is_empty() || names.len() > TARGETS_MAX {
        return Err(Failure::invalid(
            format!("a deployment names 1 to {TARGETS_MAX} gateways"),
            "leave the list out to deploy to all gateways",
        ));
    }
    for name in names {
        if rows.gateway(name)?.is_none() {
            let error = format!("there is no gateway {name:?}");
            return Err(Failure::not_found(error, "`holm status` lists the gateways"));
        }
    }
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    Ok(Target::Gateways(names))
}

/// Deploys a revision.
pub(crate) fn deploy(
    rows: &mut dyn Rows,
    revision: &Digest,
    target: Target,
    maker: Maker<'_>,
) -> Result<DeploymentRow, Failure> {
    let Some(known) = rows.revision(revision)? else {
        return Err(Failure::not_found(
            format!("there is no revision {revision}"),
            "upload its bundle first: `holm deploy` does both",
        ));
    };
    let floor = rows.live_floor(&known.app)?;
    if known.sequence < floor {
        return Err(Failure::conflict(
            format!(
                "revision {} of {} has sequence {}, below the floor {floor} of a revision that is \
                 live: gateways would refuse it",
                known.version, known.app, known.sequence
            ),
            "build it again with a higher sequence",
        ));
    }
    add(rows, known.app, Some(*revision), Cause::Deploy, target, maker)
}

/// Goes back to the revision that was deployed to the same target before the present one.
pub(crate) fn rollback(
    rows: &mut dyn Rows,
    app: &str,
    target: Target,
    maker: Maker<'_>,
) -> Result<DeploymentRow, Failure> {
    let history = rows.deployments(Some(app), u64::MAX, HISTORY_MAX)?;
    let mut revisions =
        history.iter().filter(|row| row.target == target).filter_map(|row| row.revision);
    let Some(present) = revisions.next() else { return Err(never_deployed(app)) };
    let Some(before) = revisions.find(|revision| *revision != present) else {
        return Err(Failure::conflict(
            format!("{app} has no earlier revision to go back to"),
            "deploy another revision, or undeploy the app",
        ));
    };
    add(rows, app.to_owned(), Some(before), Cause::Rollback, target, maker)
}

/// Takes an app off its gateways.
pub(crate) fn undeploy(
    rows: &mut dyn Rows,
    app: &str,
    target: Target,
    maker: Maker<'_>,
) -> Result<DeploymentRow, Failure> {
    if rows.deployments(Some(app), u64::MAX, 1)?.is_empty() {
        return Err(never_deployed(app));
    }
    add(rows, app.to_owned(), None, Cause::Undeploy, target, maker)
}

fn never_deployed(app: &str) -> Failure {
    let hint = "`holm status` lists what is deployed, and where";
    Failure::not_found(format!("{app:?} is not deployed to this target"), hint)
}

fn add(
    rows: &mut dyn Rows,
    app: String,
    revision: Option<Digest>,
    cause: Cause,
    target: Target,
    maker: Maker<'_>,
) -> Result<DeploymentRow, Failure> {
    let (by, created_ms) = (maker.by.to_owned(), maker.now_ms);
    let mut row = DeploymentRow { id: 0, app, revision, cause, target, by, created_ms };
    row.id = rows.add_deployment(&row)?;
    Ok(row)
}
