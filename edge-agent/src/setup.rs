//! Before a gateway works: its configuration (`edge-agent check`), and its enrolment (`edge-agent enroll`).

use std::path::{Path, PathBuf};

use clap::Args;
use edge_agent::enroll;
use edge_agent::settings::Settings;
use edge_agent::toml_reader::Problem;
use serde_json::json;
use sync_protocol::enroll::Token;

use super::{Config, print, print_json, show};

/// What to do where there is no configuration yet.
const FIRST_CONFIG: &str = "
name another with --config FILE, or write it; the least is

  name = \"gw-1\"                  # the name given to `holm gateway add`
  data_dir = \"/var/lib/holm\"     # any folder that this user may write

  [[listeners]]                   # where devices connect
  bind = \"127.0.0.1:1883\"

  [anonymous]                     # on this machine only, to begin with
  publish = [\"#\"]
  subscribe = [\"#\"]";

#[derive(Args)]
#[command(after_help = "\
All problems are told at once, each with its line. Nothing is changed, and no agent has to run. Exit code 0: it can
be used; 1: it cannot.

Examples:
  edge-agent check /etc/holm/agent.toml
  edge-agent check agent.toml --json | jq '.problems[] | \"\\(.line): \\(.message)\"'")]
pub(super) struct Check {
    /// The file.
    file: PathBuf,
    /// Print the problems as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[command(after_help = "\
The gateway joins the control plane that made the token, under the name in its configuration, and keeps what it
gets in its data folder. A token works once, for a day. An agent that runs is to be started again.

Examples:
  holm gateway add barn-3                      where the control plane is operated: prints TOKEN
  edge-agent enroll TOKEN                      on the gateway, as the agent's user
  edge-agent enroll TOKEN --config agent.toml
  edge-agent enroll TOKEN --json               name and address as JSON, and no log")]
pub(super) struct Enroll {
    /// What `holm gateway add NAME` printed.
    token: String,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: Config,
}

/// A problem is a failure, so that programs see it too.
pub(super) fn check(arguments: &Check) -> Result<(), String> {
    let Check { file, json } = arguments;
    let name = file.display().to_string();
    let parsed = Settings::parse(&read(file)?);
    if *json {
        let gateway = parsed.as_ref().ok().map(|settings| &settings.name);
        let problems = parsed.as_ref().err().map(Vec::as_slice).unwrap_or_default();
        let row = |problem: &Problem| json!({ "line": problem.line, "message": problem.message });
        let rows: Vec<_> = problems.iter().map(row).collect();
        print_json(&json!({ "file": name, "gateway": gateway, "problems": rows }));
    }
    parsed.map_err(|problems| listed(file, &problems))?;
    if !json {
        print(&format!("{name}: no problem\n"));
    }
    Ok(())
}

pub(super) fn enroll(arguments: &Enroll) -> Result<(), String> {
    let Enroll { token, json, config: Config { config } } = arguments;
    if !json {
        show::start_logging(None)?;
    }
    let settings = read_settings(config)?;
    let token: Token = token.parse().map_err(|err| format!("{err}"))?;
    if token.gateway != settings.name {
        let (theirs, ours) = (token.gateway, settings.name);
        return Err(format!("the token is for {theirs:?}, the configuration names {ours:?}"));
    }
    let identity = block_on(enroll::enroll(&token, &settings.data_dir, &settings.proxy))?;
    let identity = identity.map_err(|err| err.to_string())?;
    let (gateway, endpoint) = (&identity.gateway, &identity.enrolled.endpoint);
    if *json {
        print_json(&json!({ "gateway": gateway, "endpoint": endpoint }));
    } else {
        print(&format!("enrolled as {gateway} at {endpoint}\n"));
    }
    Ok(())
}

pub(crate) fn read_settings(file: &Path) -> Result<Settings, String> {
    Settings::parse(&read(file)?).map_err(|problems| listed(file, &problems))
}

fn read(file: &Path) -> Result<String, String> {
    let name = file.display();
    std::fs::read_to_string(file).map_err(|err| match err.kind() {
        std::io::ErrorKind::NotFound => format!("{name}: {err}{FIRST_CONFIG}"),
        _ => format!("{name}: {err}"),
    })
}

fn listed(file: &Path, problems: &[Problem]) -> String {
    let name = file.display();
    let lines: Vec<_> = problems.iter().map(|problem| format!("{name}: {problem}")).collect();
    format!("{} problem(s)\n{}", lines.len(), lines.join("\n"))
}

/// Does this work, and nothing after it: a name that is still being looked up is waited for by nobody.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|err| err.to_string())?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// The system's resolver has no bound, and may be asked on such a thread.
    #[test]
    fn what_hangs_on_a_thread_beside_the_work_holds_nothing_up() {
        const LONG: Duration = Duration::from_secs(60);
        let (let_go, held) = mpsc::channel::<()>();
        let work = async {
            let (begun, begins) = tokio::sync::oneshot::channel();
            drop(tokio::task::spawn_blocking(move || {
                let _ = begun.send(());
                held.recv_timeout(LONG)
            }));
            begins.await
        };
        block_on(work).expect("a runtime").expect("it began");
        let_go.send(()).expect("it hangs still");
    }
}
