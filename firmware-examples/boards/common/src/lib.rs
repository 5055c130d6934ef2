//! What Holm's example firmware for real boards shares. A board adds its clocks, pins, network and flash.
//!
//! # Invariants
//! - No heap, no `unsafe`, no register: what is here runs on any of the boards, and its decisions run in tests on a computer.
//! - What a device is (provisioning, settings) stands in flash pages of its own; firmware holds no secret.
//! - A device that cannot start says why, and what to do, for as long as it is on.

#![cfg_attr(not(test), no_std)]
#![cfg_attr(not(test), forbid(unsafe_code))]

#[cfg(feature = "tcp")]
pub mod dial;
pub mod guard;
pub mod heart;
pub mod identity;
pub mod obey;
#[cfg(feature = "serial")]
pub mod rs485;
pub mod sense;
pub mod settings;
pub mod slots;

#[cfg(test)]
mod test_logger;

/// Of a device on a network; room for three records of 256 bytes, packets of 512 and a kilobyte in flight.
pub type Memory = device_sdk::Memory<256, 512, 1024, 512>;
/// Of a device on a serial line: MQTT has no part in it, its buffers are the smallest.
pub type SerialMemory = device_sdk::Memory<256, 128, 256, 512>;
/// Longest record of the queue.
pub const RECORD_BYTES: usize = 256;
/// For a connection with its handshakes, on a slow core.
pub const ANSWER_MS_MAX: u32 = 30_000;

/// Says `problem` every ten seconds, for ever: whoever attaches a probe sees it.
pub async fn complain(problem: &dyn core::fmt::Display) -> ! {
    loop {
        defmt::error!("{}", defmt::Display2Format(problem));
        embassy_time::Timer::after_secs(10).await;
    }
}
