//! Apps of a gateway: `edge-agent deploy`, `undeploy`, `state` and `functions`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use edge_agent::control::Request;
use serde::Deserialize as _;
use serde_json::{Value, json};
use sync_protocol::wire::{Request as Ask, StateAt};

use super::{Config, ask, print, print_json, rows, show};

/// Digits of a revision that people are shown.
const DIGITS: usize = 12;

#[derive(Args)]
#[command(after_help = "\
The agent runs, its configuration names the author's key (`author_keys`), and no control plane manages it. It verifies
the bundle and answers; then it compiles, tries the app for a minute, and keeps it or takes it back. With --json: app,
version, revision, and phase (`waiting`: another app comes first).

Examples:
  holm build                                        where the app is: writes NAME.holm
  edge-agent deploy barn.holm
  edge-agent deploy barn.holm --config agent.toml --json
  edge-agent status                                 how far it is")]
pub(super) struct Deploy {
    /// The bundle file.
    bundle: PathBuf,
    /// Print what was taken as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
#[command(after_help = "\
The app's functions end after the attempts that are in work. With --json: app, and the revision that ran.

Examples:
  edge-agent undeploy barn
  edge-agent undeploy barn --config agent.toml --json")]
pub(super) struct Undeploy {
    /// The app.
    app: String,
    /// Print what is taken away as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
#[command(after_help = "\
The answer is JSON: device, key and value (as text, or in hexadecimal digits where it is none).

Examples:
  edge-agent state barn/smooth
  edge-agent state barn/smooth --device press-7
  edge-agent state barn/smooth | jq -r '.[] | \"\\(.device) \\(.key)\"'")]
pub(super) struct State {
    /// `app/function`.
    function: String,
    /// Only this device's; or of the lane with this key, where the function is `ordered`.
    #[arg(long, visible_alias = "lane")]
    device: Option<String>,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
#[command(after_help = RESUME)]
pub(super) struct Functions {
    #[command(subcommand)]
    command: FunctionCommand,
}

#[derive(Subcommand)]
enum FunctionCommand {
    /// End the pause of a function that faulted again and again.
    #[command(after_help = RESUME)]
    Resume {
        /// `app/function`.
        function: String,
        #[command(flatten)]
        config: Config,
    },
}

const RESUME: &str = "\
Events of a paused function wait; they are worked on as soon as its pause ends.

Examples:
  edge-agent status                          which functions are paused
  edge-agent functions resume barn/smooth";

pub(super) fn deploy(arguments: &Deploy) -> Result<(), String> {
    let Deploy { bundle, json, config } = arguments;
    let bundle = std::path::absolute(bundle).map_err(|err| err.to_string())?;
    let taken = ask(&config.config, &Request::Deploy { bundle })?;
    if *json {
        print_json(&taken);
    } else {
        print(&deployed(&taken));
    }
    Ok(())
}

fn deployed(taken: &Value) -> String {
    let word = |key: &str| show::devices::clean(&taken[key]);
    let (app, version, phase) = (word("app"), word("version"), word("phase"));
    let revision: String = word("revision").chars().take(DIGITS).collect();
    format!(
        "{app} {version}: {phase}, revision {revision}; `edge-agent status` tells how far it is\n"
    )
}

pub(super) fn undeploy(arguments: &Undeploy) -> Result<(), String> {
    let Undeploy { app, json, config } = arguments;
    let ended = ask(&config.config, &Request::Undeploy { app: app.clone() })?;
    if *json {
        print_json(&json!({ "app": app, "revision": ended["revision"] }));
    } else {
        print(&format!("{app}: taken away, as soon as the attempts in work have ended\n"));
    }
    Ok(())
}

pub(super) fn state(arguments: &State) -> Result<(), String> {
    let State { function, device, config } = arguments;
    let page = |next: Option<&Value>| Ask::StateList {
        function: function.clone(),
        device: device.clone(),
        prefix: String::new(),
        after: next.and_then(|next| StateAt::deserialize(next).ok()),
        limit: u32::MAX,
    };
    let page = |next: Option<&Value>| Request::Ask(page(next));
    print_json(&Value::Array(rows(&config.config, page)?));
    Ok(())
}

pub(super) fn functions(arguments: Functions) -> Result<(), String> {
    let FunctionCommand::Resume { function, config } = arguments.command;
    ask(&config.config, &Request::ResumeFunction { function }).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deployed_is_one_line() {
        let taken = json!({
            "app": "barn", "version": "1.2.0", "revision": "3a4dc159c642ffff", "phase": "verifying",
        });
        let line = "barn 1.2.0: verifying, revision 3a4dc159c642; `edge-agent status` tells how far it is\n";
        assert_eq!(deployed(&taken), line);
    }
}
