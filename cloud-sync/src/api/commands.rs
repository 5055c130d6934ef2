//! `POST /v1/gateways/{gateway}/commands`: asks a connected gateway and waits for its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use sync_protocol::EventId;
use sync_protocol::wire::{Command, Down, LetterAt, Message as _, Request, StateAt};

use super::ApiParts;
use super::extract::{Body, Desk, Reply};
use super::gateways::known;
use super::routes::Routes;
use crate::failure::{Failure, Kind};
use crate::limits::{COMMAND_MS_DEFAULT, COMMAND_MS_MAX};
use crate::mqtt::{Commands, HubHandle, Live};

#[derive(Clone)]
struct Phone {
    desk: Desk,
    live: Arc<Live>,
    commands: Arc<Commands>,
    hub: HubHandle,
}

pub(super) fn routes(desk: &Desk, parts: &ApiParts) -> Routes {
    let phone = Phone {
        desk: desk.clone(),
        live: Arc::clone(&parts.live),
        commands: Arc::clone(&parts.commands),
        hub: parts.hub.clone(),
    };
    Routes::default().post("/v1/gateways/{gateway}/commands", ask, phone)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskBody {
    request: Question,
    timeout_ms: Option<u64>,
}

/// A request as JSON: `"status"`, or `{"state-get": {"function": ..., "key": ...}}`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Question {
    Status,
    DeadLetters {
        after: Option<Letter>,
        limit: Option<u32>,
    },
    LetterPayload {
        function: String,
        event: String,
        offset: Option<u64>,
    },
    Redrive {
        function: String,
        event: String,
    },
    Discard {
        function: String,
        event: String,
    },
    StateList {
        function: String,
        device: Option<String>,
        prefix: Option<String>,
        after: Option<StateAt>,
        limit: Option<u32>,
    },
    StateGet {
        function: String,
        device: Option<String>,
        key: String,
        offset: Option<u64>,
    },
    StateReset {
        function: String,
        device: Option<String>,
    },
}

/// A dead letter, as `next` of a page names it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Letter {
    function: String,
    event: String,
}

impl Letter {
    fn into_place(self) -> Result<LetterAt, Failure> {
        Ok(LetterAt { function: self.function, event: event(&self.event)? })
    }
}

fn event(text: &str) -> Result<EventId, Failure> {
    text.parse().map_err(|error: sync_protocol::id::IdError| {
        Failure::invalid(error.to_string(), "dead letters name it")
    })
}

/// Rows of a list that a gateway sends back, unless asked otherwise.
const ROWS_DEFAULT: u32 = 100;

impl Question {
    fn into_request(self) -> Result<Request, Failure> {
        Ok(match self {
            Self::Status => Request::Status,
            Self::DeadLetters { after, limit } => Request::DeadLetters {
                after: after.map(Letter::into_place).transpose()?,
                limit: limit.unwrap_or(ROWS_DEFAULT),
            },
            Self::LetterPayload { function, event, offset } => Request::LetterPayload {
                letter: Letter { function, event }.into_place()?,
                offset: offset.unwrap_or_default(),
            },
            Self::Redrive { function, event: id } => {
                Request::Redrive { function, event: event(&id)? }
            }
            Self::Discard { function, event: id } => {
                Request::Discard { function, event: event(&id)? }
            }
            Self::StateList { function, device, prefix, after, limit } => Request::StateList {
                function,
                device,
                prefix: prefix.unwrap_or_default(),
                after,
                limit: limit.unwrap_or(ROWS_DEFAULT),
            },
            Self::StateGet { function, device, key, offset } => {
                Request::StateGet { function, device, key, offset: offset.unwrap_or_default() }
            }
            Self::StateReset { function, device } => Request::StateReset { function, device },
        })
    }
}

async fn ask(
    State(phone): State<Phone>,
    Path(gateway): Path<String>,
    Body(body): Body<AskBody>,
) -> Result<Reply<Value>, Failure> {
    let request = body.request.into_request()?;
    let name = gateway.clone();
    phone.desk.read(move |rows| known(rows, &name).map(drop)).await?;
    if phone.live.get(&gateway).is_none() {
        let hint = "it works on without a link; ask again when it is back";
        return Err(Failure::conflict(format!("gateway {gateway:?} is not connected"), hint));
    }
    let mut pending = phone.commands.register(&gateway)?;
    let down = Down::Command(Command { id: pending.id, request });
    down.check().map_err(|error| Failure::invalid(error.to_string(), "shorten it"))?;
    phone.hub.tell(&gateway, down).await;
    let wait_ms = body.timeout_ms.unwrap_or(COMMAND_MS_DEFAULT).min(COMMAND_MS_MAX);
    let wait = Duration::from_millis(wait_ms);
    match tokio::time::timeout(wait, &mut pending.reply).await {
        Ok(Ok(Ok(document))) => {
            let reply: Value = serde_json::from_str(&document).map_err(|error| {
                Failure::internal(format!("the gateway's answer is no JSON: {error}"))
            })?;
            Ok(Reply(json!({"gateway": gateway, "reply": reply})))
        }
        Ok(Ok(Err(error))) => Err(Failure::conflict(error, "the gateway refused")),
        Ok(Err(_)) | Err(_) => {
            let error = format!("gateway {gateway:?} did not answer within {wait_ms} ms");
            Err(Failure::new(Kind::Timeout, error, "ask again; it may have done it"))
        }
    }
}
