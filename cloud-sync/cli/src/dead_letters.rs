//! `holm dead-letters`: events that were given up, and what to do with them.
//!
//! A gateway keeps its dead letters and reports each to the control plane. Looking at them works
//! without a link; giving one another chance is the gateway's work.

use edge_agent::letters::Choice;
use serde_json::{Value, json};

use crate::args::{DeadLetterCommand, DeadLetters, Global, LetterFilter, OneLetter, SomeLetters};
use crate::bytes_json;
use crate::failure::{Done, Exit, Failure};
use crate::fleet;
use crate::http::{Api, escaped};
use crate::out::{Out, clean, clean_lines, duration_ms, payload, table};

/// Rows of one answer of the control plane.
const PAGE_ROWS: usize = 1_000;

/// `holm dead-letters`
///
/// # Errors
/// The gateway is not connected, or has no such dead letter.
pub fn run(args: &DeadLetters, global: &Global, out: &Out) -> Done {
    let api = fleet::api(global)?;
    match &args.command {
        DeadLetterCommand::List { gateway, filter, limit } => {
            list(&api, gateway.as_deref(), filter, *limit, out)
        }
        DeadLetterCommand::Show(one) => show(&api, one, out),
        DeadLetterCommand::Redrive(some) => each(&api, some, &REDRIVE, out),
        DeadLetterCommand::Purge(some) => each(&api, some, &PURGE, out),
    }
}

/// Dead letters that a gateway keeps now, newest first.
fn kept(api: &Api, gateway: &str) -> Done<Vec<Value>> {
    let mut letters = fleet::rows(
        api,
        gateway,
        |after| json!({ "dead-letters": { "after": after, "limit": fleet::GATEWAY_ROWS } }),
    )?;
    letters.sort_by_key(|letter| std::cmp::Reverse(letter["unix_ms"].as_u64()));
    Ok(letters)
}

/// The payload of a dead letter, which stands in its row where it is short.
fn payload_of(api: &Api, gateway: &str, letter: &Value) -> Done<Vec<u8>> {
    match fleet::bytes(&letter["payload"]) {
        Some(bytes) => Ok(bytes),
        None => fleet::value(api, gateway, |offset| {
            json!({ "letter-payload": {
                "function": letter["function"], "event": letter["event"], "offset": offset,
            }})
        }),
    }
}

/// Dead letters that gateways have reported, newest first, at most `limit` that are meant.
fn reported(api: &Api, gateway: Option<&str>, choice: &Choice, limit: usize) -> Done<Vec<Value>> {
    let mut only = gateway.map_or(String::new(), |name| format!("&gateway={}", escaped(name)));
    if let Some(function) = &choice.function {
        only.push_str(&format!("&function={}", escaped(function)));
    }
    let (mut letters, mut before) = (Vec::new(), String::new());
    while letters.len() < limit {
        let path = format!("/v1/dead-letters?order=desc&limit={PAGE_ROWS}{only}{before}");
        let mut page: Value = api.get(&path)?;
        let Value::Array(mut rows) = page["rows"].take() else { break };
        let Some(next) = page["next"].as_u64().filter(|_| !rows.is_empty()) else { break };
        rows.iter_mut().for_each(put_age);
        letters.extend(choice.of(rows));
        before = format!("&before={next}");
    }
    letters.truncate(limit);
    Ok(letters)
}

/// A reported letter has a time, not an age.
fn put_age(letter: &mut Value) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    if let Some(at) = letter["unix_ms"].as_u64() {
        letter["age_ms"] = now_ms.saturating_sub(at).into();
    }
}

fn choice(event: Option<&String>, filter: &LetterFilter) -> Choice {
    let LetterFilter { function, older_than } = filter;
    Choice { event: event.cloned(), function: function.clone(), older_than_ms: *older_than }
}

fn list(api: &Api, gateway: Option<&str>, filter: &LetterFilter, limit: usize, out: &Out) -> Done {
    let choice = choice(None, filter);
    let letters = match gateway {
        None => reported(api, None, &choice, limit)?,
        Some(name) => match kept(api, name) {
            Ok(letters) => choice.of(letters).into_iter().take(limit).collect(),
            Err(failure) if failure.exit == Exit::Failed => {
                out.note(&format!("{failure}; these are the ones it has reported"));
                reported(api, gateway, &choice, limit)?
            }
            Err(failure) => return Err(failure),
        },
    };
    out.answer(&letters, |text, out| {
        if letters.is_empty() {
            text.push_str("no dead letters\n");
            return;
        }
        let heads = ["EVENT", "GATEWAY", "FUNCTION", "DEVICE", "TRIES", "REASON", "ERROR"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        rows.extend(letters.iter().map(|letter| {
            let field = |key: &str| letter[key].as_str().unwrap_or("-").to_owned();
            let error = field("error").lines().next().unwrap_or_default().to_owned();
            vec![
                field("event"),
                letter["gateway"].as_str().or(gateway).unwrap_or("-").to_owned(),
                field("function"),
                field("device"),
                letter["attempts"].to_string(),
                field("reason"),
                error,
            ]
        }));
        text.push_str(&table(out, &rows));
    })
}

fn find(api: &Api, one: &OneLetter) -> Done<Value> {
    let found = kept(api, &one.gateway)?.into_iter().find(|letter| letter["event"] == *one.event);
    found.ok_or_else(|| unknown(&one.gateway, &one.event))
}

fn unknown(gateway: &str, event: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("{gateway} keeps no dead letter {event}"))
        .next(format!("`holm dead-letters list --gateway {gateway}`"))
}

fn show(api: &Api, one: &OneLetter, out: &Out) -> Done {
    let mut letter = find(api, one)?;
    let bytes = payload_of(api, &one.gateway, &letter)?;
    if let Some(object) = letter.as_object_mut() {
        object.remove("payload");
        bytes_json::put(object, "payload", &bytes);
    }
    out.answer(&letter, |text, _| {
        for key in ["event", "function", "trigger", "topic", "device", "reason"] {
            let value = letter[key].as_str().unwrap_or("-");
            text.push_str(&format!("{key:9} {}\n", clean(value)));
        }
        text.push_str(&format!("attempts  {}\n", letter["attempts"]));
        if let Some(age_ms) = letter["age_ms"].as_u64() {
            text.push_str(&format!("given up  {} ago\n", duration_ms(age_ms)));
        }
        let error = clean_lines(letter["error"].as_str().unwrap_or_default());
        text.push_str(&format!("error     {}\n", error.replace('\n', "\n          ")));
        text.push_str(&format!("payload   {}\n", payload(&bytes)));
        text.push_str(&format!(
            "\nrun it here, in the app's folder: holm dead-letters show {} --gateway {} --json | \
             holm invoke {} --event -\n",
            one.event,
            one.gateway,
            letter["function"].as_str().and_then(|id| id.split('/').nth(1)).unwrap_or("FUNCTION"),
        ));
    })
}

/// What is done to dead letters.
struct Deed {
    /// Key of the request to the gateway.
    request: &'static str,
    /// `this would VERB 3 dead letters`
    verb: &'static str,
    /// Key of the answer, and `DONE 3 dead letters of gw-1`.
    done: &'static str,
}

const REDRIVE: Deed = Deed { request: "redrive", verb: "redrive", done: "redriven" };
const PURGE: Deed = Deed { request: "discard", verb: "delete", done: "purged" };

fn count(letters: usize) -> String {
    if letters == 1 { "1 dead letter".to_owned() } else { format!("{letters} dead letters") }
}

/// Asks the gateway for each letter by itself: what was done stays done, whatever comes after.
fn each(api: &Api, some: &SomeLetters, deed: &Deed, out: &Out) -> Done {
    let SomeLetters { event, gateway, filter, yes, .. } = some;
    let letters = choice(event.as_ref(), filter).of(kept(api, gateway)?);
    if let Some(event) = event.as_ref().filter(|_| letters.is_empty()) {
        return Err(unknown(gateway, event));
    }
    if event.is_none() && !yes {
        let problem = format!("this would {} {} of {gateway}", deed.verb, count(letters.len()));
        return Err(Failure::usage(problem).next("add --yes"));
    }
    let (mut done, mut refused) = (0, Vec::new());
    for letter in &letters {
        let target = json!({ "function": letter["function"], "event": letter["event"] });
        match fleet::ask(api, gateway, &json!({ deed.request: target })) {
            Ok(_) => done += 1,
            Err(failure) if failure.exit == Exit::Failed => refused.push(failure.to_string()),
            Err(failure) => {
                out.note(&format!("{} {} of {gateway} before this", deed.done, count(done)));
                return Err(failure);
            }
        }
    }
    let answer = json!({ "gateway": gateway, deed.done: done, "refused": refused });
    out.answer(&answer, |text, _| {
        text.push_str(&format!("{} {} of {gateway}\n", deed.done, count(done)));
    })?;
    if refused.is_empty() {
        return Ok(());
    }
    let problem = format!("{} of {} stay: {}", refused.len(), letters.len(), refused[0]);
    Err(Failure::failed(problem))
}
