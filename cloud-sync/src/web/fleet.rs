//! The fleet: every gateway with its state, versions, backlog and alarms.

use std::collections::BTreeMap;

use axum::extract::State;
use maud::{Markup, html};
use sync_protocol::Digest;

use super::WebParts;
use super::page::{Html, ago, bytes, count, framed, tone};
use crate::api::Operator;
use crate::failure::Failure;
use crate::mqtt::Online;
use crate::store::deployments::AppRow;
use crate::store::fleet::{AlarmRow, GatewayRow};
use crate::store::records::LossRow;
use crate::store::{Rows, StoreError};

/// Gateways on the page; the API has them all.
const GATEWAYS_SHOWN: u32 = 500;
/// Alarms on the page.
const ALARMS_SHOWN: u32 = 20;

struct Line {
    row: GatewayRow,
    apps: Vec<AppRow>,
    losses: Vec<LossRow>,
}

struct Fleet {
    gateways: Vec<Line>,
    total: u64,
    alarms: Vec<AlarmRow>,
    versions: BTreeMap<Digest, String>,
}

pub(super) async fn page(
    State(parts): State<WebParts>,
    Operator(operator): Operator,
) -> Result<Html, Failure> {
    let fragment = render(&parts).await?;
    Ok(Html(framed("Fleet", &operator, &html! {}, "/fragments/fleet", &fragment)))
}

pub(super) async fn fragment(State(parts): State<WebParts>) -> Result<Html, Failure> {
    render(&parts).await.map(Html)
}

async fn render(parts: &WebParts) -> Result<Markup, Failure> {
    let fleet = parts.desk.read(|rows| Ok(load(rows)?)).await?;
    Ok(view(&fleet, |name| parts.live.get(name), parts.desk.clock.now_ms()))
}

fn load(rows: &dyn Rows) -> Result<Fleet, StoreError> {
    let (mut gateways, mut versions) = (Vec::new(), BTreeMap::new());
    for gateway in rows.gateways("", GATEWAYS_SHOWN)? {
        let apps = rows.apps_of(gateway.id)?;
        for digest in apps.iter().flat_map(|app| app.running.into_iter().chain([app.revision])) {
            if let std::collections::btree_map::Entry::Vacant(place) = versions.entry(digest)
                && let Some(revision) = rows.revision(&digest)?
            {
                place.insert(revision.version);
            }
        }
        let losses = rows.losses(gateway.id)?;
        gateways.push(Line { row: gateway, apps, losses });
    }
    let (total, alarms) = (rows.gateway_count()?, rows.alarms(None, ALARMS_SHOWN)?);
    Ok(Fleet { gateways, total, alarms, versions })
}

fn view(fleet: &Fleet, online: impl Fn(&str) -> Option<Online>, now_ms: u64) -> Markup {
    let connected = fleet.gateways.iter().filter(|line| online(&line.row.name).is_some()).count();
    html! {
        @if !fleet.alarms.is_empty() {
            section.alarms {
                h2 { "Alarms" }
                ul {
                    @for alarm in &fleet.alarms {
                        li {
                            strong { (alarm.gateway) } " " code { (alarm.code) }
                            @if alarm.count > 1 { " × " (alarm.count) }
                            " " span.quiet { (ago(alarm.last_ms, now_ms)) }
                            p { (alarm.text) }
                        }
                    }
                }
            }
        }
        @if fleet.gateways.is_empty() {
            h1 { "No gateways yet" }
            p { code { "holm gateway add NAME" } " adds one and prints a token." }
            p {
                "On the gateway, " code { "edge-agent enroll TOKEN" } " and then "
                code { "edge-agent run" } " make it appear here."
            }
        } @else {
            h1 { (count(usize::try_from(fleet.total).unwrap_or(usize::MAX), "gateway")) ", " (connected) " online" }
            div.scroll { table {
                thead {
                    tr {
                        th { "Gateway" } th { "Agent" } th { "Apps" }
                        th.number { "Queue" } th.number { "Outbox" } th { "Last seen" }
                    }
                }
                tbody {
                    @for line in &fleet.gateways {
                        (gateway(line, online(&line.row.name), &fleet.versions, now_ms))
                    }
                }
            } }
            @if fleet.total > fleet.gateways.len() as u64 {
                p.quiet { "The API lists the others: " code { "GET /v1/gateways" } }
            }
        }
    }
}

fn gateway(
    line: &Line,
    online: Option<Online>,
    versions: &BTreeMap<Digest, String>,
    now_ms: u64,
) -> Markup {
    let Line { row, apps, losses } = line;
    let health = row.health.as_ref().map(|(health, _)| health);
    html! {
        tr {
            td {
                span class=(if online.is_some() { "dot good" } else { "dot" }) {}
                " " strong { (row.name) }
                span.quiet { @if online.is_some() { " online" } @else { " offline" } }
                @for reason in health.iter().flat_map(|health| &health.degraded) {
                    // Why an app failed stands with the app.
                    @if !apps.iter().any(|app| !app.reason.is_empty() && reason.ends_with(&app.reason)) {
                        p.bad { (reason) }
                    }
                }
            }
            td {
                @if let Some(seen) = &row.seen {
                    (seen.agent_version) " " span.quiet { (seen.platform) }
                } @else if row.enrolled_ms.is_some() {
                    span.quiet { "enrolled, not seen yet" }
                } @else {
                    span.quiet { "not enrolled yet" }
                }
            }
            td {
                @for app in apps { (app_line(app, versions)) }
                @if apps.is_empty() { span.quiet { "none" } }
            }
            td.number { @if let Some(health) = health { (health.queue_jobs) } }
            td.number {
                @if let Some(health) = health {
                    (health.outbox_records)
                    @if health.outbox_records > 0 {
                        " " span.quiet { (bytes(health.outbox_bytes)) }
                    }
                }
                @for (reason, records) in sums(losses) {
                    p.reason { (records) " " (in_words(reason)) }
                }
            }
            td { @if let Some(seen_ms) = row.last_seen_ms { (ago(seen_ms, now_ms)) } }
        }
    }
}

/// Losses by reason, over all streams.
fn sums(losses: &[LossRow]) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for (row, reason) in losses.iter().filter_map(|row| Some((row, row.kind.loss()?))) {
        *sums.entry(reason).or_default() += row.records;
    }
    sums
}

fn in_words(reason: &str) -> &str {
    match reason {
        "gap" => "lost on the gateway",
        "full" => "dropped: outbox full",
        "newest" => "not taken: outbox full",
        "expired" => "dropped: too old",
        "replaced" => "replaced by newer ones",
        other => other,
    }
}

fn app_line(app: &AppRow, versions: &BTreeMap<Digest, String>) -> Markup {
    let phase = app.phase.as_str();
    html! {
        div title=(app.revision) {
            (app.app) " " (version(&app.revision, versions)) " "
            span class=(tone(phase)) { (phase) }
            @if let Some(running) = app.running.filter(|running| *running != app.revision) {
                span.quiet { " (runs " (version(&running, versions)) ")" }
            }
            @if !app.reason.is_empty() { p.reason { (app.reason) } }
        }
    }
}

/// What people call a revision; the beginning of its digest when it was never uploaded here.
fn version(digest: &Digest, versions: &BTreeMap<Digest, String>) -> String {
    versions.get(digest).cloned().unwrap_or_else(|| digest.to_string()[..12].to_owned())
}
