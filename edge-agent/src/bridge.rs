//! Devices without IP: serial lines (`[[buses]]` of `agent.toml`) whose devices become clients of the broker.
//!
//! The protocol of the line stands in `device-sdk/protocol/SERIAL.md`. A task for each bus opens its port and speaks with
//! the devices ([`bus`]); each device has a link and an MQTT session of its own ([`member`]) over a connection within the
//! process ([`dial`]), which the bridge vouches for after it has checked the device ([`roster`]).

mod board;
mod bus;
mod call;
mod client;
mod dial;
mod holdoff;
mod member;
mod port;
mod roster;
mod rota;
mod session;

#[cfg(test)]
mod tests;

pub use board::Board;
pub(crate) use dial::{ADDRESS, Dial};

use crate::settings::Settings;

/// Starts all buses of the settings on this runtime; they go on until it ends.
pub(crate) fn start(settings: &Settings, io: &tokio::runtime::Handle) -> (Dial, Board) {
    let (dial, board) = (Dial::default(), Board::default());
    for bus in &settings.buses {
        let line = bus::Parts {
            bus: bus.clone(),
            roster: roster::Roster::new(settings, bus),
            dial: dial.clone(),
            board: board.clone(),
            payload_bytes_max: settings.limits.message_bytes_max,
        };
        io.spawn(bus::run(line));
    }
    (dial, board)
}
