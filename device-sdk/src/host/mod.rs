//! Devices as processes of a computer: sockets, and a timer for thousands of devices in one thread.

mod clock;
mod tcp;
mod timer;

pub use clock::ClockError;
pub use tcp::TcpDial;
