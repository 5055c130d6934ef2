//! Bounds of the client that its user does not choose, in bytes unless said otherwise.

/// Messages on their way to the gateway, not acknowledged yet. What the MQTT client underneath can keep.
pub const IN_FLIGHT_MAX: usize = 8;
/// Tasks that wait on one device (to publish, for the connection, for figures, with an update) and are woken at once, beside
/// the one that runs it. Further ones look again every 20 ms.
pub const TASKS_MAX: usize = 8;
/// Commands whose ids and responses are remembered.
pub const COMMANDS_MAX: usize = 8;
/// Body of a response, as it is remembered for a repeat of the command.
pub const RESPONSE_MAX: usize = 96;
/// Commands that are told `Busy` at a time; one more is left without an answer, and its sender repeats it.
pub const BUSY_MAX: usize = 4;
/// Smallest [`crate::Memory`] for a record: every system message must fit as well.
pub const RECORD_MIN: usize = 256;
/// What topic and envelope add to the body of a record, at most.
pub const RECORD_OVERHEAD_MAX: usize =
    1 + device_protocol::limits::TOPIC_MAX + device_protocol::limits::ENVELOPE_OVERHEAD_MAX;
