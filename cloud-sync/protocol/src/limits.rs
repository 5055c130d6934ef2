//! Every number that bounds the contract (DESIGN: limits). Defaults and maxima of a manifest are
//! pairs `X_DEFAULT` / `X_MAX`; units are in the names.

/// Longest message in either direction, version byte included.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Longest chunk of an artifact in one message.
pub const CHUNK_BYTES_MAX: u32 = 64 * 1024;
/// Records in one message.
pub const RECORDS_PER_MESSAGE_MAX: usize = 1_000;
/// Payload of one telemetry record or dead letter; a longer dead letter is cut and says so.
pub const RECORD_PAYLOAD_BYTES_MAX: usize = 128 * 1024;
/// Highest position in a stream: what a signed 64-bit column still holds, with room to add one.
pub const POSITION_MAX: u64 = (1 << 63) - 2;
/// Streams (priority classes) of one gateway.
pub const STREAMS_MAX: usize = 8;
/// Log lines in one message.
pub const LOG_LINES_MAX: usize = 500;
/// A text for people: reasons, errors.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Device identity, series name, content type.
pub const LABEL_BYTES_MAX: usize = 256;
/// Name of a gateway, app, function or trigger.
pub const NAME_BYTES_MAX: usize = 63;
/// Reply of a gateway to a command.
pub const REPLY_BYTES_MAX: usize = 192 * 1024;
/// Apps on one gateway.
pub const APPS_MAX: usize = 64;

/// Manifest of a revision, as canonical JSON.
pub const MANIFEST_BYTES_MAX: usize = 128 * 1024;
/// One artifact.
pub const ARTIFACT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Functions in one app.
pub const FUNCTIONS_MAX: usize = 32;
/// Images for devices in one app.
pub const FIRMWARE_MAX: usize = 16;
/// Targets that one app brings agent programs for.
pub const AGENT_TARGETS_MAX: usize = 8;
/// Boards that one app brings systems for.
pub const SYSTEM_BOARDS_MAX: usize = 8;
/// Name of a board.
pub const BOARD_BYTES_MAX: usize = 32;
/// A whole system as a file.
pub const SYSTEM_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Patterns of device names of one image.
pub const FIRMWARE_PATTERNS_MAX: usize = 32;
/// Name of a device.
pub const DEVICE_NAME_BYTES_MAX: usize = device_protocol::limits::NAME_MAX;
/// Artifacts in one bundle.
pub const ARTIFACTS_MAX: usize =
    FUNCTIONS_MAX + FIRMWARE_MAX + AGENT_TARGETS_MAX + SYSTEM_BOARDS_MAX;
/// Triggers in one app.
pub const TRIGGERS_MAX: usize = 64;
/// Topic filters of one trigger or one grant.
pub const FILTERS_MAX: usize = 32;
/// Bytes of one topic filter (MQTT allows 65,535; nobody needs them).
pub const FILTER_BYTES_MAX: usize = 1_024;
/// Levels of one topic filter.
pub const FILTER_LEVELS_MAX: usize = 32;
/// Telemetry series granted to one function.
pub const SERIES_MAX: usize = 64;
/// Policies of record series in one app.
pub const SERIES_POLICIES_MAX: usize = 256;
/// Least time to live of a record.
pub const TTL_MS_MIN: u64 = 1_000;
/// Greatest time to live of a record: a year.
pub const TTL_MS_MAX: u64 = 366 * 24 * 3_600_000;
/// Keys of a function's configuration.
pub const CONFIG_KEYS_MAX: usize = 64;
/// One configuration value.
pub const CONFIG_VALUE_BYTES_MAX: usize = 4 * 1024;
/// A whole bundle file: a system, and as much again.
pub const BUNDLE_BYTES_MAX: u64 = 2 * SYSTEM_BYTES_MAX;

/// Memory of one attempt.
pub const MEMORY_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;
/// Least memory: a component with its stack does not start below it.
pub const MEMORY_BYTES_MIN: u64 = 256 * 1024;
/// Most memory of one attempt.
pub const MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Wall time of one attempt.
pub const TIME_MS_DEFAULT: u32 = 3_000;
/// Longest wall time of one attempt.
pub const TIME_MS_MAX: u32 = 300_000;
/// Publishes of one attempt.
pub const PUBLISHES_DEFAULT: u32 = 64;
/// Most publishes of one attempt.
pub const PUBLISHES_MAX: u32 = 1_024;
/// Stack that a function is linked with.
pub const STACK_BYTES_DEFAULT: u32 = 64 * 1024;
/// Least stack.
pub const STACK_BYTES_MIN: u32 = 16 * 1024;
/// Most stack.
pub const STACK_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// Bytes of all publishes of one attempt.
pub const PUBLISH_BYTES_DEFAULT: u32 = 256 * 1024;
/// Most bytes of all publishes of one attempt.
pub const PUBLISH_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Telemetry records of one attempt.
pub const RECORDS_DEFAULT: u32 = 64;
/// Most telemetry records of one attempt.
pub const RECORDS_MAX: u32 = 1_024;
/// Bytes of all telemetry records of one attempt.
pub const RECORD_BYTES_DEFAULT: u32 = 256 * 1024;
/// Most bytes of all telemetry records of one attempt.
pub const RECORD_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Keys and values written by one attempt.
pub const STATE_WRITE_BYTES_DEFAULT: u32 = 1024 * 1024;
/// Most bytes of keys and values written by one attempt.
pub const STATE_WRITE_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Log bytes of one attempt.
pub const LOG_BYTES_DEFAULT: u32 = 64 * 1024;
/// Most log bytes of one attempt.
pub const LOG_BYTES_MAX: u32 = 1024 * 1024;
/// State of one function.
pub const STATE_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;
/// Most state of one function.
pub const STATE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Attempts of one function in work at once.
pub const CONCURRENCY_DEFAULT: u16 = 1;
/// Most attempts of one function at once; the gateway also caps it at a quarter of its workers.
pub const CONCURRENCY_MAX: u16 = 64;

/// Events in a row that fault until their function is paused.
pub const PAUSE_AFTER_DEFAULT: u16 = 10;
/// Most such events.
pub const PAUSE_AFTER_MAX: u16 = 1_000;
/// The first pause.
pub const PAUSE_MS_MIN_DEFAULT: u64 = 5_000;
/// The longest pause, which doubling leads to.
pub const PAUSE_MS_MAX_DEFAULT: u64 = 300_000;
/// Shortest pause.
pub const PAUSE_MS_LEAST: u64 = 100;
/// Longest pause: a day.
pub const PAUSE_MS_MOST: u64 = 24 * 3_600_000;

/// Attempts after the first.
pub const RETRIES_DEFAULT: u8 = 2;
/// Most attempts after the first.
pub const RETRIES_MAX: u8 = 20;
/// Waits before the retries; the last one repeats.
pub const BACKOFF_MS_DEFAULT: [u64; 2] = [60_000, 120_000];
/// Longest single wait.
pub const BACKOFF_MS_MAX: u64 = 6 * 3_600_000;
/// Age at which an event is given up.
pub const AGE_MS_DEFAULT: u64 = 6 * 3_600_000;
/// Least such age.
pub const AGE_MS_MIN: u64 = 1_000;
/// Greatest such age: 14 days.
pub const AGE_MS_MAX: u64 = 14 * 24 * 3_600_000;

/// Events of one batch. A function may publish and record something for each, and for the whole,
/// within its own defaults.
pub const BATCH_SIZE_DEFAULT: u16 = 50;
/// Most events of one batch.
pub const BATCH_SIZE_MAX: u16 = 1_000;
/// Longest time for which the oldest event of a batch waits for others: 5 minutes.
pub const BATCH_WINDOW_MS_MAX: u32 = 5 * 60_000;
/// Bytes of the events of one batch.
pub const BATCH_BYTES_DEFAULT: u32 = 256 * 1024;
/// Least such bytes; a single event may be longer.
pub const BATCH_BYTES_MIN: u32 = 1_024;
/// Most bytes of the events of one batch.
pub const BATCH_BYTES_MAX: u32 = 1024 * 1024;

/// Text of an enrolment token.
pub const TOKEN_TEXT_BYTES_MAX: usize = 2_048;
/// A certificate signing request.
pub const CSR_BYTES_MAX: usize = 8 * 1024;
/// One certificate.
pub const CERTIFICATE_BYTES_MAX: usize = 8 * 1024;
/// Author keys a gateway pins.
pub const AUTHOR_KEYS_MAX: usize = 64;
