//! UARTs for serial links: `embedded-io-async` over rings that interrupts fill and empty.
//!
//! What arrives while the ring is full is dropped and counted, as a receiver without flow control
//! must; the protocol above finds out by its checksum and sends again.

use core::cell::RefCell;
use core::convert::Infallible;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use critical_section::Mutex;
use embassy_sync::waitqueue::WakerRegistration;
use embedded_io_async::{ErrorType, Read, Write};
use heapless::Deque;

use crate::interrupts::{Interrupt, unmask};
use crate::mmio::{self, CLOCK_MHZ, Registers};

/// Bytes that wait for the reader: 89 ms at 115,200 baud.
pub const RECEIVE_BYTES_MAX: usize = 1024;
/// Bytes that wait for the line.
pub const TRANSMIT_BYTES_MAX: usize = 256;

const BAUD: u32 = 115_200;

// Registers of a CMSDK UART.
const DATA: usize = 0x0;
const STATE: usize = 0x4;
const CONTROL: usize = 0x8;
const INTERRUPT: usize = 0xC;
const BAUD_DIVIDER: usize = 0x10;

const STATE_TRANSMIT_FULL: u32 = 1;
const STATE_RECEIVE_FULL: u32 = 1 << 1;
const STATE_RECEIVE_OVERRUN: u32 = 1 << 3;
/// Both directions, with an interrupt each.
const CONTROL_ALL: u32 = 0b1111;
const INTERRUPT_TRANSMIT: u32 = 1;
const INTERRUPT_RECEIVE: u32 = 1 << 1;

/// Bytes taken in one interrupt: a flooded line must not keep the tasks from running for ever.
const TAKEN_AT_ONCE_MAX: usize = 64;

pub(crate) static UART0: Port = Port::new(mmio::UART0);
pub(crate) static UART1: Port = Port::new(mmio::UART1);

/// What the two halves and the interrupts of a UART share.
pub(crate) struct Port(Mutex<RefCell<State>>);

struct State {
    registers: Registers,
    received: Deque<u8, RECEIVE_BYTES_MAX>,
    to_send: Deque<u8, TRANSMIT_BYTES_MAX>,
    overruns: u32,
    reader: WakerRegistration,
    writer: WakerRegistration,
}

/// A UART; both halves of it.
pub struct Uart {
    reader: UartReader,
    writer: UartWriter,
}

/// The receiving half of a UART.
pub struct UartReader(&'static Port);

/// The sending half of a UART.
pub struct UartWriter(&'static Port);

impl Uart {
    pub(crate) fn start(port: &'static Port) -> Self {
        port.with(|state| {
            state.registers.write(BAUD_DIVIDER, CLOCK_MHZ * 1_000_000 / BAUD);
            state.registers.write(CONTROL, CONTROL_ALL);
        });
        let interrupts = if core::ptr::eq(port, &UART0) {
            [Interrupt::Uart0Receive, Interrupt::Uart0Transmit]
        } else {
            [Interrupt::Uart1Receive, Interrupt::Uart1Transmit]
        };
        interrupts.into_iter().for_each(unmask);
        Self { reader: UartReader(port), writer: UartWriter(port) }
    }

    /// Its halves, for two tasks.
    #[must_use]
    pub fn split(self) -> (UartReader, UartWriter) {
        (self.reader, self.writer)
    }
}

impl UartReader {
    /// Bytes lost since the start, because they came faster than they were read.
    #[must_use]
    pub fn overruns(&self) -> u32 {
        self.0.with(|state| state.overruns)
    }
}

impl ErrorType for UartReader {
    type Error = Infallible;
}

impl Read for UartReader {
    /// Waits for at least one byte. Cancelling it loses nothing.
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        poll_fn(|context| {
            self.0.with(|state| match state.take(bytes) {
                0 if !bytes.is_empty() => wait(&mut state.reader, context.waker()),
                taken => Poll::Ready(Ok(taken)),
            })
        })
        .await
    }
}

impl ErrorType for UartWriter {
    type Error = Infallible;
}

impl Write for UartWriter {
    /// Waits until the ring takes at least one byte. Cancelling it sends nothing.
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        poll_fn(|context| {
            self.0.with(|state| match state.put(bytes) {
                0 if !bytes.is_empty() => wait(&mut state.writer, context.waker()),
                put => Poll::Ready(Ok(put)),
            })
        })
        .await
    }

    /// Waits until the last byte is handed to the line.
    async fn flush(&mut self) -> Result<(), Infallible> {
        poll_fn(|context| {
            self.0.with(|state| {
                if state.to_send.is_empty() && !state.has(STATE_TRANSMIT_FULL) {
                    return Poll::Ready(Ok(()));
                }
                wait(&mut state.writer, context.waker())
            })
        })
        .await
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl Read for Uart {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        self.reader.read(bytes).await
    }
}

impl Write for Uart {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.writer.write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        self.writer.flush().await
    }
}

fn wait<T>(registration: &mut WakerRegistration, waker: &Waker) -> Poll<T> {
    registration.register(waker);
    Poll::Pending
}

pub(crate) extern "C" fn on_uart0() {
    UART0.with(State::serve);
}

pub(crate) extern "C" fn on_uart1() {
    UART1.with(State::serve);
}

impl Port {
    const fn new(registers: Registers) -> Self {
        Self(Mutex::new(RefCell::new(State {
            registers,
            received: Deque::new(),
            to_send: Deque::new(),
            overruns: 0,
            reader: WakerRegistration::new(),
            writer: WakerRegistration::new(),
        })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        critical_section::with(|cs| act(&mut self.0.borrow_ref_mut(cs)))
    }
}

impl State {
    fn has(&self, state: u32) -> bool {
        self.registers.read(STATE) & state != 0
    }

    /// What both interrupts do.
    fn serve(&mut self) {
        // Cleared before the look, so that what comes in between rings again.
        self.registers.write(INTERRUPT, INTERRUPT_TRANSMIT | INTERRUPT_RECEIVE);
        if self.has(STATE_RECEIVE_OVERRUN) {
            self.registers.write(STATE, STATE_RECEIVE_OVERRUN);
            self.overruns = self.overruns.saturating_add(1);
        }
        for _ in 0..TAKEN_AT_ONCE_MAX {
            if !self.has(STATE_RECEIVE_FULL) {
                break;
            }
            let [byte, ..] = self.registers.read(DATA).to_le_bytes();
            if self.received.push_back(byte).is_err() {
                self.overruns = self.overruns.saturating_add(1);
            }
            self.reader.wake();
        }
        self.send_next();
        self.writer.wake();
    }

    fn take(&mut self, bytes: &mut [u8]) -> usize {
        let mut taken = 0;
        for slot in bytes {
            let Some(byte) = self.received.pop_front() else { break };
            *slot = byte;
            taken += 1;
        }
        taken
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        let put = bytes.iter().take_while(|byte| self.to_send.push_back(**byte).is_ok()).count();
        self.send_next();
        put
    }

    /// Hands the line a byte if it takes one; its interrupt asks for the next.
    fn send_next(&mut self) {
        if self.has(STATE_TRANSMIT_FULL) {
            return;
        }
        if let Some(byte) = self.to_send.pop_front() {
            self.registers.write(DATA, u32::from(byte));
        }
    }
}
