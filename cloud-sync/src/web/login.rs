//! Login with the operator token, and logout.

use std::sync::Arc;

use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::page::{Html, bare};
use super::session::Sessions;
use crate::access::operator;
use crate::api::Desk;
use crate::failure::{Failure, Kind};

#[derive(Clone)]
pub(super) struct LoginDesk {
    pub(super) desk: Desk,
    pub(super) sessions: Arc<Sessions>,
    pub(super) secure: bool,
}

pub(super) async fn form() -> Html {
    Html(view(None))
}

#[derive(Deserialize)]
pub(super) struct LoginForm {
    token: String,
}

pub(super) async fn enter(
    State(login): State<LoginDesk>,
    Form(form): Form<LoginForm>,
) -> Result<Response, Failure> {
    let token = form.token.trim().to_owned();
    let found = login.desk.blocking(move |store, _| operator(store, &token)).await;
    let name = match found {
        Ok(name) => name,
        Err(failure) if failure.kind == Kind::Unauthenticated => {
            let page = Html(view(Some("This token is not known here.")));
            return Ok((StatusCode::UNAUTHORIZED, page).into_response());
        }
        Err(failure) => return Err(failure),
    };
    let now_ms = login.desk.clock.monotonic_ms();
    let cookie = login.sessions.begin(name, now_ms, login.secure)?;
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}

pub(super) async fn leave(State(login): State<LoginDesk>, headers: HeaderMap) -> Response {
    let cookie = login.sessions.end(&headers, login.secure);
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

fn view(error: Option<&str>) -> Markup {
    bare(
        "Log in",
        &html! {
            main.login {
                h1 { "Holm" }
                form method="post" action="/login" {
                    label for="token" { "Operator token" }
                    input id="token" name="token" type="password" autofocus required
                        autocomplete="current-password" placeholder="holm-op-…";
                    @if let Some(error) = error {
                        p.bad { (error) }
                    }
                    button { "Log in" }
                    p.quiet {
                        code { "holm context show --token" }
                        " prints it, where " code { "holm cloud init" } " was run."
                    }
                }
            }
        },
    )
}
