//! The bounds of the control plane that are not part of the contract with gateways.

/// Messages of gateways that enter one transaction, at most.
pub(crate) const INGEST_BATCH_MESSAGES_MAX: usize = 256;
/// Messages of gateways that wait for the store, at most; the broker's ingress budget bounds
/// their bytes, because nothing is acked before it is stored.
pub(crate) const INGEST_QUEUE_MAX: usize = 4_096;
/// Gateways.
pub(crate) const GATEWAYS_MAX: u64 = 10_000;
/// Conflicting records kept for one gateway; beyond, they are only counted in the alarm.
pub(crate) const CONFLICTS_PER_GATEWAY_MAX: u64 = 10_000;
/// Steps of deployments kept for one gateway; the oldest go.
pub(crate) const STATE_HISTORY_PER_GATEWAY_MAX: u64 = 1_000;
/// The highest generation that a gateway is believed to have taken: far above every number that a
/// clock makes, and far enough below 2^63 to go on from there.
pub(crate) const CLAIMED_GENERATION_MAX: u64 = 1 << 62;
/// How long it is not told again that somebody shows a void certificate.
pub(crate) const VOID_CERTIFICATE_TOLD_MS: u64 = 3_600_000;
/// Process runs remembered for one gateway, to see one come back.
pub(crate) const EPOCHS_PER_GATEWAY_MAX: usize = 8;

/// Gateways whose certificates are being signed at once.
pub(crate) const ENROLMENTS_AT_ONCE_MAX: usize = 4;
/// How long an enrolment token lives.
pub(crate) const TOKEN_LIFE_MS: u64 = 24 * 3_600_000;
/// How long a repeated enrolment request gets the same answer.
pub(crate) const ENROLL_REPLAY_MS: u64 = 10 * 60_000;
/// A connection that was heard of so recently is alive: who takes its place is a second gateway.
pub(crate) const ALIVE_MS: u64 = 3_000;

/// Rows of one page of the API, unless asked otherwise.
pub(crate) const PAGE_ROWS_DEFAULT: u32 = 100;
/// Rows of one page of the API.
pub(crate) const PAGE_ROWS_MAX: u32 = 1_000;
/// Payload bytes of one page of the API: a page ends early rather than grow over it.
pub(crate) const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Body of an API request that is not a bundle.
pub(crate) const BODY_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a body over its bound that are read and thrown away before it is refused.
pub(crate) const BODY_DRAINED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bundles being uploaded at once: each is held in memory.
pub(crate) const UPLOADS_MAX: usize = 2;
/// Gateways that one deployment may name.
pub(crate) const TARGETS_MAX: usize = 1_000;

/// Connections to the HTTP listener at once.
pub(crate) const HTTP_CONNECTIONS_MAX: usize = 512;
/// Time for a TLS handshake.
pub(crate) const HANDSHAKE_MS_MAX: u64 = 10_000;
/// Time a gateway has to answer a command.
pub(crate) const COMMAND_MS_DEFAULT: u64 = 10_000;
/// Longest such time an operator may ask for.
pub(crate) const COMMAND_MS_MAX: u64 = 60_000;
/// Commands waiting for an answer at once.
pub(crate) const COMMANDS_MAX: usize = 256;
/// Log messages buffered for one follower; a slow one is told what it missed.
pub(crate) const LOG_BUFFER_MAX: usize = 256;
/// Followers of logs at once.
pub(crate) const LOG_FOLLOWERS_MAX: usize = 64;
/// How long one request for logs holds; it is renewed while somebody follows.
pub(crate) const LOG_LEASE_S: u32 = 30;

/// Sessions of the web page.
pub(crate) const WEB_SESSIONS_MAX: usize = 256;
/// How long one lasts.
pub(crate) const WEB_SESSION_MS: u64 = 12 * 3_600_000;
/// Time for connections to end when the server stops.
pub(crate) const SHUTDOWN_MS_MAX: u64 = 5_000;
