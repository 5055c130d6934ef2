//! Compiles components, in a child process that may not take the gateway with it.
//!
//! The child is the agent's own binary started with `compile` as its first argument. It gets the
//! component on standard input and answers with the artifact on standard output. Limits: address
//! space 512 MiB and 60 s by default; component 32 MiB, artifact 256 MiB.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal};

use super::engine::{self, EngineSettings};

/// First argument of the compiling child.
const SUBCOMMAND: &str = "compile";
/// Largest component that is compiled.
const COMPONENT_BYTES_MAX: usize = 32 << 20;
/// Largest artifact that is taken.
const ARTIFACT_BYTES_MAX: u64 = 256 << 20;
/// Most words of the child's complaint that are passed on.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;
/// The child gives way to everything.
const NICENESS: i32 = 10;

/// How components become native code.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// In this process, without limits: for a developer's own machine and own functions.
    InProcess,
    /// In a child process.
    Child {
        /// The agent's binary, or another that calls [`compile_child_main`].
        exe: PathBuf,
        /// Address space the child may use.
        memory_bytes_max: u64,
        /// Time it may take.
        time_max: Duration,
    },
}

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Not a component at all.
    #[error("{0}")]
    NotAComponent(&'static str),
    /// Over the bound on components.
    #[error("the component has {bytes} bytes, at most {COMPONENT_BYTES_MAX} are compiled")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The compiler's own complaint.
    #[error("the component does not compile: {0}")]
    Invalid(String),
    /// It needs more memory than the child may use.
    #[error(
        "compiling needs more than {} MiB: raise `compile_memory` in [limits] or deploy a \
         smaller component", limit_bytes >> 20
    )]
    Memory {
        /// The limit.
        limit_bytes: u64,
    },
    /// It takes longer than the child may run.
    #[error("compiling takes longer than {} s: raise `compile_time` in [limits]", limit.as_secs())]
    Time {
        /// The limit.
        limit: Duration,
    },
    /// The artifact does not load; a fault of the agent.
    #[error("the compiled component does not load: {0}")]
    Load(String),
    /// The child could not be started or talked to.
    #[error("the compiler did not run: {0}")]
    Io(#[from] io::Error),
}

impl Compiler {
    /// A child of `exe` with the default limits.
    #[must_use]
    pub fn child(exe: PathBuf) -> Self {
        Self::Child { exe, memory_bytes_max: 512 << 20, time_max: Duration::from_secs(60) }
    }

    pub(super) fn compile(
        &self,
        component: &[u8],
        settings: &EngineSettings,
    ) -> Result<Vec<u8>, CompileError> {
        check_component(component)?;
        match self {
            Self::InProcess => precompile(component, settings),
            Self::Child { exe, memory_bytes_max, time_max } => {
                let settings =
                    serde_json::to_string(settings).expect("invariant: settings are plain numbers");
                let child = Command::new(exe)
                    .arg(SUBCOMMAND)
                    .arg(settings)
                    .arg(memory_bytes_max.to_string())
                    .arg(time_max.as_secs().max(1).to_string())
                    .env_clear()
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()?;
                let answer = converse(child, component.to_vec(), *time_max)?;
                answer.into_artifact(*memory_bytes_max, *time_max)
            }
        }
    }
}

/// Refuses what is no component, with a hint at what it is instead.
pub(super) fn check_component(bytes: &[u8]) -> Result<(), CompileError> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(CompileError::TooLarge { bytes: bytes.len() });
    }
    match bytes.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => Ok(()),
        Some(b"\0asm\x01\0\0\0") => Err(CompileError::NotAComponent(
            "this is a core WebAssembly module, not a component: `holm build` makes one of it",
        )),
        Some(b"\x7fELF\x02\x01\x01\0" | b"\x7fELF\x01\x01\x01\0") => {
            Err(CompileError::NotAComponent(
                "this is native code, not a component: deploy the component, the gateway \
                 compiles it itself",
            ))
        }
        _ => Err(CompileError::NotAComponent("this is not a WebAssembly component")),
    }
}

fn precompile(component: &[u8], settings: &EngineSettings) -> Result<Vec<u8>, CompileError> {
    engine::compiling(settings)
        .and_then(|engine| engine.precompile_component(component))
        .map_err(|error| CompileError::Invalid(format!("{error:#}")))
}

/// What a child said before it ended.
struct Answer {
    status: Option<ExitStatus>,
    artifact: Vec<u8>,
    complaint: String,
}

impl Answer {
    fn into_artifact(self, limit_bytes: u64, limit: Duration) -> Result<Vec<u8>, CompileError> {
        let Some(status) = self.status else { return Err(CompileError::Time { limit }) };
        if status.success() && !self.artifact.is_empty() {
            return Ok(self.artifact);
        }
        let complaint = self.complaint.trim();
        if status.signal() == Some(Signal::XCPU.as_raw()) {
            return Err(CompileError::Time { limit });
        }
        // What an allocation error handler or a failed mapping says.
        if complaint.contains("memory allocation of") || complaint.contains("Cannot allocate") {
            return Err(CompileError::Memory { limit_bytes });
        }
        if status.code() == Some(i32::from(EXIT_INVALID)) {
            return Err(CompileError::Invalid(complaint.to_owned()));
        }
        Err(CompileError::Io(io::Error::other(format!("{status}: {complaint}"))))
    }
}

/// Feeds the child and reads it to its end, or kills it at `time_max`.
fn converse(mut child: Child, component: Vec<u8>, time_max: Duration) -> io::Result<Answer> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        unreachable!("invariant: all three were asked for as pipes");
    };
    let (done, read) = mpsc::sync_channel(1);
    // Ends when the child does, which the wait below makes sure of.
    let pipes = thread::Builder::new().name("compile".into()).spawn(move || {
        // A child that dies early breaks the pipe; its status tells more.
        let _ = stdin.write_all(&component);
        drop((stdin, component));
        let (mut artifact, mut complaint) = (Vec::new(), Vec::new());
        let result = stdout
            .take(ARTIFACT_BYTES_MAX)
            .read_to_end(&mut artifact)
            .and_then(|_| stderr.take(COMPLAINT_BYTES_MAX).read_to_end(&mut complaint));
        let complaint = String::from_utf8_lossy(&complaint).into_owned();
        let _ = done.send(result.map(|_| (artifact, complaint)));
    });
    let pipes = match pipes {
        Ok(pipes) => pipes,
        Err(error) => {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
    };
    let answer = read.recv_timeout(time_max);
    if answer.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    // It cannot panic, and its result came through the channel.
    let _ = pipes.join();
    match answer {
        Ok(said) => {
            let (artifact, complaint) = said?;
            Ok(Answer { status: Some(status), artifact, complaint })
        }
        Err(_) => Ok(Answer { status: None, artifact: Vec::new(), complaint: String::new() }),
    }
}

/// Exit code of a child whose component does not compile.
const EXIT_INVALID: u8 = 2;

/// The compiling child: what a binary does whose first argument is `compile`. `args` are the
/// arguments after it.
#[must_use]
pub fn compile_child_main(args: &[OsString]) -> ExitCode {
    match child(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ChildError::Invalid(text)) => {
            complain(&text);
            ExitCode::from(EXIT_INVALID)
        }
        Err(ChildError::Io(error)) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

enum ChildError {
    Invalid(String),
    Io(io::Error),
}

impl From<io::Error> for ChildError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn complain(text: &str) {
    // Nobody is left to tell if this fails.
    let _ = writeln!(io::stderr(), "{text}");
}

fn child(args: &[OsString]) -> Result<(), ChildError> {
    let usage = || {
        io::Error::other(
            "`compile` is for the agent itself: SETTINGS ADDRESS_SPACE_BYTES CPU_SECONDS, \
             component on standard input, artifact on standard output",
        )
    };
    let text: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let &[settings, memory_bytes, cpu_s] = text.as_slice() else { return Err(usage().into()) };
    let settings = serde_json::from_str(settings).map_err(|_| usage())?;
    restrict(Resource::As, memory_bytes.parse().map_err(|_| usage())?)?;
    restrict(Resource::Cpu, cpu_s.parse().map_err(|_| usage())?)?;
    restrict(Resource::Core, 0)?;
    rustix::process::nice(NICENESS).map_err(io::Error::from)?;
    let mut component = Vec::new();
    io::stdin().take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut component)?;
    let artifact = check_component(&component)
        .and_then(|()| precompile(&component, &settings))
        .map_err(|error| match error {
            CompileError::Invalid(text) => ChildError::Invalid(text),
            other => ChildError::Invalid(other.to_string()),
        })?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&artifact)?;
    stdout.flush()?;
    Ok(())
}

/// Lowers a limit; one that is lower already stays, since only root could raise it.
fn restrict(resource: Resource, limit: u64) -> io::Result<()> {
    let limit = limit.min(rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX));
    let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
    Ok(rustix::process::setrlimit(resource, limit)?)
}
