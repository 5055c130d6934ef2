//! `holm status`: the fleet, and one gateway of it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::args::{Global, Status};
use crate::build::short;
use crate::failure::{Done, Exit};
use crate::fleet;
use crate::http::{Api, escaped};
use crate::out::{Out, Paint, clean, duration_us, size, table};

const WATCH: Duration = Duration::from_secs(2);

/// `holm status`
///
/// # Errors
/// The control plane is not reachable, or there is no such gateway.
pub fn run(args: &Status, global: &Global, out: &Out) -> Done {
    let api = fleet::api(global)?;
    let page = page(&api, args)?;
    if args.watch {
        return watch(&api, args, page, out);
    }
    out.answer(&page.value, |text, out| text.push_str(&(page.human)(out)))
}

/// Shows the page again and again. A control plane that is away is said and waited for: who
/// watches wants to see it come back.
fn watch(api: &Api, args: &Status, first: Page, out: &Out) -> Done {
    let mut now: Done<Page> = Ok(first);
    loop {
        match now {
            Ok(page) => {
                if !out.is_json() {
                    out.clear();
                }
                out.item(&page.value, |out| (page.human)(out))?;
            }
            Err(failure) if failure.exit == Exit::Unreachable => out.failure(&failure),
            Err(failure) => return Err(failure),
        }
        std::thread::sleep(WATCH);
        now = page(api, args);
    }
}

fn page(api: &Api, args: &Status) -> Done<Page> {
    match &args.gateway {
        Some(name) => one(api, name),
        None => all(api),
    }
}

/// What is shown, in both ways.
struct Page {
    value: Value,
    human: Box<dyn Fn(&Out) -> String>,
}

fn all(api: &Api) -> Done<Page> {
    let gateways = fleet::gateways(api)?;
    let versions = versions(api)?;
    let value = json!(gateways);
    let human = move |out: &Out| {
        if gateways.is_empty() {
            return "no gateways yet: `holm gateway add NAME`\n".to_owned();
        }
        let heads = ["GATEWAY", "STATE", "AGENT", "APPS", "QUEUE", "OUTBOX", "DEAD"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        rows.extend(gateways.iter().map(|gateway| row(gateway, &versions)));
        let mut text = table(out, &rows);
        for gateway in &gateways {
            for reason in troubles(gateway) {
                let name = str_of(&gateway["name"]);
                text.push_str(&out.paint(&format!("{name}: {}\n", clean(&reason)), Paint::Yellow));
            }
        }
        text
    };
    Ok(Page { value, human: Box::new(human) })
}

fn row(gateway: &Value, versions: &BTreeMap<String, String>) -> Vec<String> {
    let apps: Vec<String> = list(&gateway["apps"]).map(|app| app_line(app, versions)).collect();
    let health = &gateway["health"];
    let count = |key: &str| health[key].as_u64().map_or("-".to_owned(), |n| n.to_string());
    vec![
        str_of(&gateway["name"]).to_owned(),
        state(gateway),
        str_of(&gateway["agent_version"]).to_owned(),
        if apps.is_empty() { "-".to_owned() } else { apps.join(", ") },
        count("queue_jobs"),
        count("outbox_records"),
        count("dead_letters"),
    ]
}

fn app_line(app: &Value, versions: &BTreeMap<String, String>) -> String {
    let revision = str_of(&app["revision"]);
    let version = versions.get(revision).cloned().unwrap_or_else(|| short(revision));
    let name = str_of(&app["app"]);
    let running = str_of(&app["running"]);
    match str_of(&app["phase"]) {
        "live" => format!("{name} {version}"),
        phase if running.is_empty() || running == revision => format!("{name} {version} {phase}"),
        phase => {
            let runs = versions.get(running).cloned().unwrap_or_else(|| short(running));
            format!("{name} {version} {phase} (runs {runs})")
        }
    }
}

fn state(gateway: &Value) -> String {
    if gateway["online"].as_bool() == Some(true) {
        return "online".to_owned();
    }
    match (gateway["last_seen_ms"].as_u64(), gateway["enrolled_ms"].as_u64()) {
        (Some(seen), _) => format!("offline, seen {} ago", ago(seen)),
        (None, Some(_)) => "enrolled, never seen".to_owned(),
        (None, None) => "not enrolled".to_owned(),
    }
}

/// What an operator should look at.
fn troubles(gateway: &Value) -> Vec<String> {
    let failed =
        list(&gateway["apps"]).filter(|app| !str_of(&app["reason"]).is_empty()).map(|app| {
            format!("{} {}: {}", str_of(&app["app"]), str_of(&app["phase"]), str_of(&app["reason"]))
        });
    let degraded = list(&gateway["health"]["degraded"]).map(|reason| str_of(reason).to_owned());
    // The gateway names a failed app among its own troubles, too.
    let mut all: Vec<String> = failed.collect();
    all.extend(degraded.filter(|reason| !reason.contains(": revision ")));
    all
}

fn one(api: &Api, name: &str) -> Done<Page> {
    let gateway: Value = api.get(&format!("/v1/gateways/{}", escaped(name)))?;
    let versions = versions(api)?;
    let value = gateway.clone();
    let human = move |out: &Out| {
        let mut text =
            format!("{} {}\n", out.paint(str_of(&gateway["name"]), Paint::Bold), state(&gateway));
        let platform = str_of(&gateway["platform"]);
        if !platform.is_empty() {
            text.push_str(&format!(
                "agent {} on {}\n",
                str_of(&gateway["agent_version"]),
                clean(platform)
            ));
        }
        text.push_str(&health(&gateway["health"], gateway["health_ms"].as_u64()));
        text.push_str(&losses(&gateway["losses"]));
        text.push('\n');
        let mut rows = vec![["APP", "VERSION", "PHASE", "RUNNING"].map(str::to_owned).to_vec()];
        rows.extend(list(&gateway["apps"]).map(|app| {
            let version = |key: &str| {
                let digest = str_of(&app[key]);
                versions.get(digest).cloned().unwrap_or_else(|| short(digest))
            };
            let phase = str_of(&app["phase"]).to_owned();
            vec![str_of(&app["app"]).to_owned(), version("revision"), phase, version("running")]
        }));
        text.push_str(&table(out, &rows));
        text.push_str(&firmware(&gateway["firmware"], out));
        for trouble in troubles(&gateway) {
            text.push_str(&out.paint(&format!("{}\n", clean(&trouble)), Paint::Yellow));
        }
        for alarm in list(&gateway["alarms"]) {
            let line = format!("alarm {}: {}\n", str_of(&alarm["code"]), str_of(&alarm["text"]));
            text.push_str(&out.paint(&clean(&line), Paint::Red));
        }
        text
    };
    Ok(Page { value, human: Box::new(human) })
}

/// What devices told last of the images that they are offered.
fn firmware(rows: &Value, out: &Out) -> String {
    let heads = ["DEVICE", "FIRMWARE", "STAGE", "TOLD", "REASON"].map(str::to_owned).to_vec();
    let mut table_rows = vec![heads];
    table_rows.extend(list(rows).map(|row| {
        vec![
            clean(str_of(&row["device"])).into_owned(),
            format!("{} {}", clean(str_of(&row["app"])), row["version"]),
            str_of(&row["stage"]).to_owned(),
            row["at_ms"].as_u64().map_or_else(String::new, |ms| format!("{} ago", ago(ms))),
            clean(str_of(&row["reason"])).into_owned(),
        ]
    }));
    if table_rows.len() == 1 { String::new() } else { format!("\n{}", table(out, &table_rows)) }
}

fn health(health: &Value, at_ms: Option<u64>) -> String {
    if health.is_null() {
        return "no report of its health yet: one comes every half minute\n".to_owned();
    }
    let number = |key: &str| health[key].as_u64().unwrap_or_default();
    let told = at_ms.map_or_else(|| "some time".to_owned(), ago);
    format!(
        "health {told} ago: up {}, {} events done, {} faults, {} clients\n\
         queue {} jobs ({}), outbox {} records ({}), {} dead letters\n",
        duration_us(number("uptime_s").saturating_mul(1_000_000)),
        number("events_done"),
        number("faults"),
        number("clients"),
        number("queue_jobs"),
        size(number("queue_bytes")),
        number("outbox_records"),
        size(number("outbox_bytes")),
        number("dead_letters"),
    )
}

/// Records that will not come, by reason.
fn losses(losses: &Value) -> String {
    let mut sums = BTreeMap::<&str, u64>::new();
    for loss in list(losses) {
        *sums.entry(str_of(&loss["reason"])).or_default() +=
            loss["records"].as_u64().unwrap_or_default();
    }
    if sums.is_empty() {
        return String::new();
    }
    let told: Vec<String> = sums
        .iter()
        .map(|(reason, records)| match *reason {
            "gap" => format!("{records} lost on the gateway"),
            "full" => format!("{records} dropped, the outbox was full"),
            "newest" => format!("{records} not taken, the outbox was full"),
            "expired" => format!("{records} dropped, they were too old"),
            "replaced" => format!("{records} replaced by newer ones"),
            other => format!("{records} {other}"),
        })
        .collect();
    format!("records that will not come: {}\n", told.join("; "))
}

/// Versions of revisions by digest.
fn versions(api: &Api) -> Done<BTreeMap<String, String>> {
    let page: Value = api.get("/v1/revisions?limit=1000")?;
    let pairs = list(&page["rows"]);
    Ok(pairs
        .map(|row| (str_of(&row["digest"]).to_owned(), str_of(&row["version"]).to_owned()))
        .collect())
}

fn ago(unix_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let ms = u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(unix_ms);
    duration_us((ms / 1_000).saturating_mul(1_000_000))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn str_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_by_reason_over_all_streams() {
        let value = json!([
            {"stream": 1, "reason": "full", "records": 40},
            {"stream": 2, "reason": "full", "records": 2},
            {"stream": 2, "reason": "gap", "records": 7},
        ]);
        let told = losses(&value);
        assert_eq!(
            told,
            "records that will not come: 42 dropped, the outbox was full; 7 lost on the gateway\n"
        );
        assert_eq!(losses(&Value::Null), "");
    }
}
