//! What gateways recorded: the ledger of a stream, telemetry, dead letters, reports, alarms.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{Desk, Params, Reply};
use super::gateways::known;
use super::routes::Routes;
use super::view::{self, Page};
use crate::failure::Failure;
use crate::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use crate::store::records::{Filter, Found};
use crate::store::{Rows, StoreError};

pub(super) fn routes(desk: &Desk) -> Routes {
    Routes::default()
        .get("/v1/gateways/{gateway}/streams/{stream}/records", entries, desk.clone())
        .get("/v1/telemetry", telemetry, desk.clone())
        .get("/v1/dead-letters", dead_letters, desk.clone())
        .get("/v1/reports", reports, desk.clone())
        .get("/v1/alarms", alarms, desk.clone())
        .delete("/v1/alarms/{id}", clear_alarm, desk.clone())
}

fn limit(asked: Option<u32>) -> u32 {
    asked.unwrap_or(PAGE_ROWS_DEFAULT).clamp(1, PAGE_ROWS_MAX)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntriesParams {
    from: Option<u64>,
    limit: Option<u32>,
}

/// The ledger in order: every position is in one entry, or not stored yet.
async fn entries(
    State(desk): State<Desk>,
    Path((name, stream)): Path<(String, String)>,
    Params(params): Params<EntriesParams>,
) -> Result<Reply<Value>, Failure> {
    let stream: u8 = stream
        .parse()
        .map_err(|_| Failure::invalid(format!("{stream:?} is no stream"), "use 0, 1 or 2"))?;
    let (limit, from) = (limit(params.limit), params.from.unwrap_or(1));
    let (page, position) = desk
        .read(move |rows| {
            let gateway = known(rows, &name)?.id;
            Ok((rows.entries(gateway, stream, from, limit)?, rows.stream(gateway, stream)?))
        })
        .await?;
    // A page may end early by its bytes: it is the last one only when it reaches the top.
    let next = page.last().filter(|row| row.place.seq < position.top);
    let next = next.map(|row| row.place.seq + 1);
    let rows: Vec<Value> = page.iter().map(view::entry).collect();
    Ok(Reply(json!({"rows": rows, "next": next, "stored_to": position.stored_to})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchParams {
    gateway: Option<String>,
    function: Option<String>,
    device: Option<String>,
    name: Option<String>,
    after: Option<u64>,
    before: Option<u64>,
    order: Option<Order>,
    limit: Option<u32>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    Desc,
}

async fn search(
    desk: Desk,
    params: SearchParams,
    find: impl FnOnce(&dyn Rows, &Filter) -> Result<Vec<Found>, StoreError> + Send + 'static,
) -> Result<Reply<Page<Value>>, Failure> {
    let page = desk
        .read(move |rows| {
            let gateway = match &params.gateway {
                Some(name) => Some(known(rows, name)?.id),
                None => None,
            };
            let filter = Filter {
                gateway,
                function: params.function,
                device: params.device,
                name: params.name,
                after: params.after,
                before: params.before,
                newest_first: params.order == Some(Order::Desc),
                limit: limit(params.limit),
            };
            Ok(find(rows, &filter)?)
        })
        .await?;
    // There may be nothing more behind `next`; asking again costs little and gives the new ones.
    let next = page.last().map(|row| json!(row.entry.id));
    Ok(Reply(Page { rows: page.iter().map(view::found).collect(), next }))
}

async fn telemetry(
    State(desk): State<Desk>,
    Params(params): Params<SearchParams>,
) -> Result<Reply<Page<Value>>, Failure> {
    search(desk, params, |rows, filter| rows.telemetry(filter)).await
}

async fn dead_letters(
    State(desk): State<Desk>,
    Params(params): Params<SearchParams>,
) -> Result<Reply<Page<Value>>, Failure> {
    search(desk, params, |rows, filter| rows.dead_letters(filter)).await
}

async fn reports(
    State(desk): State<Desk>,
    Params(params): Params<SearchParams>,
) -> Result<Reply<Page<Value>>, Failure> {
    search(desk, params, |rows, filter| rows.reports(filter)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlarmParams {
    gateway: Option<String>,
    limit: Option<u32>,
}

async fn alarms(
    State(desk): State<Desk>,
    Params(params): Params<AlarmParams>,
) -> Result<Reply<Page<Value>>, Failure> {
    let rows = desk
        .read(move |rows| {
            let gateway = match &params.gateway {
                Some(name) => Some(known(rows, name)?.id),
                None => None,
            };
            Ok(rows.alarms(gateway, limit(params.limit))?)
        })
        .await?;
    Ok(Reply(Page { rows: rows.iter().map(view::alarm).collect(), next: None }))
}

async fn clear_alarm(
    State(desk): State<Desk>,
    Path(id): Path<String>,
) -> Result<Reply<Value>, Failure> {
    let number = id.parse().unwrap_or_default();
    if desk.write(move |rows, _| Ok(rows.delete_alarm(number)?)).await? {
        Ok(Reply(json!({})))
    } else {
        let error = format!("there is no alarm {id:?}");
        Err(Failure::not_found(error, "`GET /v1/alarms` lists them"))
    }
}
