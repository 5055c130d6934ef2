//! The `holm` command: for who writes functions, and for who runs gateways.
//!
//! Each command is a module that turns what was typed ([`args`]) into what is meant, does it, and
//! prints the answer through [`out`]. Failures are [`failure::Failure`]s with an exit code and a
//! next step; nothing here panics on bad input.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::FromArgMatches as _;
use serde_json::json;

pub mod app;
pub mod args;
pub mod build;
pub mod bytes_json;
pub mod cloud;
pub mod context;
pub mod dead_letters;
pub mod deploy;
pub mod dev;
pub mod device;
pub mod events;
pub mod failure;
pub mod filter;
pub mod fleet;
pub mod http;
pub mod input;
pub mod invoke;
pub mod keys;
pub mod logs;
pub mod mqtt;
pub mod new;
pub mod out;
pub mod secret_file;
pub mod simulate;
pub mod state;
pub mod state_file;
pub mod status;

use args::{Cli, Command, Global};
use failure::{Done, Failure};
use out::Out;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    // The gateway of `holm dev` compiles functions in a memory-limited process of its own: this
    // program, started anew.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "compile") {
        return edge_agent::runtime::compile_child_main(&words.collect::<Vec<_>>());
    }
    let parsed =
        args::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let Cli { global, command } = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let out = Out::new(global.json, global.quiet);
    match run(&command, &global, &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Help, the version, or what is wrong with the command line: clap's own words, or JSON where it
/// was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let is_json = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    if !is_json || !error.use_stderr() {
        error.exit();
    }
    let text = error.render().to_string();
    let problem: Vec<&str> = text.lines().take_while(|line| !line.starts_with("Usage:")).collect();
    let problem = problem.join("\n");
    let problem = problem.trim().strip_prefix("error: ").unwrap_or(problem.trim()).to_owned();
    let failure = Failure::usage(problem).next("`holm help COMMAND` explains a command");
    Out::new(true, false).failure(&failure);
    ExitCode::from(failure.exit as u8)
}

fn run(command: &Command, global: &Global, out: &Out) -> Done {
    match command {
        Command::New(args) => new::run(args, out),
        Command::Build(args) => build::run(args, global, out),
        Command::Invoke(args) => invoke::run(args, out),
        Command::Filter(args) => filter::run(args, out),
        Command::Keys(args) => keys::run(args, global, out),
        Command::Login(args) => context::login(args, global, out),
        Command::Context(args) => context::run(args, global, out),
        Command::Pub(args) => mqtt::publish(args, out),
        Command::Sub(args) => mqtt::subscribe(args, out),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut args::command(), "holm", &mut script);
            out.raw(&script)
        }
        Command::HolmToml => {
            let text = app::reference::terminal();
            out.answer(&json!({ "text": text }), |answer, _| answer.push_str(&text))
        }
        Command::Dev(args) => dev::run(args, global, out),
        Command::Simulate(args) => simulate::run(args, global, out),
        Command::Cloud(args) => cloud::run(args, global, out),
        Command::Device(args) => device::run(args, global, out),
        Command::Gateway(args) => cloud::gateway(args, global, out),
        Command::Deploy(args) => deploy::run(args, global, out),
        Command::Rollback(args) => deploy::rollback(args, global, out),
        Command::Undeploy(args) => deploy::undeploy(args, global, out),
        Command::Status(args) => status::run(args, global, out),
        Command::Logs(args) => logs::run(args, global, out),
        Command::State(args) => state::run(args, global, out),
        Command::DeadLetters(args) => dead_letters::run(args, global, out),
    }
}
