//! Bounds of the contract, in bytes unless said otherwise. Whoever reads or writes more refuses it.

/// Name of a device.
pub const NAME_MAX: usize = 64;
/// Topic that an envelope is published on.
pub const TOPIC_MAX: usize = 128;
/// Levels of such a topic: what stands between `/`.
pub const TOPIC_LEVELS_MAX: usize = 32;
/// Body of an envelope, of a command, of a response or of a shadow document.
pub const BODY_MAX: usize = 16 * 1024;
/// Name of a command or of a metric.
pub const WORD_MAX: usize = 32;
/// Text of a log line, and reason of a failed command or update.
pub const TEXT_MAX: usize = 200;
/// Bytes of a chunk of a firmware image.
pub const CHUNK_MAX: usize = 1024;
/// What an envelope adds to its body at most: version, name, boot, sequence, schema, time, lengths.
pub const ENVELOPE_OVERHEAD_MAX: usize = 1 + (1 + NAME_MAX) + 8 + 10 + 8 + (1 + 10) + 3;
/// Firmware image, in bytes.
pub const IMAGE_MAX: u32 = 16 * 1024 * 1024;
