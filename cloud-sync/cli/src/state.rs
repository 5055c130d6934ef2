//! `holm state`: what functions keep on a gateway.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::args::{Global, State, StateCommand, StateTarget};
use crate::bytes_json;
use crate::failure::{Done, Exit, Failure};
use crate::fleet;
use crate::http::{Api, escaped};
use crate::out::{Out, payload, table};
use crate::state_file::StateFile;

/// `holm state`
///
/// # Errors
/// The gateway is not connected, or has no such function or key.
pub fn run(args: &State, global: &Global, out: &Out) -> Done {
    let api = fleet::api(global)?;
    match &args.command {
        StateCommand::List { target, prefix } => list(&api, target, prefix, out),
        StateCommand::Get { target, key } => get(&api, target, key, out),
        StateCommand::Export { target, out: file } => export(&api, target, file.as_deref(), out),
        StateCommand::Reset { target, yes } => reset(&api, target, *yes, out),
    }
}

/// A key of one lane.
struct Entry {
    /// The device, or the key of its lane where the function is ordered by another.
    device: Option<String>,
    key: String,
    bytes: u64,
    /// `None` where it is too long to stand in a list.
    value: Option<Vec<u8>>,
}

fn entries(api: &Api, target: &StateTarget, prefix: &str) -> Done<Vec<Entry>> {
    let rows = fleet::rows(api, &target.gateway, |after| {
        json!({ "state-list": {
            "function": target.function, "device": target.device, "prefix": prefix,
            "after": after, "limit": fleet::GATEWAY_ROWS,
        }})
    })?;
    let entry = |row: &Value| {
        Some(Entry {
            device: row["device"].as_str().map(str::to_owned),
            key: row["key"].as_str()?.to_owned(),
            bytes: row["value_bytes"].as_u64()?,
            value: fleet::bytes(&row["value"]),
        })
    };
    Ok(rows.iter().filter_map(entry).collect())
}

/// The value of an entry: it stands in the list or is fetched. `None`: it is gone meanwhile.
fn value_of(api: &Api, target: &StateTarget, entry: &Entry) -> Done<Option<Vec<u8>>> {
    match &entry.value {
        Some(value) => Ok(Some(value.clone())),
        None => match fetch(api, target, entry.device.as_deref(), &entry.key) {
            Err(failure) if failure.exit == Exit::NotFound => Ok(None),
            other => other.map(Some),
        },
    }
}

fn list(api: &Api, target: &StateTarget, prefix: &str, out: &Out) -> Done {
    let entries = entries(api, target, prefix)?;
    let mut value: Vec<Map<String, Value>> = Vec::new();
    if out.is_json() {
        for entry in &entries {
            let Some(bytes) = value_of(api, target, entry)? else { continue };
            let mut object = Map::new();
            object.insert("device".to_owned(), json!(entry.device));
            object.insert("key".to_owned(), json!(entry.key));
            object.insert("bytes".to_owned(), json!(bytes.len()));
            bytes_json::put(&mut object, "value", &bytes);
            value.push(object);
        }
    }
    out.answer(&value, |text, out| {
        if entries.is_empty() {
            text.push_str("no state\n");
            return;
        }
        let mut rows = vec![["LANE", "KEY", "BYTES", "VALUE"].map(str::to_owned).to_vec()];
        rows.extend(entries.iter().map(|entry| {
            let device = entry.device.clone().unwrap_or_else(|| "-".to_owned());
            let value = entry.value.as_deref().map_or("(see `holm state get`)".to_owned(), payload);
            vec![device, entry.key.clone(), entry.bytes.to_string(), cut(&value)]
        }));
        text.push_str(&table(out, &rows));
    })
}

/// A value's beginning; `get` shows all of it.
fn cut(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    if text.chars().count() <= SHOWN_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_MAX - 2).collect::<String>() + ".."
}

fn fetch(api: &Api, target: &StateTarget, device: Option<&str>, key: &str) -> Done<Vec<u8>> {
    let value = fleet::value(api, &target.gateway, |offset| {
        json!({ "state-get": {
            "function": target.function, "device": device, "key": key, "offset": offset,
        }})
    });
    value.map_err(|failure| {
        if failure.problems != ["no such key"] {
            return failure;
        }
        let of = device.map_or(String::new(), |device| format!(" for device {device}"));
        let problem = format!("{} has no key `{key}`{of}", target.function);
        Failure::new(Exit::NotFound, problem).next("`holm state list` shows keys and devices")
    })
}

fn get(api: &Api, target: &StateTarget, key: &str, out: &Out) -> Done {
    let bytes = fetch(api, target, target.device.as_deref(), key)?;
    if !out.is_json() {
        return out.raw(&bytes);
    }
    let mut object = Map::new();
    object.insert("key".to_owned(), json!(key));
    object.insert("bytes".to_owned(), json!(bytes.len()));
    bytes_json::put(&mut object, "value", &bytes);
    out.answer(&object, |_, _| {})
}

fn export(api: &Api, target: &StateTarget, file: Option<&Path>, out: &Out) -> Done {
    let mut state = StateFile::new(&target.function, state_version(api, target)?);
    let mut keys = 0;
    for entry in entries(api, target, "")? {
        if let Some(value) = value_of(api, target, &entry)? {
            state.put(entry.device.as_deref().unwrap_or_default(), &entry.key, &value);
            keys += 1;
        }
    }
    let Some(path) = file else { return out.raw(state.to_text().as_bytes()) };
    std::fs::write(path, state.to_text()).map_err(|error| Failure::file("write", path, &error))?;
    out.answer(&json!({ "function": target.function, "keys": keys, "file": path }), |text, _| {
        text.push_str(&format!("{keys} keys are in {}\n", path.display()));
    })
}

/// The version of the state's shape, from the manifest of what runs.
fn state_version(api: &Api, target: &StateTarget) -> Done<u32> {
    let unknown = || {
        let problem = format!("{} does not run on {}", target.function, target.gateway);
        Failure::new(Exit::NotFound, problem).next("write app/function")
    };
    let (app, name) = target.function.split_once('/').ok_or_else(unknown)?;
    let gateway: Value = api.get(&format!("/v1/gateways/{}", escaped(&target.gateway)))?;
    let apps = gateway["apps"].as_array().into_iter().flatten();
    let running = apps.filter(|row| row["app"] == app).find_map(|row| row["running"].as_str());
    let revision: Value =
        api.get(&format!("/v1/revisions/{}", escaped(running.ok_or_else(unknown)?)))?;
    let version = &revision["manifest"]["functions"][name]["state_version"];
    version.as_u64().and_then(|version| u32::try_from(version).ok()).ok_or_else(unknown)
}

fn reset(api: &Api, target: &StateTarget, yes: bool, out: &Out) -> Done {
    let whose = match &target.device {
        Some(device) => format!("the state of {} for device {device}", target.function),
        None => format!("all state of {}", target.function),
    };
    if !yes {
        let problem = format!("this deletes {whose} on {}", target.gateway);
        return Err(
            Failure::usage(problem).next("save it with `holm state export`; then add --yes")
        );
    }
    let request =
        json!({ "state-reset": { "function": target.function, "device": target.device } });
    fleet::ask(api, &target.gateway, &request)?;
    let value = json!({ "function": target.function, "device": target.device, "reset": true });
    out.answer(&value, |text, _| text.push_str(&format!("{whose} is deleted\n")))
}
