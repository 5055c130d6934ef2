//! `edge-agent launch`, and the agent's side of it in `edge-agent run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use edge_agent::agent::{Agent, Stopper};
use edge_agent::launch::probe::About;
use edge_agent::launch::supervise::{Options, launch};
use edge_agent::launch::{Launched, SWITCH_EXIT};
use edge_agent::toml_reader::parse_duration_ms;

/// How long an agent without its launcher may take to stop.
const ORPHAN_MAX: Duration = Duration::from_secs(60);

const EXAMPLES: &str = "Examples:
  edge-agent launch --slots /opt/holm -- run                    as a service does
  edge-agent launch --slots ./slots -- run --config agent.toml  to try it
  ls -l /opt/holm/current                                       the slot that proved itself

The first start copies this program into slot a. An update comes by a deployment ([agent] of holm.toml), or is
this program where it is a newer one than the agent that proved itself, after an upgrade of its package. It is
written into the other slot and tried three times at most; `edge-agent status` tells of it.
docs/agent-updates.md has the rules.";

/// What `launch` is told.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Folder of the slots `a` and `b`, their state and the link `current`.
    #[arg(long)]
    slots: PathBuf,
    /// An agent that is silent for so long hangs: it is stopped, or killed, and started again.
    #[arg(long, value_parser = duration, default_value = "60 s")]
    hang_after: Duration,
    /// So long an agent may take until it works; it may have to compile functions.
    #[arg(long, value_parser = duration, default_value = "10 min")]
    start_within: Duration,
    /// So long an agent may take to stop; then it is killed.
    #[arg(long, value_parser = duration, default_value = "30 s")]
    stop_within: Duration,
    /// What the agent is started with, such as `run --config agent.toml`.
    #[arg(last = true, required = true)]
    arguments: Vec<OsString>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let ms = parse_duration_ms(text).filter(|ms| *ms > 0);
    ms.map(Duration::from_millis).ok_or_else(|| "wanted is a time such as \"60 s\"".to_owned())
}

/// Launches until told to stop.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, String> {
    super::show::start_logging(None)?;
    let Arguments { slots, hang_after, start_within, stop_within, arguments } = arguments;
    let own = PathBuf::from(super::OWN_PROGRAM);
    launch(&Options { slots, own, arguments, hang_after, start_within, stop_within })
        .map(ExitCode::from)
}

/// Prints what this program is, for the agent that is to be replaced by it.
pub(crate) fn about() -> Result<(), String> {
    let text = serde_json::to_string(&About::own()).map_err(|error| error.to_string())?;
    super::print(&format!("{text}\n"));
    Ok(())
}

/// Where a launcher started this process, the agent knows of it and the launcher hears that it lives.
pub(crate) fn join(
    agent: &mut Agent,
    io: &tokio::runtime::Runtime,
) -> Result<Option<Launched>, String> {
    let Some(launched) = Launched::from_environment()? else { return Ok(None) };
    agent.launched_by(launched.clone()).map_err(|error| error.to_string())?;
    let line = launched.line().map_err(|error| format!("the line to the launcher: {error}"))?;
    let (pulse, stopper, beat) = (agent.pulse(), agent.stopper(), launched.beat());
    let gone = line.gone().map_err(|error| format!("the line to the launcher: {error}"))?;
    let stopper_of_orphan = agent.stopper();
    io.spawn(async move {
        let bound = tokio::time::sleep(ORPHAN_MAX);
        outlived(gone, || stopper_of_orphan.stop(), bound).await;
        std::process::exit(1);
    });
    io.spawn(beats(line, pulse, stopper, beat));
    Ok(Some(launched))
}

/// Beats for as long as the loop turns. Without a launcher nobody would take an update back, or see a
/// hang: the agent stops as if told to.
async fn beats(
    mut line: edge_agent::launch::Beats,
    pulse: edge_agent::agent::Pulse,
    stopper: Stopper,
    every: Duration,
) {
    while pulse.feel().await {
        if let Err(error) = line.beat() {
            tracing::error!(%error, "the launcher is gone: stopping");
            return stopper.stop();
        }
        tokio::time::sleep(every).await;
    }
}

/// Ends when an agent has to end as it is: it was told to stop when its launcher had gone, and hangs. Nobody else
/// would end it, and no other could start.
async fn outlived(
    gone: impl Future<Output = ()>,
    stop: impl FnOnce(),
    bound: impl Future<Output = ()>,
) {
    gone.await;
    stop();
    bound.await;
    tracing::error!("the launcher is gone, and this agent does not stop: it ends as it is");
}

/// The exit code of an agent that ended well.
pub(crate) fn code(launched: Option<&Launched>) -> ExitCode {
    let wants_switch = launched.is_some_and(Launched::wants_switch);
    if wants_switch { ExitCode::from(SWITCH_EXIT) } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn an_orphan_is_told_to_stop_and_ends_when_its_bound_is_over() {
        let steps = RefCell::new(Vec::new());
        let note = |step| steps.borrow_mut().push(step);
        let gone = async { note("the launcher is gone") };
        let bound = async { note("a minute is over") };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(outlived(gone, || note("stop"), bound));
        note("it ends");
        let all = ["the launcher is gone", "stop", "a minute is over", "it ends"];
        assert_eq!(*steps.borrow(), all);
    }
}
