//! `edge-agent status` for people. The whole document is `--json` (`docs/status-fields.md`).

use std::fmt::Write;

use serde_json::Value;

/// Rates are shown after so long.
const RATE_AFTER_MS: u64 = 600_000;

/// The status in lines: a word, then what there is to say.
#[must_use]
pub(crate) fn text(status: &Value) -> String {
    let mut lines = Lines(String::new());
    head(status, &mut lines);
    lines.add("uplink", &uplink(&status["uplink"]));
    lines.add("devices", &devices(&status["devices"]));
    buses(&status["buses"], &mut lines);
    queues(status, &mut lines);
    lines.add("drops", &drops(&status["drops"]));
    filters(&status["filters"], &mut lines);
    batches(&status["batches"], &mut lines);
    disk(&status["disk"], &mut lines);
    for app in status["deployments"]["apps"].as_array().into_iter().flatten() {
        let word = |key: &str| app[key].as_str().unwrap_or_default();
        let (name, phase, reason) = (word("app"), word("phase"), word("reason"));
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        lines.add("app", &format!("{name}  {phase}  {:.12}{why}", word("revision")));
    }
    lines.0
}

struct Lines(String);

impl Lines {
    fn add(&mut self, word: &str, text: &str) {
        writeln!(self.0, "{word:<14}{text}").expect("invariant: writing to a string succeeds");
    }
}

fn head(status: &Value, lines: &mut Lines) {
    let word = |key: &str| status[key].as_str().unwrap_or("-");
    let up = duration(status["uptime_s"].as_u64().unwrap_or_default() * 1_000);
    let version = word("version");
    lines.add("gateway", &format!("{} (version {version}), up for {up}", word("gateway")));
    agent(&status["agent"], lines);
    system(&status["system"], lines);
    let listeners = status["listeners"].as_array().into_iter().flatten();
    let listeners: Vec<_> = listeners.filter_map(Value::as_str).collect();
    let none = "nowhere: no [[listeners]]".to_owned();
    lines.add("listening", &if listeners.is_empty() { none } else { listeners.join(", ") });
    let reasons = status["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let reasons: Vec<_> = reasons.collect();
    if reasons.is_empty() {
        lines.add("degraded", "no");
    }
    for (n, reason) in reasons.into_iter().enumerate() {
        lines.add(if n == 0 { "degraded" } else { "" }, reason);
    }
    if status["clock"]["synced"] == Value::Bool(false) {
        lines.add("clock", "not synced: cron schedules wait");
    }
}

/// The slot, where there is one, and the last update that did not stay.
fn agent(agent: &Value, lines: &mut Lines) {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some(slot) = agent["slot"].as_str() else { return };
    let state = match agent["state"] == "trial" {
        true => format!("on trial, {} tries left after this one", count(&agent["tries_left"])),
        false => "confirmed".to_owned(),
    };
    lines.add("agent", &format!("{:.12} in slot {slot}, {state}", word(&agent["digest"])));
    if let Some(failed) = agent["taken_back"].get(0) {
        let (version, digest) = (word(&failed["version"]), word(&failed["digest"]));
        let reason = word(&failed["reason"]);
        lines.add("", &format!("taken back: {version} ({digest:.12}): {reason}"));
    }
}

/// The system of a card image, and the last one that did not stay.
fn system(system: &Value, lines: &mut Lines) {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some(slot) = system["slot"].as_str() else { return };
    let state = match (system["state"] == "trial", system["waits_for_restart"] == true) {
        (true, _) => "on trial",
        (false, true) => "confirmed; another one waits for a restart",
        (false, false) => "confirmed",
    };
    let (version, board) = (word(&system["version"]), word(&system["board"]));
    lines.add("system", &format!("{version} for {board} in slot {slot}, {state}"));
    if let Some(failed) = system["taken_back"].get(0) {
        let (version, digest) = (word(&failed["version"]), word(&failed["digest"]));
        lines
            .add("", &format!("taken back: {version} ({digest:.12}): {}", word(&failed["reason"])));
    }
}

fn uplink(uplink: &Value) -> String {
    if uplink["enrolled"] != Value::Bool(true) {
        return "none: not enrolled with a control plane".to_owned();
    }
    let contact = uplink["last_contact_age_ms"].as_u64();
    let contact = contact.map_or_else(
        || "no contact since the start".to_owned(),
        |age| format!("last contact {} ago", duration(age)),
    );
    let state = if uplink["up"] == Value::Bool(true) { "up" } else { "down" };
    format!("{state}, {contact}")
}

/// How many are remembered is news where it may be too few.
fn devices(devices: &Value) -> String {
    let number = |key: &str| count(&devices[key]);
    let mut text = format!("{} connected, {} sessions", number("connected"), number("sessions"));
    if devices["ids_forgotten"].as_u64() > Some(0) {
        let (forgotten, most) = (number("ids_forgotten"), number("remembered_max"));
        let _ = write!(
            text,
            "; {forgotten} forgotten of which repeats were known, for want of room: `devices` in [limits] is {most}"
        );
    }
    text
}

fn buses(buses: &Value, lines: &mut Lines) {
    for (n, bus) in buses.as_array().into_iter().flatten().enumerate() {
        let word = |key: &str| bus[key].as_str().unwrap_or_default();
        let devices = bus["devices"].as_array().into_iter().flatten();
        let (up, again) = devices.fold((0_u64, 0), |(up, again), device| {
            let is_up = u64::from(device["up"] == Value::Bool(true));
            (up + is_up, again + device["retransmitted"].as_u64().unwrap_or_default())
        });
        let open = match bus["open"] == Value::Bool(true) {
            true => "open".to_owned(),
            false => format!("not open: {}", word("reason")),
        };
        let (name, port, broken) = (word("bus"), word("port"), count(&bus["broken_frames"]));
        let text = format!(
            "{name}  {port} {open}; {up} devices, {broken} broken frames, {again} sent again"
        );
        lines.add(if n == 0 { "buses" } else { "" }, &text);
    }
}

fn queues(status: &Value, lines: &mut Lines) {
    let oldest = |value: &Value| {
        let age = value["oldest_age_ms"].as_u64();
        age.map(|age| format!(", the oldest for {}", duration(age))).unwrap_or_default()
    };
    let queue = &status["queue"];
    let (jobs, size) = (count(&queue["jobs"]), bytes(queue["bytes"].as_u64().unwrap_or_default()));
    let (running, held) = (count(&queue["running"]), count(&queue["held"]));
    let age = oldest(queue);
    lines.add("queue", &format!("{jobs} events ({size}){age}; {running} running, {held} held"));
    let outbox = &status["outbox"];
    let depth = |value: &Value| {
        let size = bytes(value["bytes"].as_u64().unwrap_or_default());
        format!("{} records ({size}){}", count(&value["records"]), oldest(value))
    };
    lines.add("outbox", &depth(outbox));
    let streams = outbox["streams"].as_array().into_iter().flatten();
    for stream in streams.filter(|stream| stream["records"] != 0) {
        lines.add("", &format!("stream {}: {}", stream["stream"], depth(stream)));
    }
    lines.add("dead letters", &count(&status["core"]["dead_letters"]));
}

fn drops(drops: &Value) -> String {
    let all = drops.as_object().into_iter().flatten();
    let some = all.filter(|(_, count)| **count != 0);
    let some: Vec<_> =
        some.map(|(reason, n)| format!("{} {}", count(n), reason.replace('_', " "))).collect();
    if some.is_empty() { "none since the start".to_owned() } else { some.join(", ") }
}

fn filters(filters: &Value, lines: &mut Lines) {
    for (n, one) in filters.as_array().into_iter().flatten().enumerate() {
        let not_json = &one["filtered_not_json"];
        let not_json =
            if *not_json == 0 { String::new() } else { format!(", {} not JSON", count(not_json)) };
        let (name, kept) = (one["trigger"].as_str().unwrap_or_default(), count(&one["filtered"]));
        lines.add(
            if n == 0 { "filters" } else { "" },
            &format!("{name}  {kept} kept out{not_json}"),
        );
    }
}

fn batches(batches: &Value, lines: &mut Lines) {
    for (n, one) in batches.as_array().into_iter().flatten().enumerate() {
        let halved = &one["halved"];
        let halved =
            if *halved == 0 { String::new() } else { format!(", {} halved", count(halved)) };
        let (name, given) = (one["function"].as_str().unwrap_or_default(), count(&one["batches"]));
        lines.add(if n == 0 { "batches" } else { "" }, &format!("{name}  {given} given{halved}"));
    }
}

fn disk(disk: &Value, lines: &mut Lines) {
    let size = |key: &str| bytes(disk[key].as_u64().unwrap_or_default());
    let written = |prefix: &str, over: &str| {
        let over = disk[over].as_u64().unwrap_or_default();
        let sum = size(&format!("{prefix}written_bytes"));
        let rate = size(&format!("{prefix}written_bytes_per_day"));
        // Out of a few minutes no day can be told.
        let rate = if over < RATE_AFTER_MS { String::new() } else { format!(", {rate} a day") };
        format!("{sum} in {}{rate}", duration(over))
    };
    let syncs = count(&disk["syncs"]);
    lines.add("disk writes", &format!("{}; {syncs} syncs", written("", "since_ms")));
    lines.add("", &format!("{} over its life", written("life_", "life_ms")));
    let by = if disk["device_written_bytes"].is_u64() {
        lines.add("", &format!("{} to the whole device", written("device_", "device_ms")));
        "written"
    } else {
        "used by this store"
    };
    let (Some(endurance), Some(used)) =
        (disk["endurance_bytes"].as_u64(), disk["life_used_percent"].as_f64())
    else {
        return;
    };
    let left = disk["years_left"].as_f64();
    let left = left.map(|years| format!(", {years} years left at this rate")).unwrap_or_default();
    lines.add("card life", &format!("{used} % of {} {by}{left}", bytes(endurance)));
}

/// A whole number with its thousands apart.
pub(super) fn count(value: &Value) -> String {
    let digits = value.as_u64().unwrap_or_default().to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(n: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(size, _)| n >= *size) {
        Some((size, unit)) => format!("{}.{} {unit}", n / size, n % size * 10 / size),
        None => format!("{n} B"),
    }
}

/// The two largest units that count.
pub(super) fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_laid_out_with_units() {
        let status = json!({
            "gateway": "barn", "version": "0.1.0", "uptime_s": 4_000,
            "agent": {
                "slot": "a", "state": "confirmed", "digest": "0123456789abcdef", "tries_left": null,
                "taken_back": [
                    { "version": "0.2.0", "digest": "fedcba9876543210", "reason": "it hung" },
                    { "version": "0.1.1", "digest": "00", "reason": "earlier" },
                ],
            },
            "listeners": ["127.0.0.1:1883", "0.0.0.0:8883"],
            "degraded": ["no control plane: connection refused", "a/f is paused"],
            "clock": { "synced": false },
            "uplink": { "enrolled": true, "up": false, "last_contact_age_ms": 90_000 },
            "devices": {
                "connected": 3, "sessions": 12, "remembered_max": 1_000, "ids_forgotten": 1_234,
            },
            "buses": [
                { "bus": "hall", "port": "/dev/ttyUSB0", "open": true, "broken_frames": 1_200, "devices": [
                    { "address": 1, "up": true, "retransmitted": 4 },
                    { "address": 2, "up": false, "retransmitted": 5 },
                ] },
                { "bus": "yard", "port": "/dev/ttyUSB1", "open": false, "reason": "no such file" },
            ],
            "queue": { "jobs": 1_200, "bytes": 2_048, "running": 2, "held": 0, "oldest_age_ms": 350 },
            "outbox": {
                "records": 34, "bytes": 5_000_000, "oldest_age_ms": 200_000_000,
                "streams": [
                    { "stream": 0, "records": 0, "bytes": 0, "oldest_age_ms": null },
                    { "stream": 1, "records": 34, "bytes": 5_000_000, "oldest_age_ms": 7_000 },
                ],
            },
            "core": { "dead_letters": 5 },
            "drops": { "outbox_full": 256, "queue_oldest": 0 },
            "filters": [
                { "trigger": "cold-chain/hot", "filtered": 1_500, "filtered_not_json": 0 },
                { "trigger": "cold-chain/door", "filtered": 0, "filtered_not_json": 2 },
            ],
            "batches": [
                { "function": "cold-chain/store", "batches": 3_000, "halved": 0 },
                { "function": "b/f", "batches": 7, "halved": 2 },
            ],
            "disk": {
                "written_bytes": 900, "written_bytes_per_day": 19_440, "since_ms": 4_000_000,
                "syncs": 7, "life_written_bytes": 3_000_000_000_u64,
                "life_written_bytes_per_day": 100_000_000, "life_ms": 2_592_000_000_u64,
                "device_written_bytes": 4_000_000_000_u64, "device_ms": 2_592_000_000_u64,
                "device_written_bytes_per_day": 133_333_333,
                "endurance_bytes": 9_000_000_000_000_u64, "life_used_percent": 0.04, "years_left": 184.8,
            },
            "deployments": { "apps": [
                { "app": "cold-chain", "phase": "live", "revision": "0123456789abcdef", "reason": "" },
                { "app": "b", "phase": "failed", "revision": "ff", "reason": "below the floor" },
            ] },
        });
        let expected = "\
gateway       barn (version 0.1.0), up for 1 h 6 min
agent         0123456789ab in slot a, confirmed
              taken back: 0.2.0 (fedcba987654): it hung
listening     127.0.0.1:1883, 0.0.0.0:8883
degraded      no control plane: connection refused
              a/f is paused
clock         not synced: cron schedules wait
uplink        down, last contact 1 min 30 s ago
devices       3 connected, 12 sessions; 1,234 forgotten of which repeats were known, for want of room: `devices` in [limits] is 1,000
buses         hall  /dev/ttyUSB0 open; 1 devices, 1,200 broken frames, 9 sent again
              yard  /dev/ttyUSB1 not open: no such file; 0 devices, 0 broken frames, 0 sent again
queue         1,200 events (2.0 KiB), the oldest for 350 ms; 2 running, 0 held
outbox        34 records (4.7 MiB), the oldest for 2 d 7 h
              stream 1: 34 records (4.7 MiB), the oldest for 7 s
dead letters  5
drops         256 outbox full
filters       cold-chain/hot  1,500 kept out
              cold-chain/door  0 kept out, 2 not JSON
batches       cold-chain/store  3,000 given
              b/f  7 given, 2 halved
disk writes   900 B in 1 h 6 min, 18.9 KiB a day; 7 syncs
              2.7 GiB in 30 d 0 h, 95.3 MiB a day over its life
              3.7 GiB in 30 d 0 h, 127.1 MiB a day to the whole device
card life     0.04 % of 8.1 TiB written, 184.8 years left at this rate
app           cold-chain  live  0123456789ab
app           b  failed  ff: below the floor
";
        assert_eq!(text(&status), expected);
    }

    #[test]
    fn a_gateway_without_anything_is_shown_too() {
        let shown = text(&json!({ "gateway": "barn" }));
        assert!(shown.contains("degraded      no\n"), "{shown}");
        assert!(shown.contains("uplink        none: not enrolled"), "{shown}");
        assert!(shown.contains("drops         none since the start\n"), "{shown}");
        assert!(!shown.contains("a day"), "{shown}");
    }
}
