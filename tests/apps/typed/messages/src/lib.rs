//! What the devices of the app `typed` say, and are told: defined once, for firmware and functions.
#![no_std]
#![forbid(unsafe_code)]

use device_protocol::{Schema, Topic, message};
use serde::{Deserialize, Serialize};

/// A temperature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Reading {
    /// In thousandths of a degree Celsius.
    pub milli_celsius: i32,
}
message!(Reading, "reading", 0xbcbc_55d1_5301_02e5);

/// Argument of the command `blink`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Blink {
    /// How often.
    pub times: u8,
}
message!(Blink, "blink");

/// Where readings are published.
pub const READINGS: Topic<Reading> = Topic::new("sensors/{device}");
