//! What the temperature sensors of the examples say and are told: one definition for firmware and functions.
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

/// How often to measure: the argument of the command `rate`, and the document of the shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Period {
    /// From reading to reading, at least 1.
    pub milliseconds: u32,
}
message!(Period, "period", 0x2be6_a315_18f8_b6f4);

/// Where readings are published.
pub const READINGS: Topic<Reading> = Topic::new("sensors/{device}");
