//! Builds a Rust function: cargo, then [`componentize`].

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::componentize::{ComponentizeError, componentize};

/// Functions are pure computation over their inputs: they need no WASI.
const TARGET: &str = "wasm32-unknown-unknown";

/// How a function is built.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Stack of the function in bytes; `stack` in `holm.toml`. A small one keeps the pages that an
    /// attempt touches together, which halves the cost of a fresh sandbox.
    pub stack_bytes: u32,
    /// The example to build instead of the package's library.
    pub example: Option<String>,
    /// Where cargo keeps its output; by default where the package says.
    pub target_dir: Option<PathBuf>,
    /// Build from the lock file and what was downloaded before.
    pub offline: bool,
    /// Keep cargo's words for [`BuildError::Cargo`] instead of showing them as they come.
    pub quiet: bool,
}

impl Default for BuildOptions {
    fn default() -> Self {
        let stack_bytes = 64 << 10;
        Self { stack_bytes, example: None, target_dir: None, offline: false, quiet: false }
    }
}

/// Why a function was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// cargo or rustc is not there.
    #[error("{program} could not be started: {source}; install Rust from https://rustup.rs")]
    Start {
        /// Which program.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Rust's library for the target is not installed.
    #[error("Rust cannot build for {TARGET} yet: run `rustup target add {TARGET}`")]
    Target,
    /// cargo failed and said why.
    #[error("cargo could not build the function in {}", dir.display())]
    Cargo {
        /// The package.
        dir: PathBuf,
        /// What it said; empty where it said it on standard error.
        said: String,
    },
    /// cargo made no WebAssembly module.
    #[error(
        "the package in {} makes no WebAssembly module: add `crate-type = [\"cdylib\"]` to \
         [lib] of its Cargo.toml", dir.display()
    )]
    NoModule {
        /// The package.
        dir: PathBuf,
    },
    /// The module does not export a function.
    #[error(transparent)]
    Componentize(#[from] ComponentizeError),
    /// A file could not be read.
    #[error("reading what cargo built: {0}")]
    Io(#[from] io::Error),
}

/// Builds the package in `dir` and returns the component. cargo's own progress and errors go to
/// standard error, unless `quiet` keeps them.
///
/// # Errors
/// See [`BuildError`].
pub fn build_function(dir: &Path, options: &BuildOptions) -> Result<Vec<u8>, BuildError> {
    check_target(dir)?;
    let output = Command::new("cargo")
        .args(arguments(options))
        .current_dir(dir)
        // Flags meant for the host would take the place of those below.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stderr(if options.quiet { Stdio::piped() } else { Stdio::inherit() })
        .output()
        .map_err(|source| BuildError::Start { program: "cargo", source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(BuildError::Cargo { dir: dir.to_owned(), said });
    }
    let module =
        module_path(&output.stdout).ok_or_else(|| BuildError::NoModule { dir: dir.to_owned() })?;
    Ok(componentize(&std::fs::read(module)?)?)
}

fn check_target(dir: &Path) -> Result<(), BuildError> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(dir)
        .output()
        .map_err(|source| BuildError::Start { program: "rustc", source })?;
    let libdir = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && Path::new(libdir.trim()).is_dir() {
        return Ok(());
    }
    Err(BuildError::Target)
}

fn arguments(options: &BuildOptions) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"]
            .map(OsString::from)
            .to_vec();
    let flags =
        format!("target.{TARGET}.rustflags=[\"-Clink-arg=-zstack-size={}\"]", options.stack_bytes);
    // Stripping debug information only: the names stay, so that errors can tell them.
    let settings = [
        flags.as_str(),
        "profile.release.opt-level=\"s\"",
        "profile.release.lto=true",
        "profile.release.codegen-units=1",
        "profile.release.panic=\"abort\"",
        "profile.release.strip=\"debuginfo\"",
    ];
    for setting in settings {
        arguments.extend(["--config", setting].map(OsString::from));
    }
    match &options.example {
        Some(example) => arguments.extend(["--example", example].map(OsString::from)),
        None => arguments.push("--lib".into()),
    }
    if let Some(target_dir) = &options.target_dir {
        arguments.extend(["--target-dir".into(), target_dir.into()]);
    }
    if options.offline {
        arguments.extend(["--locked", "--offline"].map(OsString::from));
    }
    arguments
}

#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// The module among what cargo reports to have made; the last one is the package's own.
fn module_path(messages: &[u8]) -> Option<PathBuf> {
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<CargoMessage>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .flat_map(|message| message.filenames)
        .rfind(|path| path.extension().is_some_and(|extension| extension == "wasm"))
}
