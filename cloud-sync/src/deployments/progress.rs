//! How far a deployment is on each of its gateways.

use serde::Serialize;
use sync_protocol::InstanceId;
use sync_protocol::record::Phase;

use crate::store::deployments::{AppRow, DeploymentRow, Target};
use crate::store::fleet::GatewayRow;
use crate::store::{Rows, StoreError};

/// Gateways looked at for a deployment to all of them, in one query.
const PAGE: u32 = 500;

/// How far a deployment is on one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Progress {
    /// The gateway has not taken it up yet.
    Pending,
    /// It asks for chunks.
    Fetching,
    /// It checks digests, signature and floor.
    Verifying,
    /// It compiles and waits for running attempts.
    Preparing,
    /// It is live and watched.
    Probation,
    /// It is live and good.
    Live,
    /// It was refused.
    Failed,
    /// It was live and not good; the last good one is back.
    TakenBack,
    /// The app is gone, as wanted.
    Removed,
    /// A newer deployment of the app counts on this gateway.
    Superseded,
}

impl Progress {
    /// Stable text, as in JSON.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Fetching => "fetching",
            Self::Verifying => "verifying",
            Self::Preparing => "preparing",
            Self::Probation => "probation",
            Self::Live => "live",
            Self::Failed => "failed",
            Self::TakenBack => "taken-back",
            Self::Removed => "removed",
            Self::Superseded => "superseded",
        }
    }
}

impl From<Phase> for Progress {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Fetching => Self::Fetching,
            Phase::Verifying => Self::Verifying,
            Phase::Preparing => Self::Preparing,
            Phase::Probation => Self::Probation,
            Phase::Live => Self::Live,
            Phase::Failed => Self::Failed,
            Phase::TakenBack => Self::TakenBack,
        }
    }
}

/// One gateway of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayProgress {
    /// Its name.
    pub gateway: String,
    /// How far.
    pub progress: Progress,
    /// Why, in the gateway's words.
    pub reason: String,
    /// When it said so.
    pub at_ms: Option<u64>,
}

/// How far a deployment is on each of its gateways, by name.
pub(crate) fn progress(
    rows: &dyn Rows,
    instance: InstanceId,
    deployment: &DeploymentRow,
) -> Result<Vec<GatewayProgress>, StoreError> {
    let mut all = Vec::new();
    match &deployment.target {
        Target::Gateways(names) => {
            for name in names {
                if let Some(gateway) = rows.member(name)? {
                    all.push(one(rows, instance, deployment, gateway)?);
                }
            }
        }
        Target::All => {
            let mut after = String::new();
            loop {
                let page = rows.gateways(&after, PAGE)?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.name);
                for gateway in page {
                    all.push(one(rows, instance, deployment, gateway)?);
                }
            }
        }
    }
    Ok(all)
}

fn one(
    rows: &dyn Rows,
    instance: InstanceId,
    deployment: &DeploymentRow,
    gateway: GatewayRow,
) -> Result<GatewayProgress, StoreError> {
    let desired = rows.desired(gateway.id)?;
    let newest = desired.iter().find(|row| row.app == deployment.app);
    let superseded = newest.is_some_and(|row| row.deployment > deployment.id);
    let base = rows.generation_base(gateway.id)?;
    let taken = matches!(gateway.reported, Some((theirs, generation))
        if theirs == instance && generation.saturating_sub(base) >= deployment.id);
    let apps = rows.apps_of(gateway.id)?;
    let app = apps.into_iter().find(|row| row.app == deployment.app);
    let progress = if superseded {
        Progress::Superseded
    } else if !taken {
        Progress::Pending
    } else {
        judge(deployment, app.as_ref())
    };
    let said = app.filter(|_| !matches!(progress, Progress::Pending | Progress::Superseded));
    let at_ms = said.as_ref().map(|app| app.at_ms);
    let reason = said.map(|app| app.reason).unwrap_or_default();
    Ok(GatewayProgress { gateway: gateway.name, progress, reason, at_ms })
}

/// What a gateway that has taken the generation says about it.
fn judge(deployment: &DeploymentRow, app: Option<&AppRow>) -> Progress {
    match (deployment.revision, app) {
        (None, None) => Progress::Removed,
        (Some(wanted), Some(app)) if app.revision == wanted => app.phase.into(),
        // Back on a revision that runs already: nothing to fetch, only to state.
        (Some(wanted), Some(app)) if app.running == Some(wanted) => Progress::Live,
        (None | Some(_), None | Some(_)) => Progress::Pending,
    }
}
