//! `/v1/deployments` and `/v1/apps`: what should run where, and how far it is.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use sync_protocol::InstanceId;
use sync_protocol::wire::Down;

use super::ApiParts;
use super::extract::{Body, Created, Desk, Operator, Params, Reply};
use super::routes::Routes;
use super::view::{self, Page};
use crate::deployments::{self, Maker};
use crate::failure::Failure;
use crate::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use crate::mqtt::{HubHandle, Live};
use crate::store::deployments::{DeploymentRow, Target};

#[derive(Clone)]
struct Rollouts {
    desk: Desk,
    instance: InstanceId,
    live: Arc<Live>,
    hub: HubHandle,
}

pub(super) fn routes(desk: &Desk, parts: &ApiParts) -> Routes {
    let rollouts = Rollouts {
        desk: desk.clone(),
        instance: parts.office.instance,
        live: Arc::clone(&parts.live),
        hub: parts.hub.clone(),
    };
    Routes::default()
        .post("/v1/deployments", deploy, rollouts.clone())
        .get("/v1/deployments", list, desk.clone())
        .get("/v1/deployments/{id}", show, rollouts.clone())
        .post("/v1/apps/{app}/rollback", rollback, rollouts.clone())
        .post("/v1/apps/{app}/undeploy", undeploy, rollouts)
}

impl Rollouts {
    /// Tells the connected gateways of a deployment what they should run now.
    async fn announce(&self, deployment: &DeploymentRow) -> Result<(), Failure> {
        let names: Vec<String> = match &deployment.target {
            Target::All => self.live.names(),
            Target::Gateways(names) => {
                names.iter().filter(|name| self.live.get(name).is_some()).cloned().collect()
            }
        };
        let instance = self.instance;
        let desired = self
            .desk
            .read(move |rows| {
                let mut all = Vec::with_capacity(names.len());
                for name in names {
                    if let Some(gateway) = rows.member(&name)? {
                        all.push((name, deployments::desired(rows, instance, gateway.id)?));
                    }
                }
                Ok(all)
            })
            .await?;
        for (gateway, desired) in desired {
            self.hub.tell(&gateway, Down::Desired(desired)).await;
        }
        Ok(())
    }

    /// What the operator gets back, after the gateways were told.
    async fn made(self, deployment: DeploymentRow) -> Result<Created<Value>, Failure> {
        tracing::info!(
            id = deployment.id,
            app = deployment.app,
            cause = deployment.cause.as_str(),
            by = deployment.by,
            "deployment"
        );
        self.announce(&deployment).await?;
        Ok(Created(view::deployment(&deployment)))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployBody {
    revision: String,
    gateways: Option<Vec<String>>,
}

async fn deploy(
    State(rollouts): State<Rollouts>,
    Operator(by): Operator,
    Body(body): Body<DeployBody>,
) -> Result<Created<Value>, Failure> {
    let revision = view::digest(&body.revision)?;
    let deployment = rollouts
        .desk
        .write(move |rows, now_ms| {
            let target = deployments::target(rows, body.gateways.as_deref())?;
            deployments::deploy(rows, &revision, target, Maker { by: &by, now_ms })
        })
        .await?;
    rollouts.made(deployment).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetBody {
    gateways: Option<Vec<String>>,
}

async fn rollback(
    State(rollouts): State<Rollouts>,
    Operator(by): Operator,
    Path(app): Path<String>,
    Body(body): Body<TargetBody>,
) -> Result<Created<Value>, Failure> {
    let deployment = rollouts
        .desk
        .write(move |rows, now_ms| {
            let target = deployments::target(rows, body.gateways.as_deref())?;
            deployments::rollback(rows, &app, target, Maker { by: &by, now_ms })
        })
        .await?;
    rollouts.made(deployment).await
}

async fn undeploy(
    State(rollouts): State<Rollouts>,
    Operator(by): Operator,
    Path(app): Path<String>,
    Body(body): Body<TargetBody>,
) -> Result<Created<Value>, Failure> {
    let deployment = rollouts
        .desk
        .write(move |rows, now_ms| {
            let target = deployments::target(rows, body.gateways.as_deref())?;
            deployments::undeploy(rows, &app, target, Maker { by: &by, now_ms })
        })
        .await?;
    rollouts.made(deployment).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {
    app: Option<String>,
    before: Option<u64>,
    limit: Option<u32>,
}

async fn list(
    State(desk): State<Desk>,
    Params(params): Params<ListParams>,
) -> Result<Reply<Page<Value>>, Failure> {
    let limit = params.limit.unwrap_or(PAGE_ROWS_DEFAULT).clamp(1, PAGE_ROWS_MAX);
    let before = params.before.unwrap_or(u64::MAX);
    let rows =
        desk.read(move |rows| Ok(rows.deployments(params.app.as_deref(), before, limit)?)).await?;
    let full = rows.len() >= limit as usize;
    let next = rows.last().filter(|_| full).map(|row| json!(row.id));
    Ok(Reply(Page { rows: rows.iter().map(view::deployment).collect(), next }))
}

async fn show(
    State(rollouts): State<Rollouts>,
    Path(id): Path<String>,
) -> Result<Reply<Value>, Failure> {
    let not_found = || {
        let hint = "`GET /v1/deployments` lists them";
        Failure::not_found(format!("there is no deployment {id:?}"), hint)
    };
    let number: u64 = id.parse().map_err(|_| not_found())?;
    let instance = rollouts.instance;
    let found = rollouts
        .desk
        .read(move |rows| {
            let Some(row) = rows.deployment(number)? else { return Ok(None) };
            let progress = deployments::progress(rows, instance, &row)?;
            Ok(Some((row, progress)))
        })
        .await?;
    let (row, progress) = found.ok_or_else(not_found)?;
    let mut value = view::deployment(&row);
    let online = |name: &str| rollouts.live.get(name).is_some();
    value["progress"] =
        progress.iter().map(|gateway| view::progress(gateway, online(&gateway.gateway))).collect();
    Ok(Reply(value))
}
