//! The web page: what an operator wants to see at a glance. It only reads.
//!
//! Everything is rendered here; the script asks for the same fragment again and again and puts it
//! in place. Texts of gateways are escaped by the templates, and the content security policy
//! allows no script but ours.

mod chart;
mod fleet;
mod login;
mod page;
mod rollouts;
mod session;
mod telemetry;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use sync_protocol::InstanceId;

use crate::api::{Desk, Operator};
use crate::mqtt::Live;
use session::Sessions;

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
    connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; \
    base-uri 'none'";

/// What the pages work with.
#[derive(Clone)]
pub(crate) struct WebParts {
    pub(crate) desk: Desk,
    pub(crate) live: Arc<Live>,
    pub(crate) instance: InstanceId,
    /// Whether the listener encrypts: then cookies are for encrypted connections only.
    pub(crate) secure: bool,
}

/// All pages.
pub(crate) fn router(parts: &WebParts) -> Router {
    let sessions = Arc::new(Sessions::default());
    let desk = login::LoginDesk {
        desk: parts.desk.clone(),
        sessions: Arc::clone(&sessions),
        secure: parts.secure,
    };
    let door = Door { desk: parts.desk.clone(), sessions };
    let pages = Router::new()
        .route("/", get(fleet::page))
        .route("/fragments/fleet", get(fleet::fragment))
        .route("/deployments", get(rollouts::page))
        .route("/fragments/deployments", get(rollouts::fragment))
        .route("/telemetry", get(telemetry::page))
        .route("/fragments/telemetry", get(telemetry::fragment))
        .with_state(parts.clone())
        .layer(middleware::from_fn_with_state(door, require_session));
    let open = Router::new()
        .route("/login", get(login::form).post(login::enter))
        .route("/logout", post(login::leave))
        .with_state(desk)
        .route("/assets/app.js", get(script))
        .route("/assets/style.css", get(style));
    pages.merge(open).layer(middleware::map_response(harden))
}

#[derive(Clone)]
struct Door {
    desk: Desk,
    sessions: Arc<Sessions>,
}

/// Who has no session is sent to the login; a fragment is refused, and the script does the same.
async fn require_session(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let now_ms = door.desk.clock.monotonic_ms();
    match door.sessions.operator(request.headers(), now_ms) {
        Some(name) => {
            request.extensions_mut().insert(Operator(name));
            next.run(request).await
        }
        None if request.uri().path().starts_with("/fragments/") => {
            crate::access::refused("the session has ended").into_response()
        }
        None => Redirect::to("/login").into_response(),
    }
}

async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn script() -> ([(&'static str, &'static str); 1], &'static str) {
    ([("content-type", "text/javascript")], include_str!("web/app.js"))
}

async fn style() -> ([(&'static str, &'static str); 1], &'static str) {
    ([("content-type", "text/css")], include_str!("web/style.css"))
}
