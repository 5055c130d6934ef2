//! A live chart of what functions record.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::WebParts;
use super::chart::{Series, chart};
use super::page::{Html, ago, count, framed};
use crate::api::{Operator, Params};
use crate::failure::Failure;
use crate::store::records::{Content, Filter, Found};

/// Records the chart is drawn from: the newest that match.
const RECORDS_SHOWN: u32 = 600;
/// Lines of the chart.
const SERIES_MAX: usize = 8;

/// What is shown; empty texts stand for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Selection {
    #[serde(default)]
    gateway: String,
    #[serde(default)]
    device: String,
    #[serde(default)]
    name: String,
}

impl Selection {
    /// The address of the fragment that shows it.
    fn source(&self) -> String {
        let part = |text: &str| -> String {
            text.bytes().fold(String::new(), |mut out, byte| {
                if byte.is_ascii_alphanumeric() {
                    out.push(char::from(byte));
                } else {
                    out += &format!("%{byte:02X}");
                }
                out
            })
        };
        format!(
            "/fragments/telemetry?gateway={}&device={}&name={}",
            part(&self.gateway),
            part(&self.device),
            part(&self.name)
        )
    }
}

pub(super) async fn page(
    State(parts): State<WebParts>,
    Operator(operator): Operator,
    Params(selection): Params<Selection>,
) -> Result<Html, Failure> {
    let fragment = render(&parts, &selection).await?;
    let form = form(&selection);
    Ok(Html(framed("Telemetry", &operator, &form, &selection.source(), &fragment)))
}

pub(super) async fn fragment(
    State(parts): State<WebParts>,
    Params(selection): Params<Selection>,
) -> Result<Html, Failure> {
    render(&parts, &selection).await.map(Html)
}

fn form(selection: &Selection) -> Markup {
    let field = |label: &str, name: &str, value: &str| {
        html! {
            label { (label) " " input name=(name) value=(value) placeholder="all"; }
        }
    };
    html! {
        form.filter method="get" action="/telemetry" {
            (field("Gateway", "gateway", &selection.gateway))
            (field("Device", "device", &selection.device))
            (field("Series", "name", &selection.name))
            button { "Show" }
        }
    }
}

async fn render(parts: &WebParts, selection: &Selection) -> Result<Markup, Failure> {
    let wanted = selection.clone();
    let found = parts
        .desk
        .read(move |rows| {
            let some = |text: String| Some(text).filter(|text| !text.is_empty());
            let gateway = match some(wanted.gateway) {
                Some(name) => match rows.gateway(&name)? {
                    Some(row) => Some(row.id),
                    None => return Ok(None),
                },
                None => None,
            };
            Ok(Some(rows.telemetry(&Filter {
                gateway,
                device: some(wanted.device),
                name: some(wanted.name),
                newest_first: true,
                limit: RECORDS_SHOWN,
                ..Filter::default()
            })?))
        })
        .await?;
    Ok(match found {
        Some(found) => view(&found, selection, parts.desk.clock.now_ms()),
        None => html! {
            h1 { "Telemetry" }
            p { "There is no gateway " code { (selection.gateway) } ": the names stand on the fleet's page." }
        },
    })
}

fn view(found: &[Found], selection: &Selection, now_ms: u64) -> Markup {
    let (series, left_out) = series(found);
    html! {
        h1 { "Telemetry" }
        @if found.is_empty() && *selection == Selection::default() {
            p {
                "Nothing is recorded yet. A function records with "
                code { "record(\"NAME\")" } ", which " code { "record = [\"NAME\"]" }
                " in holm.toml allows."
            }
        } @else if found.is_empty() {
            p { "No record matches. Names are compared whole." }
        } @else if series.is_empty() {
            p { "These records hold no numbers to draw." }
        } @else {
            (chart(&series))
        }
        @if left_out > 0 {
            p.quiet { (count(left_out, "more line")) " not drawn: choose a gateway, device or series." }
        }
        @if !found.is_empty() { (newest(found, now_ms)) }
    }
}

/// Numbers of the records, oldest first, by gateway, device, series and field; and how many lines
/// are left out.
fn series(found: &[Found]) -> (Vec<Series>, usize) {
    let mut all: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    let mut left_out = BTreeSet::new();
    for row in found.iter().rev() {
        let Content::Telemetry(telemetry) = &row.entry.content else { continue };
        let device = telemetry.device.as_deref().unwrap_or("-");
        for (field, value) in numbers(&telemetry.payload) {
            let dot = if field.is_empty() { "" } else { "." };
            let label = format!("{} {device} {}{dot}{field}", row.gateway, telemetry.name);
            if all.len() < SERIES_MAX || all.contains_key(&label) {
                all.entry(label).or_default().push((row.entry.written_ms(), value));
            } else {
                left_out.insert(label);
            }
        }
    }
    (all.into_iter().map(|(label, points)| Series { label, points }).collect(), left_out.len())
}

/// The numbers in a JSON payload: itself, or the fields of an object.
fn numbers(payload: &[u8]) -> Vec<(String, f64)> {
    match serde_json::from_slice::<Value>(payload) {
        Ok(Value::Object(fields)) => fields
            .into_iter()
            .filter_map(|(field, value)| Some((field, value.as_f64()?)))
            .take(SERIES_MAX)
            .collect(),
        Ok(value) => value.as_f64().map(|number| (String::new(), number)).into_iter().collect(),
        Err(_) => Vec::new(),
    }
}

fn newest(found: &[Found], now_ms: u64) -> Markup {
    html! {
        h2.above { "Newest records" }
        div.scroll { table {
            thead {
                tr {
                    th { "When" } th { "Gateway" } th { "Device" } th { "Series" } th { "Function" }
                    th.number { "Position" } th { "Record" }
                }
            }
            tbody {
                @for row in found.iter().take(15) {
                    @if let Content::Telemetry(telemetry) = &row.entry.content {
                        tr {
                            td.when { (ago(row.entry.written_ms(), now_ms)) }
                            td { (row.gateway) }
                            td { (telemetry.device.as_deref().unwrap_or("-")) }
                            td { (telemetry.name) }
                            td { (telemetry.function) }
                            td.number { (row.entry.place.seq) }
                            td { code { (excerpt(&telemetry.payload)) } }
                        }
                    }
                }
            }
        } }
    }
}

/// The beginning of a payload, for eyes.
fn excerpt(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(400)]);
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_json() {
        assert_eq!(numbers(b"3.5"), [(String::new(), 3.5)]);
        let found = numbers(br#"{"value": 1, "unit": "C", "score": 0.5}"#);
        assert_eq!(found, [("score".to_owned(), 0.5), ("value".to_owned(), 1.0)]);
        assert!(numbers(b"\xff").is_empty() && numbers(b"\"text\"").is_empty());
    }

    #[test]
    fn selections_travel_in_addresses() {
        let selection = Selection { name: "a&b=c/d".into(), ..Selection::default() };
        let source = selection.source();
        assert_eq!(source, "/fragments/telemetry?gateway=&device=&name=a%26b%3Dc%2Fd");
    }
}
