//! What a program says of itself, before anything depends on it. One that does not start here (another
//! processor, a missing library) says nothing, and costs no downtime.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use edge_core::boot::Formats;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

/// First and only argument of a program that is to say what it is.
pub const SUBCOMMAND: &str = "about";
/// How long it may take.
const TIME_MAX: Duration = Duration::from_secs(20);
/// How often is looked whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes of its answer.
const ANSWER_BYTES_MAX: u64 = 4 << 10;
/// Tries to start a file that somebody has just written: a child that another thread made at that
/// moment may hold it open until it is a program of its own.
const BUSY_TRIES: u32 = 50;

/// What a program says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its version.
    pub version: String,
    /// Target triple that it is built for.
    pub target: String,
    /// Formats of data that it knows.
    pub formats: Formats,
}

impl About {
    /// This program.
    #[must_use]
    pub fn own() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: super::TARGET.to_owned(),
            formats: crate::store::FORMATS_KNOWN,
        }
    }
}

/// Why a program did not say what it is.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// It was not started; the machine may have been short of something.
    #[error("it does not start on this machine: {0}")]
    NotStarted(#[source] io::Error),
    /// It was asked.
    #[error("{0}")]
    Silent(String),
}

/// Asks the program at `path`.
///
/// # Errors
/// It does not start, does not end in time, or does not answer as an agent does.
pub fn ask(path: &Path) -> Result<About, NoAnswer> {
    let mut command = Command::new(path);
    command.arg(SUBCOMMAND).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = spawn(&mut command).map_err(NoAnswer::NotStarted)?;
    answer_of(&mut child).map_err(NoAnswer::Silent)
}

/// Starts a program that was written a moment ago.
///
/// # Errors
/// As [`Command::spawn`].
pub(super) fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 0..BUSY_TRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(LOOK_EVERY);
            }
            done => return done,
        }
    }
    command.spawn()
}

/// Nothing waits for what it started itself, which may hold its standard output for ever.
fn answer_of(child: &mut Child) -> Result<About, String> {
    let text = |error: io::Error| error.to_string();
    let mut pipe = child.stdout.take().ok_or("it has no standard output")?;
    let until = Instant::now() + TIME_MAX;
    let mut answer = Vec::new();
    let answered = set_nonblocking(&pipe).map_err(text).and_then(|()| {
        loop {
            let status = child.try_wait().map_err(text)?;
            read_more(&mut pipe, &mut answer).map_err(text)?;
            match status {
                Some(status) => return Ok(status),
                None if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
                None => return Err(format!("it says nothing of itself within {TIME_MAX:?}")),
            }
        }
    });
    let status = answered.inspect_err(|_| end(child))?;
    if !status.success() {
        return Err(format!("asked what it is, it ends with {status}: is it an agent of Holm?"));
    }
    serde_json::from_slice(&answer)
        .map_err(|error| format!("what it says of itself cannot be read: {error}"))
}

fn set_nonblocking(pipe: &ChildStdout) -> io::Result<()> {
    Ok(fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?)
}

/// Takes what is there, up to [`ANSWER_BYTES_MAX`] in all.
fn read_more(pipe: &mut ChildStdout, answer: &mut Vec<u8>) -> io::Result<()> {
    let left = ANSWER_BYTES_MAX - answer.len() as u64;
    match pipe.take(left).read_to_end(answer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        done => done.map(drop),
    }
}

/// Ends a program that was asked, and what it started.
fn end(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // It may have ended meanwhile; its number is its own until it was waited for.
    if let (Some(pid), Ok(None)) = (pid, child.try_wait()) {
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = child.wait();
    }
}
