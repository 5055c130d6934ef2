//! `/v1/revisions`: upload and list.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use sync_protocol::limits::BUNDLE_BYTES_MAX;
use tokio::sync::Semaphore;

use super::extract::{Created, Desk, Params, Reply, body};
use super::routes::Routes;
use super::view::{self, Page};
use crate::blobs::Blobs;
use crate::failure::{Failure, Kind};
use crate::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, UPLOADS_MAX};

#[derive(Clone)]
struct Uploads {
    desk: Desk,
    blobs: Arc<Blobs>,
    places: Arc<Semaphore>,
}

pub(super) fn routes(desk: &Desk, blobs: &Arc<Blobs>) -> Routes {
    let uploads = Uploads {
        desk: desk.clone(),
        blobs: Arc::clone(blobs),
        places: Arc::new(Semaphore::new(UPLOADS_MAX)),
    };
    Routes::default()
        .post("/v1/revisions", upload, uploads)
        .get("/v1/revisions", list, desk.clone())
        .get("/v1/revisions/{digest}", show, desk.clone())
}

async fn upload(State(uploads): State<Uploads>, request: Request) -> Result<Response, Failure> {
    let Ok(place) = uploads.places.try_acquire() else {
        let error = format!("{UPLOADS_MAX} bundles are being uploaded");
        return Err(Failure::new(Kind::Busy, error, "try again in a moment"));
    };
    let bytes_max = usize::try_from(BUNDLE_BYTES_MAX).unwrap_or(usize::MAX);
    let file = body(request, bytes_max).await?;
    let blobs = Arc::clone(&uploads.blobs);
    let (row, new) = uploads
        .desk
        .blocking(move |store, now_ms| crate::revisions::upload(store, &blobs, &file, now_ms))
        .await?;
    drop(place);
    tracing::info!(app = row.app, version = row.version, digest = %row.digest, new, "uploaded");
    let view = view::revision(&row);
    Ok(if new { Created(view).into_response() } else { Reply(view).into_response() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {
    app: Option<String>,
    limit: Option<u32>,
}

async fn list(
    State(desk): State<Desk>,
    Params(params): Params<ListParams>,
) -> Result<Reply<Page<Value>>, Failure> {
    let limit = params.limit.unwrap_or(PAGE_ROWS_DEFAULT).min(PAGE_ROWS_MAX);
    let rows = desk.read(move |rows| Ok(rows.revisions(params.app.as_deref(), limit)?)).await?;
    Ok(Reply(Page { rows: rows.iter().map(view::revision).collect(), next: None }))
}

async fn show(
    State(desk): State<Desk>,
    Path(digest): Path<String>,
) -> Result<Reply<Value>, Failure> {
    let digest = view::digest(&digest)?;
    let found = desk
        .read(move |rows| Ok((rows.revision(&digest)?, rows.signed_manifest(&digest)?)))
        .await?;
    let (Some(row), Some(signed)) = found else {
        let error = format!("there is no revision {digest}");
        return Err(Failure::not_found(error, "`holm deploy` uploads one"));
    };
    let manifest: Value = serde_json::from_slice(&signed.manifest)
        .map_err(|error| Failure::internal(format!("the manifest is damaged: {error}")))?;
    let mut value = view::revision(&row);
    value["manifest"] = json!(manifest);
    Ok(Reply(value))
}
