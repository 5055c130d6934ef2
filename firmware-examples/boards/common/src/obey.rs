//! What the device does on commands and desired documents.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use device_sdk::app::Document;
use device_sdk::protocol::system::{Command, Shadow, Status};
use device_sdk::protocol::{Error, Message, SchemaId};
use device_sdk::{App, Device, Reply, State};
use embassy_futures::select::select;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Ticker, Timer};
use heapless::String;
use sensor_messages::Period;

/// Time for the answer to leave before the device starts anew.
const ANSWER_MS: u64 = 500;

static PERIOD_MS: AtomicU32 = AtomicU32::new(10_000);
static PERIOD_CHANGED: Signal<CriticalSectionRawMutex, ()> = Signal::new();
static RESET: Signal<CriticalSectionRawMutex, ()> = Signal::new();

/// Milliseconds from reading to reading.
pub(crate) fn period_ms() -> u32 {
    PERIOD_MS.load(Ordering::Relaxed)
}

/// Sets them.
pub fn set_period_ms(period_ms: u32) {
    PERIOD_MS.store(period_ms, Ordering::Relaxed);
    PERIOD_CHANGED.signal(());
}

/// Waits for the next tick, or until the period is set.
pub(crate) async fn tick(ticker: &mut Ticker) {
    select(ticker.next(), PERIOD_CHANGED.wait()).await;
}

/// Returns when the device was told to start anew, and its answer has had time to leave.
pub async fn reset() {
    RESET.wait().await;
    Timer::after_millis(ANSWER_MS).await;
}

/// Obeys `rate` (a [`Period`], or its number), `reset` and `format-queue`; the desired document is a [`Period`].
#[derive(Clone, Copy, Debug)]
pub struct Obey(pub &'static Device<'static>);

impl App for Obey {
    fn command(&mut self, command: &Command<'_>, reply: &mut Reply) -> Status {
        defmt::info!("command {=str}", command.name);
        match command.name {
            "rate" => match period(command.schema, command.body) {
                Ok(period) => {
                    set_period_ms(period.milliseconds);
                    Status::Done
                }
                Err(error) => {
                    write(reply, format_args!("rate takes milliseconds from 1 on: {error}"));
                    Status::BadArgument
                }
            },
            "reset" => {
                RESET.signal(());
                Status::Done
            }
            "format-queue" if self.0.format_queue() => Status::Done,
            "format-queue" => {
                reply.text("the flash is the queue's own, or is being erased already: nothing more is erased");
                Status::Failed
            }
            _ => Status::Unknown,
        }
    }

    fn desired(&mut self, desired: &Shadow<'_>) -> bool {
        let period = period(desired.schema, desired.body);
        match period {
            Ok(period) => set_period_ms(period.milliseconds),
            Err(_) => defmt::warn!("a desired document that is no period"),
        }
        period.is_ok()
    }

    fn reported(&mut self, document: &mut Document<'_>) {
        let period = Period { milliseconds: period_ms() };
        document.set(&period).expect("invariant: a number fits");
    }

    fn state(&mut self, state: State) {
        defmt::info!("{}", state);
    }
}

/// A period, typed or as the number alone.
fn period(schema: SchemaId, body: &[u8]) -> Result<Period, Error> {
    let schema = if schema == SchemaId::RAW { Period::ID } else { schema };
    let period = Period::decode(schema, body)?;
    if period.milliseconds == 0 { Err(Error::Malformed) } else { Ok(period) }
}

fn write(reply: &mut Reply, text: fmt::Arguments<'_>) {
    let mut line = String::<96>::new();
    // What does not fit is cut.
    let _ = fmt::Write::write_fmt(&mut line, text);
    reply.text(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_number_above_zero_typed_or_not() {
        let mut bytes = [0; 8];
        let length = Period { milliseconds: 200 }.encode(&mut bytes).unwrap();
        let body = &bytes[..length];
        assert_eq!(period(SchemaId::RAW, body).unwrap().milliseconds, 200);
        assert_eq!(period(Period::ID, body).unwrap().milliseconds, 200);
        assert!(period(sensor_messages::Reading::ID, body).is_err(), "another type");
        assert!(period(SchemaId::RAW, &[0]).is_err(), "zero");
        assert!(period(SchemaId::RAW, &[]).is_err(), "nothing");
    }
}
