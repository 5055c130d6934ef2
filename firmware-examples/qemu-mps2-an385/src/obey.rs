//! What the device does on commands and desired documents.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

use board_mps2::{log, sim, stack};
use device_sdk::protocol::system::{Command, Status};
use device_sdk::protocol::{Error, Message, SchemaId};
use device_sdk::{App, Device, Reply, State};
use embassy_futures::select::select;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Ticker, Timer};
use heapless::String;
use sensor_messages::Period;

/// Time for the answer to leave before the device ends.
const ANSWER_MS: u64 = 500;

static PERIOD_MS: AtomicU32 = AtomicU32::new(1000);
static PERIOD_CHANGED: Signal<CriticalSectionRawMutex, ()> = Signal::new();
static END: Signal<CriticalSectionRawMutex, End> = Signal::new();

/// How the device is to end.
#[derive(Clone, Copy, Debug)]
enum End {
    Exit(u8),
    Reset,
}

/// Milliseconds from reading to reading.
pub(crate) fn period_ms() -> u32 {
    PERIOD_MS.load(Ordering::Relaxed)
}

/// Sets them.
pub(crate) fn set_period_ms(period_ms: u32) {
    PERIOD_MS.store(period_ms, Ordering::Relaxed);
    PERIOD_CHANGED.signal(());
}

/// Waits for the next tick, or until the period is set.
pub(crate) async fn tick(ticker: &mut Ticker) {
    select(ticker.next(), PERIOD_CHANGED.wait()).await;
}

/// Ends the device when it was told to, after its answer.
#[embassy_executor::task]
pub(crate) async fn end() {
    let end = END.wait().await;
    Timer::after_millis(ANSWER_MS).await;
    log!("stack high water {} bytes", stack::high_water_bytes());
    match end {
        End::Exit(code) => sim::exit(code.into()),
        End::Reset => board_mps2::reset(),
    }
}

/// Obeys `rate` (a [`Period`], or its number), `stack`, `reset`, `exit` (one byte, the code) and, where the queue is in flash,
/// `format-queue`.
pub(crate) struct Obey(
    #[cfg_attr(not(feature = "full"), expect(dead_code, reason = "for the queue in flash"))]
    pub(crate) &'static Device<'static>,
);

impl App for Obey {
    fn command(&mut self, command: &Command<'_>, reply: &mut Reply) -> Status {
        log!("command {}", command.name);
        match (command.name, command.body) {
            ("rate", body) => set_period(command.schema, body, reply),
            ("stack", _) => {
                let bytes = u32::try_from(stack::high_water_bytes()).unwrap_or(u32::MAX);
                write(reply, format_args!("{bytes} bytes"));
                Status::Done
            }
            ("exit", [code]) => {
                END.signal(End::Exit(*code));
                Status::Done
            }
            ("exit", _) => {
                reply.text("exit takes one byte, the code: --hex 2a");
                Status::BadArgument
            }
            ("reset", _) => {
                END.signal(End::Reset);
                Status::Done
            }
            #[cfg(feature = "full")]
            ("format-queue", _) if self.0.format_queue() => Status::Done,
            #[cfg(feature = "full")]
            ("format-queue", _) => Status::Failed,
            _ => Status::Unknown,
        }
    }

    #[cfg(feature = "full")]
    fn desired(&mut self, desired: &device_sdk::protocol::system::Shadow<'_>) -> bool {
        let period = period(desired.schema, desired.body);
        match period {
            Ok(period) => set_period_ms(period.milliseconds),
            Err(error) => log!("a desired document that is none: {error}"),
        }
        period.is_ok()
    }

    #[cfg(feature = "full")]
    fn reported(&mut self, document: &mut device_sdk::app::Document<'_>) {
        let period = Period { milliseconds: period_ms() };
        document.set(&period).expect("invariant: a number fits");
    }

    fn state(&mut self, state: State) {
        log!("{state}");
    }
}

fn set_period(schema: SchemaId, body: &[u8], reply: &mut Reply) -> Status {
    match period(schema, body) {
        Ok(period) => {
            set_period_ms(period.milliseconds);
            Status::Done
        }
        Err(error) => {
            write(reply, format_args!("rate takes milliseconds from 1 on: {error}"));
            Status::BadArgument
        }
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
    let _ = line.write_fmt(text);
    reply.text(&line);
}
