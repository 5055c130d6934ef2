//! The HTTP API, version 1. Everything below `/v1` but health and the document of the API itself
//! needs an operator's bearer token. Errors are `{"error": ..., "hint": ...}`.
//!
//! Every list is bounded and says where to go on (`next`). Numbers of 64 random bits (epochs) are
//! hexadecimal text.

mod authors;
mod commands;
mod deployments;
mod extract;
mod gateways;
mod logs;
mod records;
mod revisions;
mod routes;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{Method, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use serde::Serialize;
use sync_protocol::InstanceId;

use extract::Reply;
pub(crate) use extract::{Desk, Operator, Params};

use crate::access::{operator, refused};
use crate::blobs::Blobs;
use crate::enrolment::Office;
use crate::failure::{Failure, Kind};
use crate::mqtt::{Commands, HubHandle, Live, LogFeeds};
use routes::Routes;

/// The document of the API.
pub(crate) const OPENAPI: &str = include_str!("api/openapi.json");

/// For paths that nobody serves.
pub(crate) async fn no_such_route(uri: Uri) -> Failure {
    Failure::not_found(format!("there is nothing at {}", uri.path()), "see /v1/openapi.json")
}

/// For methods that a path does not have.
pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Failure {
    let error = format!("{} does not take {method}", uri.path());
    Failure::new(Kind::Method, error, "see /v1/openapi.json")
}

/// What the API works with; each group of routes takes what it needs.
pub(crate) struct ApiParts {
    pub(crate) desk: Desk,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) office: Arc<Office>,
    pub(crate) live: Arc<Live>,
    pub(crate) commands: Arc<Commands>,
    pub(crate) logs: Arc<LogFeeds>,
    pub(crate) hub: HubHandle,
    pub(crate) store_failures: Arc<AtomicU64>,
}

/// All routes.
pub(crate) fn router(parts: &ApiParts) -> Router {
    let guarded = guarded(parts).router;
    let guarded =
        guarded.layer(middleware::from_fn_with_state(parts.desk.clone(), require_operator));
    open(parts).router.merge(guarded)
}

fn guarded(parts: &ApiParts) -> Routes {
    let desk = &parts.desk;
    revisions::routes(desk, &parts.blobs)
        .merge(deployments::routes(desk, parts))
        .merge(gateways::routes(desk, parts))
        .merge(records::routes(desk))
        .merge(authors::routes(desk))
        .merge(commands::routes(desk, parts))
        .merge(logs::routes(desk, parts))
}

fn open(parts: &ApiParts) -> Routes {
    let health = HealthDesk {
        instance: parts.office.instance,
        live: Arc::clone(&parts.live),
        failures: Arc::clone(&parts.store_failures),
    };
    Routes::default().get("/v1/health", self::health, health).get("/v1/openapi.json", openapi, ())
}

async fn require_operator(
    State(desk): State<Desk>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(|| refused("there is no bearer token"))?
        .trim()
        .to_owned();
    let name = desk.blocking(move |store, _| operator(store, &token)).await?;
    request.extensions_mut().insert(Operator(name));
    Ok(next.run(request).await)
}

#[derive(Clone)]
struct HealthDesk {
    instance: InstanceId,
    live: Arc<Live>,
    failures: Arc<AtomicU64>,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
    instance: InstanceId,
    gateways_online: usize,
    store_failures: u64,
}

async fn health(State(desk): State<HealthDesk>) -> Reply<Health> {
    let store_failures = desk.failures.load(Ordering::Relaxed);
    Reply(Health {
        status: if store_failures == 0 { "ok" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        instance: desk.instance,
        gateways_online: desk.live.count(),
        store_failures,
    })
}

async fn openapi() -> ([(&'static str, &'static str); 1], &'static str) {
    ([("content-type", "application/json")], OPENAPI)
}
