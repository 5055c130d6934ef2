//! What commands need to know of a fleet: which gateways are meant, and asking one of them.

use std::cmp::Ordering;

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
/// Rows asked for at once; a page may hold fewer.
pub const GATEWAY_ROWS: usize = 1_000;
/// How often a value is read again that changed meanwhile.
const VALUE_TRIES: usize = 5;

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

/// All rows of a list that a gateway answers in pages; `request` makes the question, with `next` of
/// the page before.
///
/// # Errors
/// As [`ask`], or the pages do not end.
pub fn rows(
    api: &Api,
    gateway: &str,
    request: impl Fn(Option<Value>) -> Value,
) -> Done<Vec<Value>> {
    let (mut all, mut next) = (Vec::new(), None);
    loop {
        let mut page = ask(api, gateway, &request(next.clone()))?;
        let Value::Array(rows) = page["rows"].take() else { return Err(strange(gateway)) };
        all.extend(rows);
        match page["next"].take() {
            Value::Null => return Ok(all),
            behind if next.as_ref() == Some(&behind) => return Err(strange(gateway)),
            behind => next = Some(behind),
        }
    }
}

/// A value of a gateway, fetched in pieces; `request` makes the question for the piece that begins
/// at an offset.
///
/// # Errors
/// As [`ask`], or the value changes as often as it is read.
pub fn value(api: &Api, gateway: &str, request: impl Fn(usize) -> Value) -> Done<Vec<u8>> {
    for _ in 0..VALUE_TRIES {
        let mut whole = Vec::new();
        let mut first = Value::Null;
        loop {
            let piece = ask(api, gateway, &request(whole.len()))?;
            if first.is_null() {
                first = json!([piece["bytes"], piece["crc32c"]]);
            }
            if first != json!([piece["bytes"], piece["crc32c"]]) {
                break; // It changed between two pieces.
            }
            let bytes = bytes(&piece).ok_or_else(|| strange(gateway))?;
            let length = piece["bytes"].as_u64().ok_or_else(|| strange(gateway))?;
            let is_empty = bytes.is_empty();
            whole.extend(bytes);
            match (whole.len() as u64).cmp(&length) {
                Ordering::Equal => return Ok(whole),
                Ordering::Less if !is_empty => {}
                Ordering::Less | Ordering::Greater => return Err(strange(gateway)),
            }
        }
    }
    let problem = format!("the value changed {VALUE_TRIES} times while it was read");
    Err(Failure::failed(problem).next("ask again when its device is quiet"))
}

fn strange(gateway: &str) -> Failure {
    Failure::failed(format!("{gateway}: an answer that makes no sense"))
        .next("are this `holm` and the gateway's agent of the same version?")
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
