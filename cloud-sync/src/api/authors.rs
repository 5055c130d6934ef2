//! `/v1/authors`: whose revisions are accepted.

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use sync_protocol::AuthorKey;
use sync_protocol::limits::{AUTHOR_KEYS_MAX, LABEL_BYTES_MAX};

use super::extract::{Body, Created, Desk, Reply};
use super::routes::Routes;
use super::view::Page;
use crate::failure::Failure;
use crate::store::access::AuthorRow;

pub(super) fn routes(desk: &Desk) -> Routes {
    Routes::default().get("/v1/authors", list, desk.clone()).post("/v1/authors", add, desk.clone())
}

fn author(row: &AuthorRow) -> Value {
    json!({
        "id": row.key.id(),
        "key": row.key,
        "name": row.name,
        "added_ms": row.added_ms,
    })
}

async fn list(State(desk): State<Desk>) -> Result<Reply<Page<Value>>, Failure> {
    let rows = desk.read(|rows| Ok(rows.authors()?)).await?;
    Ok(Reply(Page { rows: rows.iter().map(author).collect(), next: None }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBody {
    key: String,
    name: String,
}

/// Gateways that are enrolled already go on with the keys they pinned.
async fn add(
    State(desk): State<Desk>,
    Body(body): Body<AddBody>,
) -> Result<Created<Value>, Failure> {
    let key: AuthorKey = body.key.parse().map_err(|error: sync_protocol::revision::KeyError| {
        Failure::invalid(error.to_string(), "`holm keys show` prints it")
    })?;
    let name = body.name;
    if name.is_empty() || name.len() > LABEL_BYTES_MAX || name.chars().any(char::is_control) {
        let error = format!("an author's name has 1 to {LABEL_BYTES_MAX} printable bytes");
        return Err(Failure::invalid(error, "choose another name"));
    }
    let row = desk
        .write(move |rows, now_ms| {
            if rows.authors()?.len() >= AUTHOR_KEYS_MAX {
                let error = format!("there are {AUTHOR_KEYS_MAX} author keys already");
                return Err(Failure::conflict(error, "gateways pin no more"));
            }
            let row = AuthorRow { key, name, added_ms: now_ms };
            rows.put_author(&row)?;
            Ok(row)
        })
        .await?;
    Ok(Created(author(&row)))
}
