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
        let written = self.uart.write(bytes).await;
        if written.is_err() {
            // Nobody flushes after an error.
            let _ = self.driver_enable.set_low();
        }
        written
    }

    /// The bus is free when it returns, also after an error.
    async fn flush(&mut self) -> Result<(), W::Error> {
        let flushed = self.uart.flush().await;
        Timer::after(self.byte_time).await;
        let _ = self.driver_enable.set_low();
        flushed
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use embassy_futures::{block_on, join::join, yield_now};
    use embassy_time::{Instant, MockDriver};
    use embedded_hal::digital;
    use embedded_io_async::ErrorKind;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Event {
        On,
        Off,
        Byte(u8),
        Flushed,
    }

    /// UART and pin in one, which note what happens and when.
    #[derive(Clone, Default)]
    struct Bench {
        events: Rc<RefCell<Vec<(Event, Instant)>>>,
        /// How many writes go well.
        writes_max: Option<usize>,
        is_flush_broken: bool,
    }

    impl Bench {
        fn note(&self, event: Event) {
            self.events.borrow_mut().push((event, Instant::now()));
        }

        fn events(&self) -> Vec<Event> {
            self.events.borrow().iter().map(|(event, _)| *event).collect()
        }
    }

    impl digital::ErrorType for Bench {
        type Error = core::convert::Infallible;
    }

    impl OutputPin for Bench {
        fn set_low(&mut self) -> Result<(), Self::Error> {
            self.note(Event::Off);
            Ok(())
        }

        fn set_high(&mut self) -> Result<(), Self::Error> {
            self.note(Event::On);
            Ok(())
        }
    }

    impl ErrorType for Bench {
        type Error = ErrorKind;
    }

    impl Write for Bench {
        async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
            let writes = self.events().iter().filter(|it| matches!(it, Event::Byte(_))).count();
            if self.writes_max.is_some_and(|most| writes >= most) {
                return Err(ErrorKind::Other);
            }
            self.note(Event::Byte(bytes[0]));
            Ok(1)
        }

        async fn flush(&mut self) -> Result<(), ErrorKind> {
            self.note(Event::Flushed);
            if self.is_flush_broken { Err(ErrorKind::Other) } else { Ok(()) }
        }
    }

    fn speak(bench: &Bench) -> Result<(), ErrorKind> {
        let mut rs485 = Rs485::new(bench.clone(), bench.clone(), 9_600);
        let speak = async {
            rs485.write_all(&[1, 2]).await?;
            rs485.flush().await
        };
        let pass = async {
            for _ in 0..100 {
                MockDriver::get().advance(Duration::from_micros(100));
                yield_now().await;
            }
        };
        block_on(join(speak, pass)).0
    }

    #[test]
    fn the_driver_is_on_while_bytes_leave_and_a_byte_longer() {
        use Event::{Byte, Flushed, Off, On};
        let bench = Bench::default();
        speak(&bench).unwrap();
        assert_eq!(bench.events(), [Off, On, Byte(1), On, Byte(2), Flushed, Off]);
        let events = bench.events.borrow();
        let [.., (Flushed, flushed), (Off, off)] = events[..] else { panic!("{events:?}") };
        // Ten bits at 9,600 baud.
        assert!(off - flushed >= Duration::from_micros(1_041), "{:?}", off - flushed);
    }

    #[test]
    fn a_uart_that_fails_does_not_keep_the_bus() {
        use Event::{Byte, Flushed, Off, On};
        let bench = Bench { is_flush_broken: true, ..Bench::default() };
        assert_eq!(speak(&bench), Err(ErrorKind::Other));
        assert_eq!(bench.events(), [Off, On, Byte(1), On, Byte(2), Flushed, Off]);
        // Nobody flushes after a write that failed.
        let bench = Bench { writes_max: Some(1), ..Bench::default() };
        assert_eq!(speak(&bench), Err(ErrorKind::Other));
        assert_eq!(bench.events(), [Off, On, Byte(1), On, Off]);
    }
}
