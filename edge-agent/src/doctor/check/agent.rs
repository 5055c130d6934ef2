//! The agent that runs, or does not.

use serde_json::Value;

use super::bytes;
use crate::doctor::Finding;
use crate::doctor::facts::{Agent, Letter, Listener, Port};

/// Characters of an error that are shown.
const ERROR_CHARS_MAX: usize = 200;

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
            let mend =
                "were the settings changed since the agent started? Restart it, and read its log";
            Finding::fault(CHECK, format!("{address}: the agent runs, but {why}"), mend)
        }
    }
}

pub(super) fn agent(agent: &Agent) -> Vec<Finding> {
    const CHECK: &str = "agent";
    match agent {
        Agent::Down => {
            let mend = "start it, if it is meant to run: `systemctl start edge-agent`";
            vec![Finding::warning(CHECK, "no agent runs on this data folder", mend)]
        }
        Agent::Silent(why) => {
            let mend = "read its log, and restart it if it stays so";
            vec![Finding::fault(CHECK, why, mend)]
        }
        Agent::Up { status, letter } => up(status, letter.as_ref()),
    }
}

fn up(status: &Value, letter: Option<&Letter>) -> Vec<Finding> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let version = status["version"].as_str().unwrap_or("unknown");
    let hours = number(&status["uptime_s"]) / 3_600;
    let connected = number(&status["devices"]["connected"]);
    let what = format!("version {version} runs for {hours} h, {connected} devices connected");
    let mut findings = vec![Finding::ok("agent", what)];
    let reasons = status["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str);
    findings.extend(reasons.map(degraded));
    let written = |of: &str| status["disk"][format!("{of}_written_bytes_per_day")].as_u64();
    if let Some(day) = written("device").or(written("life")) {
        findings.push(Finding::ok("wear", format!("{} a day over its life", bytes(day))));
    }
    match number(&status["core"]["dead_letters"]) {
        0 => findings.push(Finding::ok("dead-letters", "none")),
        n => {
            let newest = letter.map(|letter| {
                let error: String = letter.error.chars().take(ERROR_CHARS_MAX).collect();
                format!("; the newest is of {}: {error}", letter.function)
            });
            let what = format!("{n}{}", newest.unwrap_or_default());
            let mend =
                "`edge-agent dead-letters` shows them; mend the function, then redrive or purge";
            findings.push(Finding::warning("dead-letters", what, mend));
        }
    }
    findings
}

/// What the agent says of itself names its own way out.
fn degraded(reason: &str) -> Finding {
    let mend = "the reason says it; `edge-agent status` shows when it is over";
    let stops = ["safe mode", "the store is full", "the store cannot be used"];
    if stops.iter().any(|stop| reason.starts_with(stop)) {
        Finding::fault("agent", reason, mend)
    } else {
        Finding::warning("agent", reason, mend)
    }
}
