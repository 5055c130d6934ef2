//! Running other programs: the command line is shown, a failure names it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the checkout.
pub(crate) fn project_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("invariant: xtask lies two folders deep").to_owned()
}

/// `cargo ARGS` in the root of the checkout, by the toolchain that runs this program.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    command.args(args).current_dir(project_root());
    // What cargo told this program about itself is not the inner cargo's business: the build script
    // of ring watches CARGO_MANIFEST_DIR, and all that stands on ring would be built again.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// A program of this build: it lies beside this one, wherever the build folder is.
pub(crate) fn built(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("a program lies in a folder")?.join(program))
}

/// The build folder: this program lies in a folder of a profile in it.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2);
    Ok(target.context("this program lies in no build folder: start it with cargo")?.to_owned())
}

/// Runs a command to its end, inheriting the terminal.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let shown = show(&command);
    eprintln!("$ {shown}");
    let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Whether a command succeeds; its output is dropped.
pub(crate) fn succeeds(mut command: Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Whether a program with these words succeeds.
pub(crate) fn succeeds_words(program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words);
    succeeds(command)
}

fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    if let Some(name) = Path::new(&words[0]).file_name() {
        words[0] = name.to_string_lossy().into_owned();
    }
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}
