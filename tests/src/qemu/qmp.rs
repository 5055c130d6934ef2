//! The machine protocol of QEMU: a command is a line of JSON, its answer another; events come in
//! between and are passed over.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long an answer may take on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Events passed over before an answer.
const EVENTS_MAX: usize = 1000;

/// A connection to a QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and agrees on capabilities.
    ///
    /// # Errors
    /// Nobody listens at `socket`, or it is not a QEMU.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let mut qmp = Self { stream: BufReader::new(stream) };
        let greeting = qmp.line()?;
        if greeting.get("QMP").is_none() {
            bail!("{}: not a QEMU: {greeting}", socket.display());
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command; returns what it returns.
    ///
    /// # Errors
    /// QEMU refuses it, does not answer, or has ended.
    #[expect(clippy::needless_pass_by_value, reason = "arguments are made for one command")]
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes())?;
        for _ in 0..EVENTS_MAX {
            let answer = self.line()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {request}: {error}");
            }
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
        }
        bail!("{EVENTS_MAX} events and no answer to {request}")
    }

    /// Sets a property of an object.
    ///
    /// # Errors
    /// As for [`Self::execute`].
    pub fn set_property(&mut self, path: &str, property: &str, value: &Value) -> Result<()> {
        let arguments = json!({ "path": path, "property": property, "value": value });
        self.execute("qom-set", arguments).map(drop)
    }

    /// Plugs the cable of a network card in or out.
    ///
    /// # Errors
    /// As for [`Self::execute`].
    pub fn set_link(&mut self, card: &str, up: bool) -> Result<()> {
        self.execute("set_link", json!({ "name": card, "up": up })).map(drop)
    }

    /// Resets the machine.
    ///
    /// # Errors
    /// As for [`Self::execute`].
    pub fn reset(&mut self) -> Result<()> {
        self.execute("system_reset", json!({})).map(drop)
    }

    /// Stops the machine where it is; it has stopped when this returns.
    ///
    /// # Errors
    /// As for [`Self::execute`].
    pub fn stop(&mut self) -> Result<()> {
        self.execute("stop", json!({})).map(drop)
    }

    /// Lets the machine go on.
    ///
    /// # Errors
    /// As for [`Self::execute`].
    pub fn go_on(&mut self) -> Result<()> {
        self.execute("cont", json!({})).map(drop)
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).context("no answer from QEMU")? == 0 {
            bail!("QEMU has ended");
        }
        serde_json::from_str(&line).with_context(|| format!("not an answer of QEMU: {line}"))
    }
}
