//! Client-side ledgers: what a device sent and was acked, what a subscriber received.
//!
//! A ledger is written by the client, never by the agent: a line per fact, as JSON. It is the only
//! evidence that [`crate::verify`] believes.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "lowercase", deny_unknown_fields)]
pub enum Fact {
    /// A device handed a message to its socket for the first time.
    Sent {
        /// Device name.
        device: String,
        /// Its number within the device, from 0: the index of the reading.
        seq: u64,
        /// SHA-256 of the payload, hexadecimal.
        hash: String,
        /// Wall clock, milliseconds.
        at_ms: u64,
    },
    /// A device handed a message to its socket again.
    Resent {
        /// Device name.
        device: String,
        /// Its number.
        seq: u64,
        /// Wall clock, milliseconds.
        at_ms: u64,
    },
    /// The device received the PUBACK.
    Acked {
        /// Device name.
        device: String,
        /// Its number.
        seq: u64,
        /// Wall clock, milliseconds.
        at_ms: u64,
    },
    /// A subscriber received a message.
    Received {
        /// Topic.
        topic: String,
        /// Payload, as text.
        payload: String,
        /// Wall clock, milliseconds.
        at_ms: u64,
    },
}

/// Facts that may wait in the buffer: whoever watches the file is not far behind.
const UNFLUSHED_MAX: usize = 32;

/// Appends facts to a file.
#[derive(Debug)]
pub struct Ledger {
    file: BufWriter<File>,
    unflushed: usize,
}

impl Ledger {
    /// Creates the file.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { file: BufWriter::new(file), unflushed: 0 })
    }

    /// Writes a fact.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn note(&mut self, fact: &Fact) -> Result<()> {
        serde_json::to_writer(&mut self.file, fact)?;
        self.file.write_all(b"\n")?;
        self.unflushed += 1;
        if self.unflushed >= UNFLUSHED_MAX { self.flush() } else { Ok(()) }
    }

    /// Hands buffered facts to the system.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn flush(&mut self) -> Result<()> {
        self.unflushed = 0;
        Ok(self.file.flush()?)
    }
}

/// Reads a ledger.
///
/// # Errors
/// The file cannot be read or a line is no fact; the message names the line.
pub fn read(path: &Path) -> Result<Vec<Fact>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let lines = BufReader::new(file).lines().enumerate();
    lines
        .map(|(n, line)| {
            serde_json::from_str(&line?)
                .with_context(|| format!("{}:{}: no fact", path.display(), n + 1))
        })
        .collect()
}

/// Reads a ledger that is still being written: its last line may not be complete yet.
///
/// # Errors
/// As [`read`].
pub fn read_so_far(path: &Path) -> Result<Vec<Fact>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |line: &str| serde_json::from_str(line).with_context(|| format!("{line}: no fact"));
    whole.lines().map(line).collect()
}

/// The wall clock, milliseconds since 1970.
#[must_use]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn hash(payload: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, payload);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
