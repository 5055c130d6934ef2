//! Where a device ends that cannot go on: the cause goes to the console, then the simulated device
//! exits. A real one resets, and so does an image that a boot loader starts (feature `slot`).

#![allow(unsafe_code, reason = "a handler of a hard fault is unsafe in cortex-m-rt")]

use core::fmt::Write;
use core::panic::PanicInfo;

use cortex_m_rt::{ExceptionFrame, exception};

use crate::console::Console;
use crate::mmio::fault_status;

/// Exit code of a simulated device that panicked.
pub const EXIT_PANIC: u32 = 101;
/// Calls told after a panic, at most.
#[cfg(not(feature = "panic-messages"))]
const CALLS_TOLD_MAX: usize = 12;
/// Exit code of a simulated device that faulted.
pub const EXIT_HARD_FAULT: u32 = 102;

/// With message and place: they keep the texts of all panics and the paths of all sources in the image.
#[cfg(feature = "panic-messages")]
fn tell(info: &PanicInfo<'_>) {
    let _ = writeln!(Console, "panic: {info}");
}

/// The addresses of the calls that led here, the innermost first: `addr2line` finds function and line in the ELF file.
#[cfg(not(feature = "panic-messages"))]
fn tell(_: &PanicInfo<'_>) {
    let _ = Console.write_str("panic: addr2line -fipe FIRMWARE");
    for call in crate::stack::calls().take(CALLS_TOLD_MAX) {
        let _ = write!(Console, " {call:#x}");
    }
    let _ = Console.write_str("\n");
}

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    tell(info);
    end(EXIT_PANIC)
}

// SAFETY: nothing of what was interrupted is touched, and it is never gone back to.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    let status = fault_status();
    let (pc, lr) = (frame.pc(), frame.lr());
    let _ =
        writeln!(Console, "hard fault: {} at pc {pc:#010x}, called from {lr:#010x}", status.why());
    let _ = writeln!(
        Console,
        "cfsr {:#010x} hfsr {:#010x} mmfar {:#010x} bfar {:#010x}",
        status.configurable, status.hard, status.memory_address, status.bus_address
    );
    let _ = writeln!(
        Console,
        "r0 {:#010x} r1 {:#010x} r2 {:#010x} r3 {:#010x} r12 {:#010x} xpsr {:#010x}",
        frame.r0(),
        frame.r1(),
        frame.r2(),
        frame.r3(),
        frame.r12(),
        frame.xpsr()
    );
    end(EXIT_HARD_FAULT)
}

// SAFETY: as above. The watchdog is the one source of it, by its first expiry, which is not cleared:
// the second one resets.
#[exception]
unsafe fn NonMaskableInt() -> ! {
    let _ = writeln!(Console, "watchdog: not fed in time, the machine resets");
    loop {
        cortex_m::asm::nop();
    }
}

impl crate::mmio::FaultStatus {
    /// The cause in words (Armv7-M ARM B3.2.15).
    fn why(&self) -> &'static str {
        const CAUSES: [(u32, &str); 12] = [
            (25, "division by zero"),
            (24, "unaligned access"),
            (19, "no coprocessor"),
            (18, "invalid exception return"),
            (17, "invalid state (a jump to an even address?)"),
            (16, "undefined instruction"),
            (12, "bus fault while stacking: stack overflow?"),
            (10, "imprecise bus fault"),
            (9, "bus fault on data"),
            (8, "bus fault on an instruction"),
            (1, "no permission for data"),
            (0, "no permission for an instruction"),
        ];
        let cause = CAUSES.iter().find(|(bit, _)| self.configurable >> bit & 1 != 0);
        match cause {
            Some((_, words)) => words,
            None if self.hard >> 31 != 0 => "a breakpoint without a debugger",
            None => "unknown cause",
        }
    }
}

#[cfg(all(feature = "sim", not(feature = "slot")))]
fn end(code: u32) -> ! {
    crate::sim::exit(code)
}

#[cfg(any(not(feature = "sim"), feature = "slot"))]
fn end(_: u32) -> ! {
    crate::reset()
}
