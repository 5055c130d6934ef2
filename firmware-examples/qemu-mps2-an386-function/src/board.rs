//! The machine, as little of it as this needs: UART 0, timer 0, semihosting, and the paint that
//! tells how deep the stack went. Registers: Arm MPS2+ FPGA AN386; calls: Arm semihosting 2.0.
#![expect(unsafe_code, reason = "registers, semihosting traps and memory that the linker laid out")]

use core::arch::asm;
use core::fmt;

use cortex_m_rt::{ExceptionFrame, exception};

/// What unused stack holds.
const PAINT: u32 = 0xaaaa_5555;

const UART0_DATA: *mut u32 = 0x4000_4000 as *mut u32;
const UART0_CTRL: *mut u32 = 0x4000_4008 as *mut u32;
const UART0_BAUDDIV: *mut u32 = 0x4000_4010 as *mut u32;
const TIMER0_CTRL: *mut u32 = 0x4000_0000 as *mut u32;
const TIMER0_VALUE: *mut u32 = 0x4000_0004 as *mut u32;
const TIMER0_RELOAD: *mut u32 = 0x4000_0008 as *mut u32;

const FUNCTION_SLOT: *const u8 = 0x0020_0000 as *const u8;
const FUNCTION_SLOT_BYTES: usize = 1 << 20;
const GIVEN_PAGE: *const [u8; 32] = 0x003f_f000 as *const [u8; 32];

/// Stack that is painted.
const STACK_BYTES: usize = 64 << 10;
/// The timer counts at 25 MHz, and `run.sh` lets an instruction take a nanosecond.
const INSTRUCTIONS_PER_TICK: u64 = 40;
/// A hard fault: an access or an instruction that there is not.
const EXIT_FAULT: u32 = 102;

mod call {
    pub(super) const OPEN: u32 = 0x01;
    pub(super) const READ: u32 = 0x06;
    pub(super) const GET_CMDLINE: u32 = 0x15;
    pub(super) const EXIT_EXTENDED: u32 = 0x20;
}

unsafe extern "C" {
    static _stack_start: u32;
}

/// Sets up UART and timer and paints the stack below the caller.
pub(crate) fn start() {
    let top = cortex_m::register::msp::read() as usize - 256;
    // SAFETY: registers of this machine; the words below the stack pointer are in nobody's use.
    unsafe {
        UART0_BAUDDIV.write_volatile(16);
        UART0_CTRL.write_volatile(1);
        TIMER0_RELOAD.write_volatile(u32::MAX);
        TIMER0_VALUE.write_volatile(u32::MAX);
        TIMER0_CTRL.write_volatile(1);
        for at in (stack_end()..top).step_by(4) {
            (at as *mut u32).write_volatile(PAINT);
        }
    }
}

fn stack_top() -> usize {
    (&raw const _stack_start).addr()
}

fn stack_end() -> usize {
    stack_top() - STACK_BYTES
}

/// Most stack that was ever in use.
pub(crate) fn stack_peak_bytes() -> usize {
    // SAFETY: memory of the stack, read by its only thread.
    let is_painted = |at: &usize| unsafe { (*at as *const u32).read_volatile() } == PAINT;
    let deepest = (stack_end()..stack_top()).step_by(4).find(|at| !is_painted(at));
    stack_top() - deepest.unwrap_or(stack_top())
}

/// Ticks since the start, modulo 2^32.
pub(crate) fn ticks() -> u32 {
    // SAFETY: a register of this machine.
    !unsafe { TIMER0_VALUE.read_volatile() }
}

/// Ticks since `begun`.
pub(crate) fn since(begun: u32) -> u32 {
    ticks().wrapping_sub(begun)
}

/// Instructions that take this many ticks.
pub(crate) fn instructions(ticks: u64) -> u64 {
    ticks * INSTRUCTIONS_PER_TICK
}

/// The flash that holds the function's image.
pub(crate) fn function_slot() -> &'static [u8] {
    // SAFETY: flash that nobody writes, within the machine's memory and outside of `memory.x`.
    unsafe { core::slice::from_raw_parts(FUNCTION_SLOT, FUNCTION_SLOT_BYTES) }
}

/// Public key of the author whose functions this device runs: it was given it.
pub(crate) fn author() -> [u8; 32] {
    // SAFETY: as above.
    unsafe { GIVEN_PAGE.read_volatile() }
}

fn semihosting(call: u32, parameters: *const u32) -> u32 {
    let result;
    // SAFETY: the debugger, here QEMU, serves the call; the parameters are those of its description.
    unsafe { asm!("bkpt 0xab", inlateout("r0") call => result, in("r1") parameters) };
    result
}

/// What the host was told to pass, words apart by one blank.
pub(crate) fn arguments(buffer: &mut [u8]) -> &str {
    let block = [buffer.as_mut_ptr().addr() as u32, buffer.len() as u32];
    if semihosting(call::GET_CMDLINE, block.as_ptr()) != 0 {
        return "";
    }
    let end = buffer.iter().position(|byte| *byte == 0).unwrap_or(0);
    core::str::from_utf8(&buffer[..end]).unwrap_or_default()
}

/// Ends the machine.
pub(crate) fn exit(code: u32) -> ! {
    const APPLICATION_EXIT: u32 = 0x2_0026;
    semihosting(call::EXIT_EXTENDED, [APPLICATION_EXIT, code].as_ptr());
    loop {
        cortex_m::asm::wfi();
    }
}

/// A file of the host, for reading.
pub(crate) struct File(u32);

impl File {
    pub(crate) fn open(path: &str) -> Option<Self> {
        const READ_BINARY: u32 = 1;
        let mut name = [0; 256];
        name.get_mut(..path.len())?.copy_from_slice(path.as_bytes());
        let block = [name.as_ptr().addr() as u32, READ_BINARY, path.len() as u32];
        match semihosting(call::OPEN, block.as_ptr()) {
            u32::MAX => None,
            handle => Some(Self(handle)),
        }
    }

    /// Bytes read; none at the end, and none on an error.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let block = [self.0, buffer.as_mut_ptr().addr() as u32, buffer.len() as u32];
        let left = semihosting(call::READ, block.as_ptr()) as usize;
        buffer.len().saturating_sub(left)
    }
}

/// UART 0.
pub(crate) struct Uart;

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: a register of this machine, whose emulated UART is never busy for long.
            unsafe { UART0_DATA.write_volatile(byte.into()) };
        }
        Ok(())
    }
}

macro_rules! println {
    ($($part:tt)*) => {{
        use core::fmt::Write as _;
        // The UART takes everything.
        let _ = writeln!($crate::board::Uart, $($part)*);
    }};
}
pub(crate) use println;

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    println!("hard fault: {frame:?}");
    exit(EXIT_FAULT)
}
