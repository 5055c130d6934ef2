//! The sending half of a UART at an RS-485 transceiver: the driver is on the bus only while bytes leave.

use embassy_time::{Duration, Timer};
use embedded_hal::digital::OutputPin;
use embedded_io_async::{ErrorType, Write};

/// Bits of a byte on the line: start, eight of data, stop.
const BYTE_BITS: u64 = 10;

/// Switches the pin DE (driver enable, high: on) around the writes of `W`.
///
/// [`Write::flush`] must return only when `W` has handed its last byte to the UART's shift register. Where it returns at
/// that moment, a byte's time more is what keeps the last byte whole; so long this waits.
#[derive(Debug)]
pub struct Rs485<W, P> {
    uart: W,
    driver_enable: P,
    byte_time: Duration,
}

impl<W: Write, P: OutputPin> Rs485<W, P> {
    /// `baud` as `uart` was configured.
    pub fn new(uart: W, mut driver_enable: P, baud: u32) -> Self {
        // A pin that fails is a line that is silent, which the gateway tells.
        let _ = driver_enable.set_low();
        let byte_us = (BYTE_BITS * 1_000_000).div_ceil(u64::from(baud.max(1)));
        Self { uart, driver_enable, byte_time: Duration::from_micros(byte_us) }
    }
}

impl<W: ErrorType, P> ErrorType for Rs485<W, P> {
    type Error = W::Error;
}

impl<W: Write, P: OutputPin> Write for Rs485<W, P> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, W::Error> {
        let _ = self.driver_enable.set_high();
        self.uart.write(bytes).await
    }

    /// The bus is free when it returns, also after an error.
    async fn flush(&mut self) -> Result<(), W::Error> {
        let flushed = self.uart.flush().await;
        Timer::after(self.byte_time).await;
        let _ = self.driver_enable.set_low();
        flushed
    }
}
