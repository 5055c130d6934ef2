//! The machine protocol of QEMU: a command is a line of JSON, its answer another; events come in between and are passed
//! over.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// How long an answer may take on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Events passed over before an answer.
const EVENTS_MAX: usize = 1_000;

/// A connection to a QEMU.
#[derive(Debug)]
pub(super) struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Connects and agrees on capabilities.
    pub(super) fn connect(socket: &Path) -> Result<Self, String> {
        let stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(|error| error.to_string())?;
        let mut qmp = Self(BufReader::new(stream));
        let greeting = qmp.line()?;
        if greeting.get("QMP").is_none() {
            return Err(format!("{}: not a QEMU: {greeting}", socket.display()));
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command; returns what it returns.
    #[expect(clippy::needless_pass_by_value, reason = "arguments are made for one command")]
    pub(super) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        let request = json!({ "execute": command, "arguments": arguments });
        let sent = self.0.get_mut().write_all(format!("{request}\n").as_bytes());
        sent.map_err(|error| format!("QEMU takes no command: {error}"))?;
        for _ in 0..EVENTS_MAX {
            let answer = self.line()?;
            if let Some(error) = answer.get("error") {
                return Err(format!("QEMU refuses {request}: {error}"));
            }
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
        }
        Err(format!("{EVENTS_MAX} events and no answer to {request}"))
    }

    fn line(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => Err("QEMU has ended".to_owned()),
            Ok(_) => serde_json::from_str(&line)
                .map_err(|error| format!("not an answer of QEMU ({error}): {line}")),
            Err(error) => Err(format!("no answer from QEMU: {error}")),
        }
    }
}
