//! What a device is told by its firmware: who it is, how it logs in, how much memory it gives.

use device_protocol::DeviceName;
use device_protocol::limits::TEXT_MAX;

use crate::backoff::BackoffConfig;
#[cfg(feature = "time")]
use crate::clock::ClockConfig;
use crate::limits::RECORD_MIN;

/// User and password, or token, for a gateway that does not know the device by its certificate.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// Name of the user; for a gateway's `[[device]]` with a password, the name of the device.
    pub user: &'a str,
    /// Password or token.
    pub password: &'a [u8],
}

impl core::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What the gateway publishes for the device when it has lost it (QoS 1).
#[derive(Clone, Copy, Debug)]
pub struct Will<'a> {
    /// Where, up to 128 bytes.
    pub topic: &'a str,
    /// What.
    pub payload: &'a [u8],
    /// Whether it is kept for those who subscribe later.
    pub is_retained: bool,
}

/// See [`Config::new`] for the values that a field has until it is set.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    /// Name of the device; also its MQTT client id.
    pub name: DeviceName,
    /// How it logs in; none: by certificate, or as nobody.
    pub login: Option<Login<'a>>,
    /// Last will.
    pub will: Option<Will<'a>>,
    /// Longest silence on the connection, in seconds; 0: no bound. Half of it, at most 5 s, is the time for an answer.
    pub keep_alive_s: u16,
    /// How long the gateway keeps the session of a device that is away, in seconds.
    pub session_expiry_s: u32,
    /// Longest time for each of: a connection, the MQTT handshake, writing a message; in milliseconds.
    pub answer_timeout_ms: u32,
    /// Waits between attempts to connect.
    pub backoff: BackoffConfig,
    /// When to ask for the time.
    #[cfg(feature = "time")]
    pub clock: ClockConfig,
    /// How often the client reports its own [`crate::Figures`] as metrics, in milliseconds; 0: never.
    #[cfg(feature = "logs")]
    pub metrics_period_ms: u32,
    /// How wrong its clock is, for simulations.
    #[cfg(feature = "wrong-clock")]
    pub clock_error: crate::ClockError,
}

impl Config<'_> {
    /// No login, no will; keep-alive 20 s, session 24 h, answers within 10 s, metrics every 60 s.
    #[must_use]
    pub fn new(name: DeviceName) -> Self {
        Self {
            name,
            login: None,
            will: None,
            keep_alive_s: 20,
            session_expiry_s: 24 * 3_600,
            answer_timeout_ms: 10_000,
            backoff: BackoffConfig::default(),
            #[cfg(feature = "time")]
            clock: ClockConfig::default(),
            #[cfg(feature = "logs")]
            metrics_period_ms: 60_000,
            #[cfg(feature = "wrong-clock")]
            clock_error: crate::ClockError::default(),
        }
    }
}

/// Memory of a device, all of it but the queue's.
///
/// - `RECORD`: longest record (topic and envelope) and longest system message, at least 256; five of it are taken, three
///   for records that are published and not in the queue yet. A multiple of the flash's word. With the feature `update` a
///   sixth takes chunks of images, so it is their length as well, at most 512.
/// - `RX`: longest MQTT packet from the gateway; a longer one ends the connection, so the gateway is told.
/// - `TX`: MQTT packets in flight, at most 8 of them, and the CONNECT packet besides (100 bytes, login and will).
/// - `NOTES`: log lines and metrics that wait (feature `logs`).
pub struct Memory<
    const RECORD: usize = 256,
    const RX: usize = 1024,
    const TX: usize = 2048,
    const NOTES: usize = 512,
> {
    pub(crate) inbox: [[u8; RECORD]; 3],
    pub(crate) staging: [u8; RECORD],
    pub(crate) scratch: [u8; RECORD],
    pub(crate) rx: [u8; RX],
    pub(crate) tx: [u8; TX],
    pub(crate) notes: [u8; NOTES],
    #[cfg(feature = "update")]
    pub(crate) chunk: [u8; RECORD],
}

impl<const RECORD: usize, const RX: usize, const TX: usize, const NOTES: usize>
    Memory<RECORD, RX, TX, NOTES>
{
    const SOUND: () = assert!(
        RECORD >= RECORD_MIN && RECORD >= TEXT_MAX + 56 && RX >= 128 && TX >= RECORD_MIN,
        "RECORD takes at least 256 bytes, RX 128, TX 256"
    );

    /// Zeros, fit for a static.
    #[must_use]
    pub const fn new() -> Self {
        let () = Self::SOUND;
        Self {
            inbox: [[0; RECORD]; 3],
            staging: [0; RECORD],
            scratch: [0; RECORD],
            rx: [0; RX],
            tx: [0; TX],
            notes: [0; NOTES],
            #[cfg(feature = "update")]
            chunk: [0; RECORD],
        }
    }
}

impl<const RECORD: usize, const RX: usize, const TX: usize, const NOTES: usize> Default
    for Memory<RECORD, RX, TX, NOTES>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<const RECORD: usize, const RX: usize, const TX: usize, const NOTES: usize> core::fmt::Debug
    for Memory<RECORD, RX, TX, NOTES>
{
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}
