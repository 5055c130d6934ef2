//! `holm dead-letters`: events that were given up, and what to do with them.
//!
//! A gateway keeps its dead letters and reports each to the control plane. Looking at them works
//! without a link; giving one another chance is the gateway's work.

use serde_json::{Map, Value, json};

use crate::args::{DeadLetterCommand, DeadLetters, Global, OneLetter};
use crate::bytes_json;
use crate::failure::{Done, Exit, Failure};
use crate::fleet;
use crate::http::{Api, escaped};
use crate::out::{Out, clean, clean_lines, payload, table};

/// `holm dead-letters`
///
/// # Errors
/// The gateway is not connected, or has no such dead letter.
pub fn run(args: &DeadLetters, global: &Global, out: &Out) -> Done {
    let api = fleet::api(global)?;
    match &args.command {
        DeadLetterCommand::List { gateway } => list(&api, gateway.as_deref(), out),
        DeadLetterCommand::Show(one) => show(&api, one, out),
        DeadLetterCommand::Redrive(one) => redrive(&api, one, out),
        DeadLetterCommand::Purge { event, gateway, yes } => {
            purge(&api, gateway, event.as_deref(), *yes, out)
        }
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

/// Dead letters that gateways have reported, newest first.
fn reported(api: &Api, gateway: Option<&str>) -> Done<Vec<Value>> {
    let only = gateway.map_or(String::new(), |name| format!("&gateway={}", escaped(name)));
    let mut page: Value = api.get(&format!("/v1/dead-letters?order=desc&limit=1000{only}"))?;
    match page["rows"].take() {
        Value::Array(letters) => Ok(letters),
        _ => Ok(Vec::new()),
    }
}

fn list(api: &Api, gateway: Option<&str>, out: &Out) -> Done {
    let letters = match gateway {
        None => reported(api, None)?,
        Some(name) => match kept(api, name) {
            Ok(letters) => letters,
            Err(failure) if failure.exit == Exit::Failed => {
                out.note(&format!("{failure}; these are the ones it has reported"));
                reported(api, gateway)?
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
    found.ok_or_else(|| {
        let problem = format!("{} keeps no dead letter {}", one.gateway, one.event);
        Failure::new(Exit::NotFound, problem)
            .next(format!("`holm dead-letters list --gateway {}`", one.gateway))
    })
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

fn redrive(api: &Api, one: &OneLetter, out: &Out) -> Done {
    let letter = find(api, one)?;
    let request = json!({ "redrive": { "function": letter["function"], "event": one.event } });
    fleet::ask(api, &one.gateway, &request)?;
    out.answer(&json!({ "event": one.event, "redriven": true }), |text, _| {
        text.push_str(&format!("{} is in the queue again\n", one.event));
    })
}

fn count(letters: usize) -> String {
    if letters == 1 { "1 dead letter".to_owned() } else { format!("{letters} dead letters") }
}

fn purge(api: &Api, gateway: &str, event: Option<&str>, yes: bool, out: &Out) -> Done {
    let mut letters = match event {
        Some(event) => {
            let one = OneLetter { event: event.to_owned(), gateway: gateway.to_owned() };
            vec![find(api, &one)?]
        }
        None => kept(api, gateway)?,
    };
    if !yes {
        let problem = format!("this deletes {} of {gateway}", count(letters.len()));
        return Err(Failure::usage(problem).next("add --yes"));
    }
    let purged = letters.len();
    for letter in &mut letters {
        let mut target = Map::new();
        for key in ["function", "event"] {
            target.insert(key.to_owned(), letter[key].take());
        }
        fleet::ask(api, gateway, &json!({ "discard": target }))?;
    }
    out.answer(&json!({ "gateway": gateway, "purged": purged }), |text, _| {
        text.push_str(&format!("deleted {} of {gateway}\n", count(purged)));
    })
}
