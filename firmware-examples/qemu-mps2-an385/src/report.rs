//! A conversation with the host in lines of text. The device says `reading seq=0 milli_c=23750`,
//! the host may say `exit CODE`.

use core::fmt::Write;

use board_mps2::{log, sim, stack};
use embassy_futures::select::{Either, select};
use embassy_time::{Duration, Ticker};
use embedded_hal::i2c::I2c;
use embedded_io_async::Read;
use heapless::String;

use crate::tmp105::Tmp105;

const LINE_BYTES_MAX: usize = 64;

/// A conversation is over.
#[derive(Debug)]
pub(crate) enum End<E> {
    /// The host has hung up.
    Closed,
    /// The connection is lost.
    Lost(E),
}

/// Reports readings and obeys, until the connection ends.
pub(crate) async fn run<T, E, I>(
    connection: &mut T,
    sensor: &mut Tmp105<I>,
    period: Duration,
) -> End<E>
where
    T: Read<Error = E> + embedded_io_async::Write<Error = E>,
    I: I2c,
{
    let mut ticker = Ticker::every(period);
    let mut line = Line::default();
    let mut buffer = [0; LINE_BYTES_MAX];
    for seq in 0_u32.. {
        if let Err(error) = report(connection, sensor, seq).await {
            return End::Lost(error);
        }
        while let Either::First(read) = select(connection.read(&mut buffer), ticker.next()).await {
            match read {
                Ok(0) => return End::Closed,
                Ok(bytes) => line.take(&buffer[..bytes]),
                Err(error) => return End::Lost(error),
            }
        }
    }
    End::Closed
}

async fn report<T, I>(connection: &mut T, sensor: &mut Tmp105<I>, seq: u32) -> Result<(), T::Error>
where
    T: embedded_io_async::Write,
    I: I2c,
{
    let mut text = String::<LINE_BYTES_MAX>::new();
    let written = match sensor.read_milli_c() {
        Ok(milli_c) => writeln!(text, "reading seq={seq} milli_c={milli_c}"),
        Err(error) => {
            log!("the sensor does not answer: {error:?}");
            writeln!(text, "fault seq={seq}")
        }
    };
    written.expect("invariant: a line has room for two numbers");
    connection.write_all(text.as_bytes()).await?;
    connection.flush().await
}

/// What the host has said of a line so far. A longer one than fits is not obeyed.
#[derive(Default)]
struct Line {
    text: String<LINE_BYTES_MAX>,
    too_long: bool,
}

impl Line {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.obey();
                *self = Self::default();
            } else if self.text.push(char::from(*byte)).is_err() {
                self.too_long = true;
            }
        }
    }

    fn obey(&self) {
        let code = self.text.trim().strip_prefix("exit ").and_then(|code| code.parse().ok());
        match code {
            Some(code) if !self.too_long => {
                log!("stack high water {} bytes", stack::high_water_bytes());
                sim::exit(code)
            }
            _ => log!("not understood: {:?}", self.text),
        }
    }
}
