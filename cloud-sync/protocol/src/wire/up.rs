//! What a gateway says.

use serde::{Deserialize, Serialize};

use super::{Message, WireError};
use crate::enroll::EnrollRequest;
use crate::id::{Digest, EventId, InstanceId};
use crate::limits::{
    APPS_MAX, CHUNK_BYTES_MAX, LABEL_BYTES_MAX, LOG_LINES_MAX, NAME_BYTES_MAX, POSITION_MAX,
    RECORDS_PER_MESSAGE_MAX, REPLY_BYTES_MAX, STREAMS_MAX, TEXT_BYTES_MAX,
};
use crate::record::{Phase, Record};

/// A message from a gateway to its control plane. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Up {
    /// First message of each connection. Records wait for the `Welcome`.
    Hello(Box<Hello>),
    /// A run of records of one stream.
    Records(Records),
    /// Where its deployments stand, whenever that changes.
    StateReport(StateReport),
    /// How it is, every half minute.
    Health(Box<Health>),
    /// Bytes it needs.
    ChunkRequest(ChunkRequest),
    /// Answer to a command.
    Reply(Reply),
    /// Log lines, while somebody follows them.
    Logs(Logs),
    /// Answer to `Down::RenewCertificate`: a certificate for a new key is wanted.
    CertificateRequest(EnrollRequest),
}

/// First message of each connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the agent.
    pub agent_version: String,
    /// Architecture and operating system, as in a Rust target triple.
    pub platform: String,
    /// The process run.
    pub epoch: u64,
    /// Where its streams stand.
    pub streams: Vec<StreamPosition>,
    /// Where its deployments stand.
    pub state: StateReport,
}

/// Where a stream of a gateway stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// Which stream.
    pub stream: u8,
    /// Lowest position still kept; `last + 1` when nothing is kept.
    pub first: u64,
    /// Highest position ever written; 0 when none was.
    pub last: u64,
}

/// A run of records of one stream, in order. Between them nothing exists: a position that the
/// run skips was never written or is lost, and is shown as a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// Which stream.
    pub stream: u8,
    /// The records, ascending.
    pub records: Vec<Record>,
}

/// Where the deployments of a gateway stand. It is a whole statement: an app that is not named
/// is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReport {
    /// The control plane whose generation it last took; `None` before the first.
    pub instance: Option<InstanceId>,
    /// The highest generation it works towards.
    pub generation: u64,
    /// Its apps.
    pub apps: Vec<AppState>,
}

/// Where one app of a gateway stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppState {
    /// Which app.
    pub app: String,
    /// The revision that `phase` speaks of.
    pub revision: Digest,
    /// How far it is.
    pub phase: Phase,
    /// Why, for people; empty where there is nothing to say.
    pub reason: String,
    /// The revision that attempts run under now.
    pub running: Option<Digest>,
}

/// How a gateway is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Seconds since the process started.
    pub uptime_s: u64,
    /// Jobs waiting or in work.
    pub queue_jobs: u64,
    /// Bytes of these.
    pub queue_bytes: u64,
    /// Records not yet receipted.
    pub outbox_records: u64,
    /// Bytes of these.
    pub outbox_bytes: u64,
    /// Age of the oldest of these in milliseconds.
    pub outbox_oldest_age_ms: u64,
    /// Dead letters kept on the gateway.
    pub dead_letters: u64,
    /// MQTT clients connected.
    pub clients: u64,
    /// Events done since start.
    pub events_done: u64,
    /// Attempts that failed since start.
    pub faults: u64,
    /// Bytes written to the store in the last 24 hours, as far as known.
    pub written_bytes_day: u64,
    /// Why it is degraded: one text per reason, none when it is well.
    pub degraded: Vec<String>,
}

/// Bytes of an artifact, or of a signed manifest by its revision digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRequest {
    /// Which.
    pub digest: Digest,
    /// From where.
    pub offset: u64,
    /// How many, at most [`CHUNK_BYTES_MAX`].
    pub len: u32,
}

/// Answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The command's id.
    pub id: u64,
    /// A JSON document, or why there is none.
    pub result: Result<String, String>,
}

/// Log lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// In order.
    pub lines: Vec<LogLine>,
    /// Lines dropped since the last message, because they came too fast.
    pub dropped: u64,
}

/// One log line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// How loud.
    pub level: LogLevel,
    /// `app/function`; empty for the agent itself.
    pub source: String,
    /// The event that was worked on.
    pub event: Option<EventId>,
    /// The line.
    pub text: String,
}

/// Level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Very fine.
    Trace,
    /// Fine.
    Debug,
    /// What goes on.
    Info,
    /// What may become trouble.
    Warn,
    /// Trouble.
    Error,
}

impl Message for Up {
    fn check(&self) -> Result<(), WireError> {
        match self {
            Self::Hello(hello) => {
                WireError::at_most("version", hello.agent_version.len(), LABEL_BYTES_MAX)?;
                WireError::at_most("platform", hello.platform.len(), LABEL_BYTES_MAX)?;
                WireError::at_most("streams", hello.streams.len(), STREAMS_MAX)?;
                hello.streams.iter().try_for_each(StreamPosition::check)?;
                hello.state.check()
            }
            Self::Records(records) => records.check(),
            Self::StateReport(report) => report.check(),
            Self::Health(health) => {
                WireError::at_most("degraded", health.degraded.len(), STREAMS_MAX * 8)?;
                health.degraded.iter().try_for_each(|reason| {
                    WireError::at_most("reason", reason.len(), TEXT_BYTES_MAX)
                })
            }
            Self::ChunkRequest(request) => {
                WireError::at_most("chunk", request.len as usize, CHUNK_BYTES_MAX as usize)
            }
            Self::Reply(reply) => {
                let text = match &reply.result {
                    Ok(text) | Err(text) => text,
                };
                WireError::at_most("reply", text.len(), REPLY_BYTES_MAX)
            }
            Self::CertificateRequest(request) => request.check(),
            Self::Logs(logs) => {
                WireError::at_most("log lines", logs.lines.len(), LOG_LINES_MAX)?;
                logs.lines.iter().try_for_each(|line| {
                    WireError::at_most("log source", line.source.len(), LABEL_BYTES_MAX)?;
                    WireError::at_most("log line", line.text.len(), TEXT_BYTES_MAX)
                })
            }
        }
    }
}

impl StreamPosition {
    fn check(&self) -> Result<(), WireError> {
        WireError::at_most("stream number", usize::from(self.stream), STREAMS_MAX - 1)?;
        if self.first == 0 || self.last > POSITION_MAX || self.first > self.last + 1 {
            return Err(WireError::Positions { first: self.first, last: self.last });
        }
        Ok(())
    }
}

impl StateReport {
    fn check(&self) -> Result<(), WireError> {
        WireError::at_most("apps", self.apps.len(), APPS_MAX)?;
        self.apps.iter().try_for_each(|app| {
            WireError::at_most("app name", app.app.len(), NAME_BYTES_MAX)?;
            WireError::at_most("reason", app.reason.len(), TEXT_BYTES_MAX)
        })
    }
}

impl Records {
    fn check(&self) -> Result<(), WireError> {
        WireError::at_most("stream number", usize::from(self.stream), STREAMS_MAX - 1)?;
        WireError::at_most("records", self.records.len(), RECORDS_PER_MESSAGE_MAX)?;
        let mut last = 0;
        for record in &self.records {
            record.check()?;
            if record.first() <= last {
                return Err(WireError::Positions { first: record.first(), last: record.seq });
            }
            last = record.seq;
        }
        Ok(())
    }
}
