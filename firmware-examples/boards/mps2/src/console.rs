//! The console: lines on UART 0, written at once and blocking, so that they are out when a device
//! dies. A reader that does not read cannot stop the device: what is not taken in time is dropped.

use core::fmt::{self, Write};

use embassy_time::Instant;

use crate::mmio::{CLOCK_MHZ, UART0};

// Registers of a CMSDK UART.
const DATA: usize = 0x0;
const STATE: usize = 0x4;
const CONTROL: usize = 0x8;
const BAUD_DIVIDER: usize = 0x10;
const TRANSMIT_FULL: u32 = 1;
const TRANSMIT: u32 = 1;

const BAUD: u32 = 115_200;

/// Looks at a full transmitter before a byte is dropped: some 10 ms, many times the time of a byte.
const LOOKS_MAX: u32 = 100_000;

/// The console, for [`core::fmt::Write`].
#[derive(Clone, Copy, Debug)]
pub struct Console;

pub(crate) fn start() {
    UART0.write(BAUD_DIVIDER, CLOCK_MHZ * 1_000_000 / BAUD);
    UART0.write(CONTROL, TRANSMIT);
}

impl Write for Console {
    /// Fails if the transmitter does not take a byte; what is left of `text` is dropped.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let free = (0..LOOKS_MAX).any(|_| UART0.read(STATE) & TRANSMIT_FULL == 0);
            if !free {
                return Err(fmt::Error);
            }
            UART0.write(DATA, u32::from(byte));
        }
        Ok(())
    }
}

/// Writes a line with the time since the start; [`log!`](crate::log) calls it.
pub fn write_line(text: fmt::Arguments<'_>) {
    let us = Instant::now().as_micros();
    let (seconds, micros) = (us / 1_000_000, us % 1_000_000);
    // A console that nobody reads is no reason to stop.
    let _ = writeln!(Console, "[{seconds:>5}.{micros:06}] {text}");
}

/// Writes a line to the console, as `println!` would, with the time since the start.
#[macro_export]
macro_rules! log {
    ($($arguments:tt)*) => {
        $crate::write_line(core::format_args!($($arguments)*))
    };
}
