//! The agent that runs, and what the kernel lets it have.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde_json::Value;
use sync_protocol::wire::Request as Ask;

use crate::control::{self, Request};
use crate::doctor::facts::{Agent, Letter, LogPlace, Memory, Space};
use crate::runtime::EngineSettings;

/// How long an agent may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Dead letters among which the newest is looked for.
const LETTERS_MAX: u32 = 1_000;

/// What came of asking the agent.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// As it answers.
    pub(super) agent: Agent,
    /// Its process.
    pub(super) process: Option<i32>,
}

/// Asks the agent on its socket.
pub(super) fn agent(socket: &Path) -> Asked {
    if let Err(error) = UnixStream::connect(socket) {
        return unconnected(socket, &error);
    }
    let process = peer(socket);
    let agent = match control::request_within(socket, &Request::Ask(Ask::Status), ANSWER_MAX) {
        Ok(status) => Agent::Up { status: Box::new(status), letter: letter(socket) },
        Err(why) => Agent::Silent(format!("it runs and gives no status: {why}")),
    };
    Asked { agent, process }
}

fn unconnected(socket: &Path, error: &io::Error) -> Asked {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Asked::default(),
        io::ErrorKind::PermissionDenied => {
            let why = format!(
                "whether an agent runs is not known, nor who has its ports: {socket}: {error}"
            );
            Asked { agent: Agent::Hidden(why), process: None }
        }
        _ => Asked { agent: Agent::Silent(format!("{socket}: {error}")), process: None },
    }
}

/// The process at the other end of the socket; the kernel says so.
fn peer(socket: &Path) -> Option<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().ok()?;
    let connected = async { tokio::net::UnixStream::connect(socket).await?.peer_cred() };
    runtime.block_on(connected).ok()?.pid()
}

fn letter(socket: &Path) -> Option<Letter> {
    let ask = Ask::DeadLetters { after: None, limit: LETTERS_MAX };
    let mut page = control::request_within(socket, &Request::Ask(ask), ANSWER_MAX).ok()?;
    let Value::Array(rows) = page["rows"].take() else { return None };
    let newest = rows.into_iter().min_by_key(|row| row["age_ms"].as_u64())?;
    let word = |key: &str| newest[key].as_str().unwrap_or_default().to_owned();
    Some(Letter { function: word("function"), error: word("error") })
}

/// Where the log of the agent is, if it was started as its settings and this machine have it.
pub(super) fn log(file: Option<&Path>) -> LogPlace {
    /// There where systemd is the first process (`sd_booted`).
    const SYSTEMD: &str = "/run/systemd/system";
    /// A script of card images alone.
    const IMAGE: &str = "/usr/lib/holm/agent";
    match file {
        Some(file) => LogPlace::File(file.to_owned()),
        None if Path::new(IMAGE).exists() => LogPlace::Memory,
        None if Path::new(SYSTEMD).exists() => LogPlace::Journal,
        None => LogPlace::Printed,
    }
}

pub(super) fn memory() -> Option<Memory> {
    parse_memory(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_memory(text: &str) -> Option<Memory> {
    let line = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = rest.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib.saturating_mul(1_024))
    };
    Some(Memory { available_bytes: line("MemAvailable")?, all_bytes: line("MemTotal")? })
}

/// The limit of the agent that runs; else that of this process, which may not be its.
pub(super) fn space(agent: Option<i32>, engine: &EngineSettings) -> Space {
    let limits = agent.and_then(|id| fs::read_to_string(format!("/proc/{id}/limits")).ok());
    let (limit_bytes, of) = match limits.as_deref().and_then(parse_limit) {
        Some(limit) => (limit, "of the agent that runs"),
        None => (getrlimit(Resource::As).current, "of this shell; a unit may have another"),
    };
    let bits = usize::BITS;
    Space {
        limit_bytes,
        of: of.to_owned(),
        pool_bytes: engine.pool_bytes(),
        bits,
        workers: engine.slots,
        workers_that_fit: engine.slots_that_fit(limit_bytes, bits),
    }
}

/// The soft limit of address space; the inner `None` is no limit.
fn parse_limit(text: &str) -> Option<Option<u64>> {
    let rest = text.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    match rest.split_whitespace().next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read() {
        let text = "MemTotal:         500000 kB\nMemFree: 1 kB\nMemAvailable:   250000 kB\n";
        let memory = parse_memory(text).unwrap();
        assert_eq!((memory.all_bytes, memory.available_bytes), (512_000_000, 256_000_000));
        assert!(parse_memory("MemTotal: 1 kB").is_none());
        let limits = "Limit   Soft Limit   Hard Limit  Units\n\
                      Max address space         1073741824           unlimited            bytes\n";
        assert_eq!(parse_limit(limits), Some(Some(1 << 30)));
        assert_eq!(parse_limit("Max address space   unlimited  unlimited  bytes"), Some(None));
        assert_eq!(parse_limit("Max cpu time  1 1 seconds"), None);
        assert!(memory_is_there(), "this machine tells");
    }

    fn memory_is_there() -> bool {
        super::memory().is_some_and(|memory| memory.all_bytes > memory.available_bytes)
    }

    #[test]
    fn a_log_file_is_where_the_settings_have_it() {
        let file = Path::new("/var/log/holm/a.log");
        assert_eq!(log(Some(file)), LogPlace::File(file.to_owned()));
        assert!(!matches!(log(None), LogPlace::File(_)));
    }

    #[test]
    fn nobody_at_the_socket_is_no_agent() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let is_none = |asked: Asked| matches!(asked, Asked { agent: Agent::Down, process: None });
        assert!(is_none(agent(&socket)));
        // What a process that was killed left.
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(is_none(agent(&socket)));
        // Something is there and refuses in another way.
        let odd = unconnected(&socket, &io::ErrorKind::WouldBlock.into());
        assert!(matches!(odd.agent, Agent::Silent(_)), "{odd:?}");
    }

    #[test]
    fn a_socket_that_may_not_be_asked_says_nothing_of_the_agent() {
        let denied = unconnected(Path::new("x.sock"), &io::ErrorKind::PermissionDenied.into());
        assert!(
            matches!(&denied.agent, Agent::Hidden(why) if why.contains("x.sock")),
            "{denied:?}"
        );
    }
}
