//! Devices as processes of a computer: sockets, and a timer for thousands of devices in one thread.

mod tcp;
mod timer;

pub use tcp::TcpDial;
