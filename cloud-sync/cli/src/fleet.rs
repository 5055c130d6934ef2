//! What commands need to know of a fleet: which gateways are meant, and asking one of them.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{Global, Targets};
use crate::context::Contexts;
use crate::failure::{Done, Failure};
use crate::http::{Api, Method, escaped};

/// Rows of one page.
const PAGE_ROWS: usize = 500;
/// How long a gateway has to answer; the HTTP request waits longer.
const ANSWER_MS: u64 = 20_000;

/// The control plane that is meant.
///
/// # Errors
/// None is known, or the configuration is broken.
pub fn api(global: &Global) -> Done<Api> {
    let (_, context) = Contexts::load(global)?.chosen(global)?;
    Api::new(&context)
}

#[derive(Debug, Deserialize)]
struct Page {
    rows: Vec<Value>,
    next: Option<Value>,
}

/// All gateways.
///
/// # Errors
/// See [`Api::call`].
pub fn gateways(api: &Api) -> Done<Vec<Value>> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let page: Page =
            api.get(&format!("/v1/gateways?limit={PAGE_ROWS}&after={}", escaped(&after)))?;
        let end = page.rows.is_empty();
        all.extend(page.rows);
        match page.next.as_ref().and_then(Value::as_str) {
            Some(next) if !end && next != after => after = next.to_owned(),
            Some(_) | None => return Ok(all),
        }
    }
}

/// Which gateways are meant: a list, or `None` for all. Where nothing was said and there is only
/// one, it is that one.
///
/// # Errors
/// Nothing was said and there are none or several; see also [`Api::call`].
pub fn targets(api: &Api, targets: &Targets) -> Done<Option<Vec<String>>> {
    if targets.all {
        return Ok(None);
    }
    if !targets.to.is_empty() {
        return Ok(Some(targets.to.clone()));
    }
    let all = gateways(api)?;
    let mut names: Vec<String> =
        all.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect();
    match names.len() {
        1 => Ok(Some(names)),
        0 => Err(Failure::usage("there is no gateway yet").next("`holm gateway add NAME`")),
        count => {
            names.truncate(10);
            let problem = format!("there are {count} gateways: which are meant?");
            Err(Failure::usage(problem).next(format!("--to {}, or --all", names.join(","))))
        }
    }
}

/// Asks a connected gateway and waits for its answer.
///
/// # Errors
/// It is not connected, refuses or does not answer in time; see also [`Api::call`].
pub fn ask(api: &Api, gateway: &str, request: &Value) -> Done<Value> {
    let path = format!("/v1/gateways/{}/commands", escaped(gateway));
    let body = json!({ "request": request, "timeout_ms": ANSWER_MS });
    let mut answer: Value = api.call(Method::Post, &path, Some(&body))?;
    Ok(answer["reply"].take())
}

/// The bytes that a gateway sends as `{"text": ..}` or `{"hex": ..}`.
#[must_use]
pub fn bytes(value: &Value) -> Option<Vec<u8>> {
    match (value["text"].as_str(), value["hex"].as_str()) {
        (Some(text), _) => Some(text.as_bytes().to_vec()),
        (None, Some(hex)) => crate::bytes_json::from_hex(hex),
        (None, None) => None,
    }
}
