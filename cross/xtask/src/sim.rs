//! `cargo xtask sim`: seeded simulation of the gateway. Its options are the program's own
//! (`tests/sim/src/main.rs`).

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::command::{built, cargo, run as run_command};

/// What is handed on to the simulator as it is.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct SimArgs {
    /// Options of the simulator; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
}

/// Builds the simulator and starts it.
pub(crate) fn run(args: &SimArgs) -> Result<()> {
    // As a part of the workspace: alone it would need other features of its dependencies.
    run_command(cargo(&["build", "--workspace", "--bin", "sim"]))?;
    let mut command = Command::new(built("sim")?);
    command.args(&args.options);
    run_command(command)
}
