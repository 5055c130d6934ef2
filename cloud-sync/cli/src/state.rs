//! `holm state`: what functions keep on a gateway.

use serde_json::{Map, Value, json};

use crate::args::{Global, State, StateCommand, StateTarget};
use crate::bytes_json;
use crate::failure::{Done, Exit, Failure};
use crate::fleet;
use crate::http::{Api, escaped};
use crate::out::{Out, payload, table};
use crate::state_file::StateFile;

/// Keys asked for at once; a gateway's answer has a bound of its own.
const KEYS_MAX: usize = 1_000;

/// `holm state`
///
/// # Errors
/// The gateway is not connected, or has no such function or key.
pub fn run(args: &State, global: &Global, out: &Out) -> Done {
    let api = fleet::api(global)?;
    match &args.command {
        StateCommand::List { target, prefix } => list(&api, target, prefix, out),
        StateCommand::Get { target, key } => get(&api, target, key, out),
        StateCommand::Export { target, out: file } => {
            let text = export(&api, target, out)?;
            match file {
                Some(path) => {
                    std::fs::write(path, text).map_err(|error| Failure::file("write", path, &error))
                }
                None => out.raw(text.as_bytes()),
            }
        }
        StateCommand::Reset { target, yes } => reset(&api, target, *yes, out),
    }
}

/// A key with its value.
struct Entry {
    device: Option<String>,
    key: String,
    value: Vec<u8>,
}

fn entries(api: &Api, target: &StateTarget, prefix: &str, out: &Out) -> Done<Vec<Entry>> {
    let request = json!({ "state-list": {
        "function": target.function, "device": target.device, "prefix": prefix, "limit": KEYS_MAX,
    }});
    let rows = fleet::ask(api, &target.gateway, &request)?;
    let entries: Vec<Entry> = rows
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| {
            Some(Entry {
                device: row["device"].as_str().map(str::to_owned),
                key: row["key"].as_str()?.to_owned(),
                value: fleet::bytes(&row["value"])?,
            })
        })
        .collect();
    if entries.len() >= KEYS_MAX {
        out.note(&format!("only the first {KEYS_MAX} keys: narrow it with --device or --prefix"));
    }
    Ok(entries)
}

fn list(api: &Api, target: &StateTarget, prefix: &str, out: &Out) -> Done {
    let entries = entries(api, target, prefix, out)?;
    let value: Vec<Map<String, Value>> = entries
        .iter()
        .map(|entry| {
            let mut object = Map::new();
            object.insert("device".to_owned(), json!(entry.device));
            object.insert("key".to_owned(), json!(entry.key));
            bytes_json::put(&mut object, "value", &entry.value);
            object
        })
        .collect();
    out.answer(&value, |text, out| {
        if entries.is_empty() {
            text.push_str("no state\n");
            return;
        }
        let mut rows = vec![["DEVICE", "KEY", "BYTES", "VALUE"].map(str::to_owned).to_vec()];
        rows.extend(entries.iter().map(|entry| {
            let device = entry.device.clone().unwrap_or_else(|| "-".to_owned());
            let bytes = entry.value.len().to_string();
            vec![device, entry.key.clone(), bytes, cut(&payload(&entry.value))]
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

fn get(api: &Api, target: &StateTarget, key: &str, out: &Out) -> Done {
    let request = json!({ "state-get": {
        "function": target.function, "device": target.device, "key": key,
    }});
    let missing = || {
        let problem = format!("{} has no key `{key}` there", target.function);
        Failure::new(Exit::NotFound, problem).next("`holm state list` shows keys and devices")
    };
    let value = fleet::ask(api, &target.gateway, &request)
        .map_err(|failure| if failure.problems == ["no such key"] { missing() } else { failure })?;
    let bytes = fleet::bytes(&value).ok_or_else(missing)?;
    if !out.is_json() {
        return out.raw(&bytes);
    }
    let mut object = Map::new();
    object.insert("key".to_owned(), json!(key));
    bytes_json::put(&mut object, "value", &bytes);
    out.answer(&object, |_, _| {})
}

fn export(api: &Api, target: &StateTarget, out: &Out) -> Done<String> {
    let mut file = StateFile::new(&target.function, state_version(api, target)?);
    for entry in entries(api, target, "", out)? {
        file.put(entry.device.as_deref().unwrap_or_default(), &entry.key, &entry.value);
    }
    Ok(file.to_text())
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
