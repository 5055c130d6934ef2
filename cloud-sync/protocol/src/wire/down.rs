//! What the control plane says. Every message is a statement that may be lost or repeated.

use serde::{Deserialize, Serialize};

use super::{Message, WireError};
use crate::id::{Digest, EventId, InstanceId};
use crate::limits::{
    APPS_MAX, CERTIFICATE_BYTES_MAX, CHUNK_BYTES_MAX, LABEL_BYTES_MAX, NAME_BYTES_MAX,
    RECORDS_PER_MESSAGE_MAX, STREAMS_MAX, TEXT_BYTES_MAX,
};

/// A message from the control plane to a gateway. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Down {
    /// Answer to `Hello`: records may flow.
    Welcome(Welcome),
    /// Records are stored.
    Receipt(Receipt),
    /// What should run.
    Desired(Desired),
    /// Bytes of an artifact or signed manifest.
    Chunk(Chunk),
    /// There are no such bytes for this gateway.
    ChunkRefused(ChunkRefused),
    /// An operator asks something.
    Command(Command),
    /// Records are stored, but for some that contradict what is there.
    Conflicts(Conflicts),
    /// The certificate of this connection is worn or expired: the gateway asks for a new one
    /// (`Up::CertificateRequest`). Said again at each connection until it has one.
    RenewCertificate,
    /// The new certificate (DER) for the key that was last asked for; the next connection uses it.
    Certificate(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// Answer to `Hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Who speaks.
    pub instance: InstanceId,
    /// Milliseconds since the Unix epoch here.
    pub unix_ms: u64,
    /// Highest contiguous position stored, for every stream the gateway named. It is a receipt
    /// only where the gateway's own record there is of the same process run. Else the gateway's
    /// store is an older copy or was lost: it sends all it holds, and continues above the mark.
    pub stored: Vec<StreamMark>,
}

/// A position in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamMark {
    /// Which stream.
    pub stream: u8,
    /// Everything up to here.
    pub seq: u64,
    /// Process run of the record stored there; 0 where none is (nothing yet, or a gap).
    pub epoch: u64,
}

/// Everything up to `seq` is stored durably, or shown as a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Which stream.
    pub stream: u8,
    /// Up to here.
    pub seq: u64,
}

/// A receipt that names what was not taken: other records, of another life of the gateway's store,
/// stand at these positions. The gateway sends its own again at positions of their own, and only
/// then forgets them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflicts {
    /// Which stream.
    pub stream: u8,
    /// Everything up to here is stored durably, or shown as a gap.
    pub seq: u64,
    /// What was not taken of one message, ascending.
    pub positions: Vec<u64>,
}

/// What should run on the gateway: the whole statement. An app that is not named goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Who says so.
    pub instance: InstanceId,
    /// A higher generation of the same instance replaces a lower one.
    pub generation: u64,
    /// The apps.
    pub apps: Vec<AppTarget>,
}

/// A revision that should be live.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AppTarget {
    /// Which app.
    pub app: String,
    /// Which revision.
    pub revision: Digest,
}

/// Bytes of an artifact or signed manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Of which.
    pub digest: Digest,
    /// From where.
    pub offset: u64,
    /// Length of the whole.
    pub total: u64,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// There are no such bytes for this gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRefused {
    /// Of which.
    pub digest: Digest,
    /// Why.
    pub reason: String,
}

/// An operator asks something. The same id is the same question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// To find the reply by.
    pub id: u64,
    /// The question.
    pub request: Request,
}

/// What an operator may ask a gateway. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// The document of `edge-agent status --json`.
    Status,
    /// Send log lines for so long; 0 stops.
    Logs {
        /// Seconds from now.
        for_s: u32,
    },
    /// A page of the dead letters kept on the gateway, in the order of function and event.
    DeadLetters {
        /// Only those behind this one: `next` of the page before.
        after: Option<LetterAt>,
        /// At most so many; a page may hold fewer.
        limit: u32,
    },
    /// Put a dead letter back into its queue.
    Redrive {
        /// `app/function`.
        function: String,
        /// Which event.
        event: EventId,
    },
    /// Forget a dead letter.
    Discard {
        /// `app/function`.
        function: String,
        /// Which event.
        event: EventId,
    },
    /// A page of a function's state, in the order of lane and key.
    StateList {
        /// `app/function`.
        function: String,
        /// Only of this lane; `None` for all of it.
        device: Option<String>,
        /// Keys that begin so.
        prefix: String,
        /// Only what is behind this one: `next` of the page before.
        after: Option<StateAt>,
        /// At most so many rows; a page may hold fewer, even none.
        limit: u32,
    },
    /// One value of a function's state; a long one in pieces.
    StateGet {
        /// `app/function`.
        function: String,
        /// The lane, as [`StateAt`] names it.
        device: Option<String>,
        /// The key.
        key: String,
        /// First byte of the piece.
        offset: u64,
    },
    /// Delete a function's state.
    StateReset {
        /// `app/function`.
        function: String,
        /// Only of this lane; `None` for all of it.
        device: Option<String>,
    },
    /// The payload of a dead letter; a long one in pieces.
    LetterPayload {
        /// Which.
        letter: LetterAt,
        /// First byte of the piece.
        offset: u64,
    },
}

/// A place in a function's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateAt {
    /// The lane: a device, or the key by which the function is ordered, empty where events have
    /// none; `None` for state of the whole function.
    pub device: Option<String>,
    /// The key.
    pub key: String,
}

/// A place among the dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterAt {
    /// `app/function`.
    pub function: String,
    /// Which event.
    pub event: EventId,
}

impl Request {
    fn check(&self) -> Result<(), WireError> {
        let label = |what, text: &str| WireError::at_most(what, text.len(), LABEL_BYTES_MAX);
        let device =
            |device: &Option<String>| label("device", device.as_deref().unwrap_or_default());
        let key = |text: &str| WireError::at_most("key", text.len(), TEXT_BYTES_MAX);
        match self {
            Self::Status | Self::Logs { .. } => Ok(()),
            Self::DeadLetters { after, .. } => {
                after.iter().try_for_each(|after| label("function name", &after.function))
            }
            Self::Redrive { function, .. }
            | Self::Discard { function, .. }
            | Self::LetterPayload { letter: LetterAt { function, .. }, .. } => {
                label("function name", function)
            }
            Self::StateList { function, device: of, prefix, after, .. } => {
                label("function name", function)?;
                device(of)?;
                key(prefix)?;
                after.iter().try_for_each(|after| {
                    device(&after.device)?;
                    key(&after.key)
                })
            }
            Self::StateGet { function, device: of, key: name, .. } => {
                label("function name", function)?;
                device(of)?;
                key(name)
            }
            Self::StateReset { function, device: of } => {
                label("function name", function)?;
                device(of)
            }
        }
    }
}

impl Message for Down {
    fn check(&self) -> Result<(), WireError> {
        match self {
            Self::Welcome(welcome) => {
                WireError::at_most("streams", welcome.stored.len(), STREAMS_MAX)
            }
            Self::Receipt(receipt) => {
                WireError::at_most("stream number", usize::from(receipt.stream), STREAMS_MAX - 1)
            }
            Self::Desired(desired) => {
                WireError::at_most("apps", desired.apps.len(), APPS_MAX)?;
                desired.apps.iter().try_for_each(|app| {
                    WireError::at_most("app name", app.app.len(), NAME_BYTES_MAX)
                })
            }
            Self::Chunk(chunk) => {
                WireError::at_most("chunk", chunk.bytes.len(), CHUNK_BYTES_MAX as usize)
            }
            Self::ChunkRefused(refused) => {
                WireError::at_most("reason", refused.reason.len(), TEXT_BYTES_MAX)
            }
            Self::Command(command) => command.request.check(),
            Self::RenewCertificate => Ok(()),
            Self::Certificate(der) => {
                WireError::at_most("certificate", der.len(), CERTIFICATE_BYTES_MAX)
            }
            Self::Conflicts(conflicts) => {
                let stream = usize::from(conflicts.stream);
                WireError::at_most("stream number", stream, STREAMS_MAX - 1)?;
                let positions = conflicts.positions.len();
                WireError::at_most("positions", positions, RECORDS_PER_MESSAGE_MAX)
            }
        }
    }
}
