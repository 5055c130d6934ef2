//! What a gateway is doing: `edge-agent status`, `devices` and `device-logs`.

use clap::Args;
use edge_agent::control::Request;
use serde_json::Value;
use sync_protocol::wire::Request as Ask;

use super::{Config, ask, print, print_json, rows, show};

#[derive(Args)]
#[command(after_help = "\
docs/status-fields.md says what each field of the JSON means.

Examples:
  edge-agent status
  edge-agent status --json | jq .uplink
  edge-agent status --json | jq '.deployments.apps[] | {app, phase, reason}'
  watch edge-agent status --config agent.toml")]
pub(super) struct Status {
    /// Print the whole document as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  edge-agent devices
  edge-agent devices --json | jq '.[] | select(.connected | not) | .device'")]
pub(super) struct Devices {
    /// Print the rows as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  edge-agent device-logs
  edge-agent device-logs press-7 --json")]
pub(super) struct DeviceLogs {
    /// Only of this device.
    device: Option<String>,
    /// Print the lines as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: Config,
}

pub(super) fn status(arguments: &Status) -> Result<(), String> {
    let status = ask(&arguments.config.config, &Request::Ask(Ask::Status))?;
    answer(arguments.json, &status, show::status::text);
    Ok(())
}

pub(super) fn devices(arguments: &Devices) -> Result<(), String> {
    let page = |next: Option<&Value>| Request::Devices {
        after: next.and_then(Value::as_str).map(str::to_owned),
    };
    let rows = rows(&arguments.config.config, page)?;
    if arguments.json {
        print_json(&Value::Array(rows));
    } else {
        print(&show::devices::table(&rows));
    }
    Ok(())
}

pub(super) fn device_logs(arguments: DeviceLogs) -> Result<(), String> {
    let DeviceLogs { device, json, config } = arguments;
    let lines = ask(&config.config, &Request::DeviceLogs { device })?;
    answer(json, &lines, show::devices::logs);
    Ok(())
}

fn answer(json: bool, value: &Value, text: impl Fn(&Value) -> String) {
    if json {
        print_json(value);
    } else {
        print(&text(value));
    }
}
