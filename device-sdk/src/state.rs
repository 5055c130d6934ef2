//! What the client says about itself.

use core::fmt;

/// Where the connection to the gateway stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum State {
    /// It is being made.
    Connecting,
    /// It stands.
    Online {
        /// Whether the gateway still had the session.
        resumed: bool,
    },
    /// There is none.
    Offline {
        /// Why.
        trouble: Trouble,
        /// Milliseconds to the next attempt.
        retry_ms: u32,
    },
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Trouble {
    /// Nothing was tried yet.
    NotStarted,
    /// The board could not reach the gateway.
    Dial,
    /// The gateway did not answer in time.
    Timeout,
    /// The connection was closed or broke.
    Lost,
    /// The gateway sent what is not MQTT 5, or more than `RX` takes.
    Protocol,
    /// The gateway refused with this reason code of MQTT 5: 0x86 and 0x87 mean wrong name, password or certificate.
    Refused(u8),
    /// The memory for packets (`TX`) is too small for what has to be sent.
    Memory,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("Connecting"),
            Self::Online { resumed: true } => f.write_str("Online, session resumed"),
            Self::Online { resumed: false } => f.write_str("Online, new session"),
            Self::Offline { trouble, retry_ms } => {
                write!(f, "Offline, next attempt in {retry_ms} ms: {trouble}")
            }
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotStarted => "not started",
            Self::Dial => "the gateway cannot be reached",
            Self::Timeout => "no answer in time",
            Self::Lost => "the connection broke",
            Self::Protocol => "not MQTT 5, or longer than RX takes",
            Self::Refused(code) => return write!(f, "refused, reason {code}"),
            Self::Memory => "TX is too small",
        })
    }
}

/// Counts since the device started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Figures {
    /// Records in the queue now.
    pub queued: u32,
    /// Messages that were put into the queue.
    pub published: u32,
    /// Records that the gateway has acknowledged.
    pub acked: u32,
    /// Messages that the full queue dropped or refused. One that was on its way when the queue dropped it counts here until its
    /// acknowledgement comes: this figure may fall.
    pub overflowed: u32,
    /// Messages that the gateway refused, or that no connection could carry.
    pub refused: u32,
    /// Failures of the queue's memory, or messages refused because it is foreign; one that was being pushed is lost with each.
    pub queue_failures: u32,
    /// The memory of the queue belongs to another firmware or layout ([`crate::queue::QueueError::Foreign`]): all that is
    /// published is refused. See [`crate::Device::format_queue`].
    pub is_queue_foreign: bool,
    /// Connections that came to stand.
    pub connects: u32,
    /// Messages of the gateway that made no sense to this device.
    pub ignored: u32,
}
