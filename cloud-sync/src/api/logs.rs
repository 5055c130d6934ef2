//! `GET /v1/gateways/{gateway}/logs`: log lines as they come, one JSON document a line.
//!
//! The gateway is asked to send its log for half a minute, again and again while somebody
//! follows. A follower that does not keep up is told what it missed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde_json::json;
use sync_protocol::wire::{Command, Down, Logs, Request};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::ApiParts;
use super::extract::Desk;
use super::gateways::known;
use super::routes::Routes;
use crate::failure::Failure;
use crate::limits::LOG_LEASE_S;
use crate::mqtt::{Commands, HubHandle, LogFeeds};

#[derive(Clone)]
struct LogDesk {
    desk: Desk,
    logs: Arc<LogFeeds>,
    hub: HubHandle,
    commands: Arc<Commands>,
}

pub(super) fn routes(desk: &Desk, parts: &ApiParts) -> Routes {
    let desk = LogDesk {
        desk: desk.clone(),
        logs: Arc::clone(&parts.logs),
        hub: parts.hub.clone(),
        commands: Arc::clone(&parts.commands),
    };
    Routes::default().get("/v1/gateways/{gateway}/logs", follow, desk)
}

async fn follow(
    State(desk): State<LogDesk>,
    Path(gateway): Path<String>,
) -> Result<Response, Failure> {
    let name = gateway.clone();
    desk.desk.read(move |rows| known(rows, &name).map(drop)).await?;
    let feed = desk.logs.follow(&gateway)?;
    let mut follower =
        Follower { feed, hub: desk.hub, commands: desk.commands, gateway, ask_at: Instant::now() };
    follower.ask().await;
    let lines = stream::unfold(follower, |mut follower| async {
        let text = follower.next().await?;
        Some((Ok::<_, std::convert::Infallible>(text), follower))
    });
    let content = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content, Body::from_stream(lines)).into_response())
}

struct Follower {
    feed: Receiver<Arc<Logs>>,
    hub: HubHandle,
    commands: Arc<Commands>,
    gateway: String,
    /// When the lease is to be renewed.
    ask_at: Instant,
}

impl Follower {
    /// Asks for log lines for some time. Nobody waits for the answer, but each time is a question
    /// of its own.
    async fn ask(&mut self) {
        self.ask_at = Instant::now() + Duration::from_secs(u64::from(LOG_LEASE_S) / 2);
        let request = Request::Logs { for_s: LOG_LEASE_S };
        self.hub
            .tell(&self.gateway, Down::Command(Command { id: self.commands.next_id(), request }))
            .await;
    }

    /// The next lines; renews the lease when it is half over. An empty line keeps the connection
    /// from looking dead and finds out when the follower is gone.
    async fn next(&mut self) -> Option<String> {
        match tokio::time::timeout_at(self.ask_at, self.feed.recv()).await {
            Ok(Ok(logs)) => {
                if Instant::now() >= self.ask_at {
                    self.ask().await;
                }
                Some(text(&logs))
            }
            Ok(Err(RecvError::Lagged(missed))) => {
                Some(format!("{}\n", json!({"missed_messages": missed})))
            }
            Ok(Err(RecvError::Closed)) => None,
            Err(_) => {
                self.ask().await;
                Some("\n".to_owned())
            }
        }
    }
}

fn text(logs: &Logs) -> String {
    let mut text = String::new();
    if logs.dropped > 0 {
        text += &format!("{}\n", json!({"dropped_lines": logs.dropped}));
    }
    for line in &logs.lines {
        let line = json!({
            "time_ms": line.unix_ms,
            "level": line.level,
            "source": line.source,
            "event": line.event.map(|event| event.to_string()),
            "text": line.text,
        });
        text += &format!("{line}\n");
    }
    text
}
