//! Deployments: how far each is, and why where it failed.

use std::collections::BTreeMap;

use axum::extract::State;
use maud::{Markup, html};
use sync_protocol::InstanceId;

use super::WebParts;
use super::page::{Html, ago, framed, tone};
use crate::api::Operator;
use crate::deployments::{GatewayProgress, Progress, progress};
use crate::failure::Failure;
use crate::store::Rows;
use crate::store::deployments::{Cause, DeploymentRow, Target};

/// Deployments on the page; the API has them all.
const SHOWN: u32 = 20;
/// Gateways listed under one deployment.
const GATEWAYS_SHOWN: usize = 50;

struct Rollout {
    deployment: DeploymentRow,
    version: Option<String>,
    progress: Vec<GatewayProgress>,
}

pub(super) async fn page(
    State(parts): State<WebParts>,
    Operator(operator): Operator,
) -> Result<Html, Failure> {
    let fragment = render(&parts).await?;
    Ok(Html(framed("Deployments", &operator, &html! {}, "/fragments/deployments", &fragment)))
}

pub(super) async fn fragment(State(parts): State<WebParts>) -> Result<Html, Failure> {
    render(&parts).await.map(Html)
}

async fn render(parts: &WebParts) -> Result<Markup, Failure> {
    let instance = parts.instance;
    let rollouts = parts.desk.read(move |rows| load(rows, instance)).await?;
    Ok(view(&rollouts, parts.desk.clock.now_ms()))
}

fn load(rows: &dyn Rows, instance: InstanceId) -> Result<Vec<Rollout>, Failure> {
    let mut rollouts = Vec::new();
    for deployment in rows.deployments(None, u64::MAX, SHOWN)? {
        let version = match &deployment.revision {
            Some(digest) => rows.revision(digest)?.map(|revision| revision.version),
            None => None,
        };
        let progress = progress(rows, instance, &deployment)?;
        rollouts.push(Rollout { deployment, version, progress });
    }
    Ok(rollouts)
}

fn view(rollouts: &[Rollout], now_ms: u64) -> Markup {
    html! {
        h1 { "Deployments" }
        @if rollouts.is_empty() {
            p {
                "Nothing is deployed yet. In an app's folder, " code { "holm deploy --all" }
                " builds, signs and deploys it."
            }
        }
        @for rollout in rollouts { (one(rollout, now_ms)) }
    }
}

fn one(rollout: &Rollout, now_ms: u64) -> Markup {
    let row = &rollout.deployment;
    let verb = match row.cause {
        Cause::Deploy => "",
        Cause::Rollback => "back to ",
        Cause::Undeploy => "removed",
    };
    // Where a newer deployment counts, that one tells.
    let superseded = |gateway: &&GatewayProgress| gateway.progress == Progress::Superseded;
    let counting: Vec<&GatewayProgress> =
        rollout.progress.iter().filter(|gateway| !superseded(gateway)).collect();
    let digest = row.revision.map(|digest| digest.to_string()).unwrap_or_default();
    html! {
        section.rollout {
            h2 title=(digest) {
                span.quiet { "#" (row.id) } " " (row.app) " " (verb)
                @if let Some(version) = &rollout.version { (version) }
            }
            p.quiet {
                "to " (target(&row.target)) ", by " (row.by) ", " (ago(row.created_ms, now_ms))
            }
            (summary(&rollout.progress))
            ul {
                @for gateway in counting.iter().take(GATEWAYS_SHOWN) {
                    li {
                        strong { (gateway.gateway) } " "
                        span class=(tone(gateway.progress.as_str())) {
                            (gateway.progress.as_str())
                        }
                        @if !gateway.reason.is_empty() { p.reason { (gateway.reason) } }
                    }
                }
            }
            @if counting.len() > GATEWAYS_SHOWN {
                p.quiet { "and " (counting.len() - GATEWAYS_SHOWN) " more" }
            }
        }
    }
}

fn target(target: &Target) -> String {
    match target {
        Target::All => "all gateways".to_owned(),
        Target::Gateways(names) if names.len() <= 3 => names.join(", "),
        Target::Gateways(names) => format!("{} gateways", names.len()),
    }
}

/// A bar with one part for each progress, as wide as its share.
fn summary(progress: &[GatewayProgress]) -> Markup {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for gateway in progress {
        *counts.entry(gateway.progress.as_str()).or_default() += 1;
    }
    let (total, mut from) = (progress.len().max(1), 0);
    let parts: Vec<(usize, usize, &str)> = counts
        .iter()
        .map(|(state, count)| {
            let part = (from * 100 / total, (from + count) * 100 / total, *state);
            from += count;
            part
        })
        .collect();
    html! {
        svg.bar viewBox="0 0 100 2" preserveAspectRatio="none" role="img" {
            @for (from, to, state) in parts {
                rect x=(from) y="0" width=(to - from) height="2" class=(tone(state)) {}
            }
        }
        p {
            @for (state, count) in &counts {
                span class=(tone(state)) { (count) " " (state) } " "
            }
        }
    }
}
