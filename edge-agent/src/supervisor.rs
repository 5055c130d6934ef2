//! What the process tells a supervisor that asks (`sd_notify(3)`): that it is ready, that its loop
//! still turns, that it stops.
//!
//! systemd sets `NOTIFY_SOCKET` for units of `Type=notify`, and `WATCHDOG_USEC` for those with
//! `WatchdogSec=`. Without them nothing is told. There is no timer and no thread here: a beat is
//! given by the loop itself after a turn, so a loop that hangs is silent, and is ended by systemd.
//!
//! With a launcher each has its part. The agent says that it is ready. Beats and the stop are the
//! launcher's: the agent beats to it, and it knows how long an update may take to begin.

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::launch::SLOTS_VARIABLE;

/// Longest wait of a loop that nobody watches.
const UNWATCHED: Duration = Duration::from_secs(3_600);
/// Beats in the time that the watchdog allows: one that is late or lost is no end.
const BEATS: u32 = 4;

/// Who is told, and how often.
#[derive(Debug)]
pub struct Supervisor {
    told: Option<Told>,
    /// Time between two beats.
    every: Option<Duration>,
    last: Option<Instant>,
    is_ready: bool,
    is_stopping: bool,
}

#[derive(Debug)]
struct Told {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Supervisor {
    /// Nobody.
    #[must_use]
    pub fn nobody() -> Self {
        Self { told: None, every: None, last: None, is_ready: false, is_stopping: false }
    }

    /// The one that the environment names. One that cannot be reached is logged, and nobody is
    /// told: a gateway works without a supervisor. An agent that a launcher has started may stop so
    /// that another one begins: to systemd that is no stop of the unit, and it is told of none.
    #[must_use]
    pub fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Self::nobody() };
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        // The variables may be left over from a process that this one was started by.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| is_ours).map(Duration::from_micros);
        match Self::at(&name, watchdog) {
            Ok(told) => Self { is_stopping: env::var_os(SLOTS_VARIABLE).is_some(), ..told },
            Err(error) => {
                tracing::warn!(?name, "NOTIFY_SOCKET: the supervisor cannot be told: {error}");
                Self::nobody()
            }
        }
    }

    /// The one that listens at `name`: a path, or `@` and an abstract name. It ends this process
    /// when it hears no beat for `watchdog`.
    ///
    /// # Errors
    /// There can be no socket of that name.
    pub fn at(name: &OsStr, watchdog: Option<Duration>) -> std::io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
        };
        let socket = UnixDatagram::unbound()?;
        // A supervisor that reads nothing must not hold up the loop.
        socket.set_nonblocking(true)?;
        let every = watchdog.filter(|time| !time.is_zero()).map(|time| time / BEATS);
        Ok(Self { told: Some(Told { socket, address }), every, ..Self::nobody() })
    }

    /// The longest that a loop may wait before its next beat.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        self.every.unwrap_or(UNWATCHED)
    }

    /// Devices can connect. Told once; after a store failure the process is still the same.
    pub fn ready(&mut self) {
        if !self.is_ready {
            self.is_ready = true;
            self.tell("READY=1\n");
        }
    }

    /// The loop has turned. Told no more often than needed.
    pub fn beat(&mut self, now: Instant) {
        let Some(every) = self.every else { return };
        // Half a period early is better than nearly two late.
        if self.last.is_none_or(|last| now.saturating_duration_since(last) >= every / 2) {
            self.last = Some(now);
            self.tell("WATCHDOG=1\n");
        }
    }

    /// Beats; returns how long to wait for `until` before the next beat. `None`: that time has come.
    pub fn beat_until(&mut self, now: Instant, until: Instant) -> Option<Duration> {
        self.beat(now);
        let left = until.saturating_duration_since(now);
        (!left.is_zero()).then(|| left.min(self.longest_wait()))
    }

    /// A start began that may take so long, whatever the supervisor thought of starts.
    pub fn starting(&mut self, within: Duration) {
        self.tell(&format!("EXTEND_TIMEOUT_USEC={}\n", within.as_micros()));
    }

    /// It is ending, because somebody asked. Told once.
    pub fn stopping(&mut self) {
        if !self.is_stopping {
            self.is_stopping = true;
            self.tell("STOPPING=1\n");
        }
    }

    fn tell(&self, words: &str) {
        if let Some(told) = &self.told
            && let Err(error) = told.socket.send_to_addr(words.as_bytes(), &told.address)
        {
            tracing::debug!("the supervisor does not hear: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 64];
        let len = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
    }

    #[test]
    fn a_supervisor_hears_ready_once_and_beats_when_they_are_due() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let watchdog = Duration::from_millis(400);
        let mut supervisor = Supervisor::at(path.as_os_str(), Some(watchdog)).unwrap();
        assert_eq!(supervisor.longest_wait(), watchdog / BEATS);
        supervisor.ready();
        supervisor.ready();
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        assert_eq!(supervisor.beat_until(now, later), Some(watchdog / BEATS));
        assert_eq!(supervisor.beat_until(now, now), None);
        assert_eq!(heard(&socket).as_deref(), Some("READY=1\n"));
        assert_eq!(heard(&socket).as_deref(), Some("WATCHDOG=1\n"));
        assert_eq!(heard(&socket), None, "a second beat at once is not due");
        supervisor.beat(now + watchdog / BEATS);
        supervisor.stopping();
        supervisor.stopping();
        assert_eq!(heard(&socket).as_deref(), Some("WATCHDOG=1\n"));
        assert_eq!(heard(&socket).as_deref(), Some("STOPPING=1\n"));
        assert_eq!(heard(&socket), None);
    }

    #[test]
    fn an_abstract_name_is_a_socket_too() {
        let name = format!("holm-supervisor-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut supervisor = Supervisor::at(format!("@{name}").as_ref(), None).unwrap();
        supervisor.beat(Instant::now());
        supervisor.ready();
        assert_eq!(heard(&socket).as_deref(), Some("READY=1\n"), "without a watchdog no beats");
        supervisor.starting(Duration::from_millis(1_500));
        assert_eq!(heard(&socket).as_deref(), Some("EXTEND_TIMEOUT_USEC=1500000\n"));
    }

    #[test]
    fn one_that_does_not_read_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor::at(path.as_os_str(), None).unwrap();
        // More than any queue of datagrams takes.
        (0..10_000).for_each(|_| supervisor.tell("READY=1\n"));
    }
}
