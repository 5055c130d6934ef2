//! Reading requests and writing replies; whatever goes wrong is a [`Failure`].

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::failure::{Failure, Kind};
use crate::limits::{BODY_BYTES_MAX, BODY_DRAINED_BYTES_MAX};
use crate::store::{self, Rows, Store};

/// Store and clock, for handlers.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
}

impl Desk {
    /// Runs work that may wait for the disk, off the event loop. It is given the store and the
    /// time.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store, u64) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (store, now_ms) = (Arc::clone(&self.store), self.clock.now_ms());
        tokio::task::spawn_blocking(move || work(&*store, now_ms))
            .await
            .unwrap_or_else(|_| Err(Failure::internal("the request panicked")))
    }

    /// Reads on a snapshot.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Rows) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.blocking(move |store, _| store::read(store, work)).await
    }

    /// Writes in a transaction. It is given the time.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Rows, u64) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.blocking(move |store, now_ms| store::write(store, |rows| work(rows, now_ms))).await
    }
}

/// The authenticated operator.
#[derive(Clone, Debug)]
pub(crate) struct Operator(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let operator = parts.extensions.get::<Self>().cloned();
        operator.ok_or_else(|| Failure::internal("a route without its guard"))
    }
}

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let bytes = body(request, BODY_BYTES_MAX).await?;
        // No body stands for an empty document.
        let text = if bytes.is_empty() { b"{}".as_slice() } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| {
            let hint = "see /v1/openapi.json for what this route takes";
            Failure::invalid(format!("the body cannot be read: {error}"), hint)
        })
    }
}

/// The body of a request, at most `bytes_max` long. Of a longer one some more is read and thrown
/// away, so that the sender comes to read the answer instead of seeing a broken connection.
pub(crate) async fn body(request: Request, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut stream = request.into_body().into_data_stream();
    let (mut kept, mut seen) = (Vec::new(), 0_usize);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| {
            Failure::invalid(format!("the body did not come whole: {error}"), "send it again")
        })?;
        seen = seen.saturating_add(chunk.len());
        if seen <= bytes_max {
            kept.extend_from_slice(&chunk);
        } else if seen > bytes_max.saturating_add(BODY_DRAINED_BYTES_MAX) {
            break;
        } else {
            kept = Vec::new();
        }
    }
    if seen <= bytes_max {
        return Ok(kept);
    }
    let error = format!("the body is longer than {bytes_max} bytes");
    Err(Failure::new(Kind::TooLarge, error, "send less"))
}

/// Parameters after the `?`.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = Query::try_from_uri(&parts.uri).map_err(|error| {
            let hint = "see /v1/openapi.json for the parameters of this route";
            Failure::invalid(format!("the parameters cannot be read: {error}"), hint)
        })?;
        Ok(Self(query.0))
    }
}

/// A JSON reply.
pub(crate) struct Reply<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.0)
    }
}

/// A JSON reply: something was made.
pub(crate) struct Created<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        json(StatusCode::CREATED, &self.0)
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    hint: &'a str,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Method => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
            Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if self.kind == Kind::Internal {
            tracing::error!(error = self.error, "a request failed");
        }
        json(status, &ErrorBody { error: &self.error, hint: &self.hint })
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let content = [(header::CONTENT_TYPE, "application/json")];
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, content, bytes).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
