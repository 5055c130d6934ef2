//! The agent that runs, or does not.

use serde_json::Value;

use super::clip;
use super::degraded::degraded;
use super::errors::errors;
use super::trust::AS_AGENT;
use super::wear::wear;
use crate::doctor::Finding;
use crate::doctor::facts::{Agent, Letter, Listener, LogPlace, Port};

pub(super) fn port(listener: &Listener) -> Finding {
    const CHECK: &str = "ports";
    let address = listener.address;
    match &listener.port {
        Port::Free => Finding::ok(CHECK, format!("{address} is free")),
        Port::Answers => Finding::ok(CHECK, format!("{address}: the agent takes connections")),
        Port::Refused(why) => {
            let mend = format!(
                "another program may have it (`ss -ltnp`), the address may not be of this machine, or \
                 ports below 1024 need a right; else bind to another port than {}",
                address.port()
            );
            Finding::fault(CHECK, format!("{address}: {why}"), mend)
        }
        Port::Dead(why) => {
            let mend = "restart the agent: it listens where the settings had it at its start; its log says \
                        where, and what went wrong";
            Finding::fault(CHECK, format!("{address}: the agent runs, but {why}"), mend)
        }
    }
}

pub(super) fn agent(agent: &Agent, log: &LogPlace) -> Vec<Finding> {
    const CHECK: &str = "agent";
    match agent {
        Agent::Down => {
            let mend = format!(
                "start it, if it is meant to run: `systemctl start edge-agent`. Why it ended stands in \
                 its log: {}",
                log.shown()
            );
            vec![Finding::warning(CHECK, "no agent runs on this data folder", mend)]
        }
        Agent::Hidden(why) => vec![Finding::warning(CHECK, why, AS_AGENT)],
        Agent::Silent(why) => {
            let mend = format!("read its log, and restart it if it stays so: {}", log.shown());
            vec![Finding::fault(CHECK, why, mend)]
        }
        Agent::Up { status, letter } => up(status, letter.as_ref(), log),
    }
}

fn up(status: &Value, letter: Option<&Letter>, log: &LogPlace) -> Vec<Finding> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let version = status["version"].as_str().unwrap_or("unknown");
    let hours = number(&status["uptime_s"]) / 3_600;
    let connected = number(&status["devices"]["connected"]);
    let what = format!("version {version} runs for {hours} h, {connected} devices connected");
    let mut findings = vec![Finding::ok("agent", what)];
    let reasons = status["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str);
    findings.extend(reasons.map(degraded));
    findings.extend(errors(status, log));
    findings.extend(wear(&status["disk"]));
    match status["core"]["dead_letters"].as_u64() {
        // Without its store the agent cannot count them.
        None => {}
        Some(0) => findings.push(Finding::ok("dead-letters", "none")),
        Some(n) => {
            let newest = letter.map(|letter| {
                format!("; the newest is of {}: {}", letter.function, clip(&letter.error))
            });
            let what = format!("{n}{}", newest.unwrap_or_default());
            let mend =
                "`edge-agent dead-letters` shows them; mend the function, then redrive or purge";
            findings.push(Finding::warning("dead-letters", what, mend));
        }
    }
    findings
}
