//! Desired state: deployments, what they mean for a gateway, and how far they are.
//!
//! Invariants:
//! - A deployment is never changed: a newer one for the same app and gateway replaces it.
//! - The generation of a gateway is the number of the newest deployment that is for it, and its
//!   base; so it changes only when something changes for that gateway, and it only grows. The base
//!   is 0 until a restore from a backup, and then lifts it above what the gateway has taken
//!   ([`catch_up`]).
//! - What a gateway says of its generation moves its own base and nothing else.
//! - Numbers of deployments are about the Unix seconds at which they were made: what is made after
//!   a restore from a backup has not the number of what was made before it.

mod progress;

#[cfg(test)]
mod tests;

use sync_protocol::wire::{AppTarget, Desired, StateReport};
use sync_protocol::{Digest, InstanceId};

pub(crate) use progress::{GatewayProgress, Progress, progress};

use crate::failure::Failure;
use crate::limits::{CLAIMED_GENERATION_MAX, TARGETS_MAX};
use crate::store::deployments::{Cause, DeploymentRow, DesiredRow, Target};
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
    let generation = match newest(&wanted) {
        Some(number) => number.saturating_add(rows.generation_base(gateway)?),
        None => 0,
    };
    let apps = wanted
        .into_iter()
        .filter_map(|row| Some(AppTarget { app: row.app, revision: row.revision? }))
        .collect();
    Ok(Desired { instance, generation, apps })
}

/// Number of the newest deployment among these.
fn newest(wanted: &[DesiredRow]) -> Option<u64> {
    wanted.iter().map(|row| row.deployment).max()
}

/// What becomes of the generation that a gateway says it has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It was stated here.
    Known,
    /// It was not; what the gateway is told from now on lies above it.
    Ahead,
    /// It is over [`CLAIMED_GENERATION_MAX`], which nobody ever stated. Nothing changed.
    Absurd,
}

/// A gateway that has taken a generation which this control plane never stated knows it from before
/// a backup was put back. It would take all that follows for old news; so its generations go on
/// above that one. They are its own: what one gateway says is nothing to the others.
pub(crate) fn catch_up(
    rows: &mut dyn Rows,
    gateway: GatewayId,
    report: &StateReport,
) -> Result<Claim, StoreError> {
    let number = newest(&rows.desired(gateway)?).unwrap_or_default();
    if report.generation <= number.saturating_add(rows.generation_base(gateway)?) {
        return Ok(Claim::Known);
    }
    if report.generation > CLAIMED_GENERATION_MAX {
        return Ok(Claim::Absurd);
    }
    rows.set_generation_base(gateway, report.generation + 1 - number)?;
    Ok(Claim::Ahead)
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
        if rows.member(name)?.is_none() {
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
    rows.skip_deployments_to(maker.now_ms / 1_000)?;
    row.id = rows.add_deployment(&row)?;
    Ok(row)
}
