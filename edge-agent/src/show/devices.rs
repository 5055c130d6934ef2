//! `edge-agent devices` and `edge-agent device-logs` for people.

use std::fmt::Write;

use serde_json::Value;

use super::status::{count, duration};

const COLUMNS: [&str; 7] =
    ["device", "state", "last heard", "boot", "sequence", "messages", "repeats / refused / unread"];

/// One line a device, and below it what it told of itself.
#[must_use]
pub(crate) fn table(rows: &[Value]) -> String {
    let cells: Vec<[String; 7]> = rows.iter().map(cells).collect();
    let head = COLUMNS.map(str::to_owned);
    let mut widths = [0; 7];
    for row in cells.iter().chain([&head]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    line(&mut text, &head, widths);
    for (row, cells) in rows.iter().zip(&cells) {
        line(&mut text, cells, widths);
        text.push_str(&firmware(&row["firmware"]));
        for metric in row["metrics"].as_array().into_iter().flatten() {
            let (name, value) = (clean(&metric["name"]), &metric["value"]);
            let age = duration(metric["age_ms"].as_u64().unwrap_or_default());
            text.push_str(&format!("  {name} = {value}, {age} ago\n"));
        }
    }
    text
}

/// What the device said last of the image that it is offered.
fn firmware(told: &Value) -> String {
    let Some(stage) = told["stage"].as_str() else { return String::new() };
    let version = told["version"]
        .as_u64()
        .map_or_else(|| format!("image {}", clean(&told["image"])), |version| version.to_string());
    let more = match (stage, told["reason"].as_str()) {
        ("fetching", _) => format!(", {} bytes kept", count(&told["bytes"])),
        (_, None | Some("")) => String::new(),
        (_, Some(_)) => format!(": {}", clean(&told["reason"])),
    };
    let kind = if told["kind"] == "function" { "function" } else { "firmware" };
    format!("  {kind} {version}: {}{more}\n", clean(&told["stage"]))
}

fn cells(row: &Value) -> [String; 7] {
    let known = |value: &Value| if value.is_null() { "-".to_owned() } else { clean(value) };
    let connected = row["connected"] == Value::Bool(true);
    [
        clean(&row["device"]),
        if connected { "connected" } else { "away" }.to_owned(),
        format!("{} ago", duration(row["last_seen_ms"].as_u64().unwrap_or_default())),
        known(&row["boot"]),
        known(&row["sequence"]),
        count(&row["messages"]),
        ["repeats", "refused", "undecodable"].map(|key| count(&row[key])).join(" / "),
    ]
}

fn line(text: &mut String, cells: &[String; 7], widths: [usize; 7]) {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    let joined = padded.collect::<Vec<_>>().join("  ");
    writeln!(text, "{}", joined.trim_end()).expect("invariant: writing to a string succeeds");
}

/// The lines of logs, oldest first.
#[must_use]
pub(crate) fn logs(lines: &Value) -> String {
    let mut text = String::new();
    for line in lines.as_array().into_iter().flatten() {
        let dropped = line["dropped"].as_u64().filter(|n| *n > 0);
        let gap = dropped.map(|n| format!("({n} dropped) ")).unwrap_or_default();
        let (device, level) = (clean(&line["device"]), clean(&line["level"]));
        let (time, quality) = (&line["time"]["ms"], clean(&line["time"]["quality"]));
        text.push_str(&format!(
            "{device}  {time} ms {quality}  {level:<5}  {gap}{}\n",
            clean(&line["text"])
        ));
    }
    text
}

/// A device must not drive the terminal.
pub(crate) fn clean(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn devices_stand_in_columns_with_their_figures_below() {
        let rows = [
            json!({
                "device": "press-7", "connected": true, "last_seen_ms": 2_000,
                "boot": "000000000000b007", "sequence": 12, "messages": 1_300, "repeats": 1,
                "refused": 0, "undecodable": 2,
                "firmware": { "image": "ab", "version": 3, "stage": "declined", "bytes": 0, "reason": "old\u{7}" },
                "metrics": [{ "name": "heap\u{1b}[2J", "value": -5, "age_ms": 90_000 }],
            }),
            json!({
                "device": "a", "connected": false, "last_seen_ms": 0, "boot": null,
                "sequence": null, "messages": 0, "repeats": 0, "refused": 0, "undecodable": 0,
                "firmware": { "image": "ab", "version": null, "stage": "fetching", "bytes": 4096, "reason": "" },
                "metrics": [],
            }),
        ];
        let expected = "\
device   state      last heard  boot              sequence  messages  repeats / refused / unread
press-7  connected  2 s ago     000000000000b007  12        1,300     1 / 0 / 2
  firmware 3: declined: old\u{fffd}
  heap\u{fffd}[2J = -5, 1 min 30 s ago
a        away       0 ms ago    -                 -         0         0 / 0 / 0
  firmware image ab: fetching, 4,096 bytes kept
";
        assert_eq!(table(&rows), expected);
    }

    #[test]
    fn lines_tell_what_was_dropped_before_them() {
        let lines = json!([{
            "device": "a", "level": "warn", "time": { "ms": 7, "quality": "uptime" },
            "dropped": 3, "text": "low\u{7}",
        }]);
        assert_eq!(logs(&lines), "a  7 ms uptime  warn   (3 dropped) low\u{fffd}\n");
    }
}
