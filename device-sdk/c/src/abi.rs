//! What C sees: types and numbers of `include/holm_device.h`. `tests/library/layout.rs` holds both equal.

#![allow(dead_code, reason = "some numbers are only compared with those of the header")]

use core::ffi::{c_char, c_void};

/// Changes with every change that a program built before would not survive.
pub(crate) const ABI_VERSION: u32 = 1;
/// `HOLM_ABI`: what a program was built for. Another length of the settings is another layout.
#[expect(clippy::cast_possible_truncation, reason = "the settings have less than 64 KiB")]
pub(crate) const ABI: u32 = ABI_VERSION << 16 | size_of::<Settings>() as u32;

/// `HOLM_DEVICE_BYTES` and `HOLM_SERIAL_BYTES`: what a device takes without its queue, rounded up.
pub(crate) const DEVICE_BYTES: usize = if size_of::<usize>() == 4 { 11_776 } else { 14_336 };
pub(crate) const SERIAL_BYTES: usize = if size_of::<usize>() == 4 { 8_960 } else { 11_264 };
/// `HOLM_TLS_BYTES`.
pub(crate) const TLS_BYTES: usize = if size_of::<usize>() == 4 { 26_624 } else { 30_720 };

/// `HOLM_ALIGNMENT`: of the memory of a device. Ciphers work on vectors of 16 bytes where the processor has them.
pub(crate) const ALIGNMENT: usize = if size_of::<usize>() == 4 { 8 } else { 16 };
/// `HOLM_RECORD_BYTES`: the longest record.
pub(crate) const RECORD_BYTES: usize = 256;
/// `HOLM_ANSWER_BYTES`: the longest answer to a command, as the client has it.
pub(crate) const ANSWER_BYTES: usize = 96;

/// What a call came to: `HOLM_OK` or one of the errors.
pub(crate) type Outcome = i32;
pub(crate) const OK: Outcome = 0;
pub(crate) const ERROR_ARGUMENT: Outcome = -1;
pub(crate) const ERROR_ABI: Outcome = -2;
pub(crate) const ERROR_MEMORY: Outcome = -3;
pub(crate) const ERROR_NAME: Outcome = -4;
pub(crate) const ERROR_CREDENTIAL: Outcome = -5;
pub(crate) const ERROR_TOPIC: Outcome = -6;
pub(crate) const ERROR_TOO_LONG: Outcome = -7;
pub(crate) const ERROR_FULL: Outcome = -8;
pub(crate) const ERROR_BUSY: Outcome = -9;
pub(crate) const ERROR_STALE: Outcome = -10;
pub(crate) const ERROR_PROVISION: Outcome = -11;
pub(crate) const ERROR_ADDRESS: Outcome = -12;

pub(crate) const OVERFLOW_DROP_OLDEST: u8 = 0;
pub(crate) const OVERFLOW_DROP_NEWEST: u8 = 1;

pub(crate) const EVENT_CONNECTED: u8 = 1;
pub(crate) const EVENT_DISCONNECTED: u8 = 2;
pub(crate) const EVENT_ACKED: u8 = 3;
pub(crate) const EVENT_REFUSED: u8 = 4;
pub(crate) const EVENT_DROPPED: u8 = 5;
pub(crate) const EVENT_TIME: u8 = 6;

pub(crate) const TROUBLE_NONE: u8 = 0;
pub(crate) const TROUBLE_DIAL: u8 = 1;
pub(crate) const TROUBLE_TIMEOUT: u8 = 2;
pub(crate) const TROUBLE_LOST: u8 = 3;
pub(crate) const TROUBLE_PROTOCOL: u8 = 4;
pub(crate) const TROUBLE_REFUSED: u8 = 5;
pub(crate) const TROUBLE_MEMORY: u8 = 6;
pub(crate) const TROUBLE_TLS: u8 = 7;

pub(crate) const TLS_FAILED: u8 = 0;
pub(crate) const TLS_REFUSED: u8 = 1;

pub(crate) const QUALITY_UPTIME: u8 = 0;
pub(crate) const QUALITY_UNSYNCED: u8 = 1;
pub(crate) const QUALITY_SYNCED: u8 = 2;

pub(crate) const STATUS_DONE: i32 = 0;
pub(crate) const STATUS_FAILED: i32 = 1;
pub(crate) const STATUS_UNKNOWN: i32 = 2;
pub(crate) const STATUS_BAD_ARGUMENT: i32 = 3;
pub(crate) const STATUS_BUSY: i32 = 4;

/// `holm_on_event`.
pub(crate) type OnEvent = unsafe extern "C" fn(context: *mut c_void, event: *const Event);
/// `holm_on_command`.
pub(crate) type OnCommand =
    unsafe extern "C" fn(context: *mut c_void, command: *const Command, reply: *mut c_void) -> i32;

/// `holm_settings`.
#[repr(C)]
pub(crate) struct Settings {
    pub(crate) abi: u32,
    pub(crate) keep_alive_s: u16,
    pub(crate) overflow: u8,
    pub(crate) address: u8,
    pub(crate) boot: u64,
    pub(crate) name: *const c_char,
    pub(crate) user: *const c_char,
    pub(crate) token: *const c_char,
    pub(crate) on_event: Option<OnEvent>,
    pub(crate) on_command: Option<OnCommand>,
    pub(crate) context: *mut c_void,
    pub(crate) baud: u32,
    pub(crate) backoff_ms_min: u32,
    pub(crate) backoff_ms_max: u32,
}

/// `holm_event`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) sequence: u64,
    pub(crate) time_ms: u64,
    pub(crate) retry_ms: u32,
    pub(crate) kind: u8,
    pub(crate) trouble: u8,
    pub(crate) reason: u8,
    pub(crate) resumed: u8,
    pub(crate) quality: u8,
}

/// `holm_command`.
#[repr(C)]
pub(crate) struct Command {
    pub(crate) id: u64,
    pub(crate) schema: u64,
    pub(crate) name: *const c_char,
    pub(crate) body: *const u8,
    pub(crate) body_length: usize,
}

/// `holm_time`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) ms: u64,
    pub(crate) quality: u8,
}

/// `holm_figures`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) queued: u32,
    pub(crate) published: u32,
    pub(crate) acked: u32,
    pub(crate) overflowed: u32,
    pub(crate) refused: u32,
    pub(crate) connects: u32,
    pub(crate) ignored: u32,
}

/// `holm_provision`: texts have room for the longest and a NUL.
#[repr(C)]
pub(crate) struct Provision {
    pub(crate) name: [c_char; 65],
    pub(crate) host: [c_char; 65],
    pub(crate) token: [c_char; 129],
    pub(crate) is_plain: u8,
    pub(crate) port: u16,
}
