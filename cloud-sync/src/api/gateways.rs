//! `/v1/gateways`: the fleet.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiParts;
use super::extract::{Body, Created, Desk, Params, Reply};
use super::routes::Routes;
use super::view::{self, Gateway, Page};
use crate::enrolment::{Office, add_gateway, remove_gateway};
use crate::failure::Failure;
use crate::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, TOKEN_LIFE_MS};
use crate::mqtt::{HubHandle, Live};
use crate::store::Rows;
use crate::store::fleet::GatewayRow;

/// Alarms shown on the page of one gateway.
const ALARMS_SHOWN: u32 = 20;
/// As many as a gateway knows devices.
const FIRMWARE_SHOWN: u32 = 1_000;

#[derive(Clone)]
struct Fleet {
    desk: Desk,
    office: Arc<Office>,
    live: Arc<Live>,
    hub: HubHandle,
}

pub(super) fn routes(desk: &Desk, parts: &ApiParts) -> Routes {
    let fleet = Fleet {
        desk: desk.clone(),
        office: Arc::clone(&parts.office),
        live: Arc::clone(&parts.live),
        hub: parts.hub.clone(),
    };
    Routes::default()
        .get("/v1/gateways", list, fleet.clone())
        .post("/v1/gateways", add, fleet.clone())
        .get("/v1/gateways/{gateway}", show, fleet.clone())
        .delete("/v1/gateways/{gateway}", remove, fleet)
        .get("/v1/gateways/{gateway}/history", history, desk.clone())
}

/// A gateway that must be known; one that was removed is, for what is kept of it.
pub(super) fn known(rows: &dyn Rows, name: &str) -> Result<GatewayRow, Failure> {
    rows.gateway(name)?.ok_or_else(|| {
        let hint = "`holm status` lists the gateways, `holm gateway add` adds one";
        Failure::not_found(format!("there is no gateway {name:?}"), hint)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {
    after: Option<String>,
    limit: Option<u32>,
}

async fn list(
    State(fleet): State<Fleet>,
    Params(params): Params<ListParams>,
) -> Result<Reply<Page<Gateway>>, Failure> {
    let limit = params.limit.unwrap_or(PAGE_ROWS_DEFAULT).clamp(1, PAGE_ROWS_MAX);
    let after = params.after.unwrap_or_default();
    let page = fleet
        .desk
        .read(move |rows| {
            let mut page = Vec::new();
            for row in rows.gateways(&after, limit)? {
                let apps = rows.apps_of(row.id)?;
                page.push((row, apps));
            }
            Ok(page)
        })
        .await?;
    let full = page.len() >= limit as usize;
    let next = page.last().filter(|_| full).map(|(row, _)| json!(row.name));
    let rows = page
        .into_iter()
        .map(|(row, apps)| {
            let online = fleet.live.get(&row.name);
            view::gateway(row, &apps, online)
        })
        .collect();
    Ok(Reply(Page { rows, next }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBody {
    name: String,
}

async fn add(
    State(fleet): State<Fleet>,
    Body(body): Body<AddBody>,
) -> Result<Created<Value>, Failure> {
    let (endpoint, ca) = (fleet.office.endpoint.clone(), fleet.office.ca.digest());
    let token = fleet
        .desk
        .write(move |rows, now_ms| add_gateway(rows, &body.name, &endpoint, ca, now_ms))
        .await?;
    let expires_ms = fleet.desk.clock.now_ms().saturating_add(TOKEN_LIFE_MS);
    tracing::info!(gateway = token.gateway, "a gateway was added");
    Ok(Created(json!({
        "name": token.gateway,
        "token": token.to_string(),
        "expires_ms": expires_ms,
    })))
}

async fn remove(
    State(fleet): State<Fleet>,
    Path(name): Path<String>,
) -> Result<Reply<Value>, Failure> {
    let gateway = name.clone();
    fleet.desk.write(move |rows, now_ms| remove_gateway(rows, &gateway, now_ms)).await?;
    fleet.live.access_ended();
    fleet.hub.disconnect(&name).await;
    tracing::info!(gateway = name, "a gateway was removed");
    Ok(Reply(json!({})))
}

async fn show(
    State(fleet): State<Fleet>,
    Path(name): Path<String>,
) -> Result<Reply<Value>, Failure> {
    let online = fleet.live.get(&name);
    let value = fleet
        .desk
        .read(move |rows| {
            let row = known(rows, &name)?;
            let id = row.id;
            let streams: Vec<Value> = rows.streams(id)?.iter().map(view::stream).collect();
            let alarms = rows.alarms(Some(id), ALARMS_SHOWN)?;
            let losses = rows.losses(id)?;
            let conflicts = rows.conflict_count(id)?;
            let gateway = view::gateway(row, &rows.apps_of(id)?, online);
            let mut value = serde_json::to_value(gateway)
                .map_err(|error| Failure::internal(error.to_string()))?;
            value["streams"] = streams.into();
            value["alarms"] = alarms.iter().map(view::alarm).collect();
            value["losses"] = losses.iter().map(view::loss).collect();
            value["conflicts"] = conflicts.into();
            let firmware = rows.firmware(id, FIRMWARE_SHOWN)?;
            value["firmware"] = firmware.iter().map(view::firmware).collect();
            Ok(value)
        })
        .await?;
    Ok(Reply(value))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryParams {
    limit: Option<u32>,
}

async fn history(
    State(desk): State<Desk>,
    Path(name): Path<String>,
    Params(params): Params<HistoryParams>,
) -> Result<Reply<Page<Value>>, Failure> {
    let limit = params.limit.unwrap_or(PAGE_ROWS_DEFAULT).clamp(1, PAGE_ROWS_MAX);
    let rows = desk
        .read(move |rows| {
            let gateway = known(rows, &name)?;
            Ok(rows.steps(gateway.id, limit)?)
        })
        .await?;
    Ok(Reply(Page { rows: rows.iter().map(view::step).collect(), next: None }))
}
