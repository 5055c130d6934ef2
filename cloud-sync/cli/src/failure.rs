//! How the command fails: an exit code, what is wrong, and what to do next.
//!
//! # Exit codes (a contract with scripts, listed in `holm help`)
//! 0 done · 1 refused or failed · 2 usage · 3 bad input file · 4 not reachable · 5 not found ·
//! 6 not allowed · 7 the function did not return ok · 8 not done within the given time.

use std::fmt;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

/// Why a command ended without doing what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Refused or failed, for a reason that stands in the message.
    Failed = 1,
    /// The command line is wrong (also what clap exits with).
    Usage = 2,
    /// A file that was given is not what it should be.
    Input = 3,
    /// The control plane or the gateway does not answer.
    Unreachable = 4,
    /// What was named does not exist.
    NotFound = 5,
    /// The token or certificate does not allow it.
    Denied = 6,
    /// A function that was run asked for a retry, rejected its event or was stopped.
    Function = 7,
    /// It did not come about within the given time.
    Timeout = 8,
}

impl Exit {
    /// One word for `--json`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Input => "input",
            Self::Unreachable => "unreachable",
            Self::NotFound => "not-found",
            Self::Denied => "denied",
            Self::Function => "function",
            Self::Timeout => "timeout",
        }
    }
}

/// A failure for people and for scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Kind, which is the exit code.
    pub exit: Exit,
    /// What is wrong. Several lines where several things are wrong, each complete in itself.
    pub problems: Vec<String>,
    /// What to do next.
    pub next: Option<String>,
}

impl Failure {
    /// A failure with one problem.
    #[must_use]
    pub fn new(exit: Exit, problem: impl Into<String>) -> Self {
        Self { exit, problems: vec![problem.into()], next: None }
    }

    /// [`Exit::Failed`].
    #[must_use]
    pub fn failed(problem: impl Into<String>) -> Self {
        Self::new(Exit::Failed, problem)
    }

    /// [`Exit::Input`].
    #[must_use]
    pub fn input(problem: impl Into<String>) -> Self {
        Self::new(Exit::Input, problem)
    }

    /// [`Exit::Usage`].
    #[must_use]
    pub fn usage(problem: impl Into<String>) -> Self {
        Self::new(Exit::Usage, problem)
    }

    /// A file that could not be read, written or made.
    #[must_use]
    pub fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            io::ErrorKind::PermissionDenied => Exit::Denied,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("cannot {verb} {}: {error}", path.display()))
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// As one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "error": {
            "kind": self.exit.word(),
            "problems": self.problems,
            "next": self.next,
        }})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for Failure {}

/// Result of a command.
pub type Done<T = ()> = Result<T, Failure>;

/// Reads a whole file that must not be larger than `bytes_max`.
///
/// # Errors
/// The file does not exist, cannot be read or is too large.
pub fn read_file(path: &Path, bytes_max: u64) -> Done<Vec<u8>> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|err| Failure::file("open", path, &err))?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|err| Failure::file("read", path, &err))?;
    if bytes.len() as u64 > bytes_max {
        let limit = crate::out::size(bytes_max);
        return Err(Failure::input(format!("{} is larger than {limit}", path.display())));
    }
    Ok(bytes)
}
