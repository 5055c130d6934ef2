//! What Holm's example firmware shares on the Arm MPS2 machines of QEMU: `mps2-an385` (Cortex-M3),
//! `mps2-an386` (M4) and `mps2-an500` (M7).
//!
//! ```ignore
//! #[cortex_m_rt::entry]
//! fn main() -> ! {
//!     board_mps2::run(|spawner, board| {
//!         spawner.spawn(app(spawner, board).expect("invariant: spawned once"));
//!     })
//! }
//! ```
//!
//! Invariants:
//! - A peripheral is a value that [`run`] hands out once, in [`Board`].
//! - No heap. Every ring and every wait on hardware has a bound.
//! - Idle means asleep: all is driven by interrupts, an idle device costs its host nothing.
//! - `unsafe` stands in [`mmio`], `psram`, `interrupts`, `executor`, `stack`, `fault`, `boot`, `label` and [`sim`]
//!   alone, each with its reason.

#![no_std]

#[cfg(feature = "boot")]
pub mod boot;
mod console;
pub mod ethernet;
mod executor;
mod fault;
pub mod flash;
pub mod i2c;
mod interrupts;
#[cfg(feature = "slot")]
pub mod label;
mod mmio;
mod psram;
pub mod regions;
#[cfg(feature = "sim")]
pub mod sim;
pub mod stack;
mod time;
#[cfg(feature = "uart")]
pub mod uart;
pub mod watchdog;

pub use console::{Console, write_line};
use embassy_executor::Spawner;
pub use fault::{EXIT_HARD_FAULT, EXIT_PANIC};

/// The machine's peripherals, each handed out once.
pub struct Board {
    /// Ethernet, not started yet.
    pub ethernet: ethernet::Port,
    /// The I2C bus that QEMU puts `-device` sensors on.
    pub i2c: i2c::I2c,
    /// Flash, by region.
    pub regions: regions::Regions,
    /// The console's UART (first `-serial`): reading from it, and writing beside the console.
    #[cfg(feature = "uart")]
    pub uart0: uart::Uart,
    /// A UART for a serial link (second `-serial`).
    #[cfg(feature = "uart")]
    pub uart1: uart::Uart,
    /// The watchdog, not started yet.
    pub watchdog: watchdog::Watchdog,
}

/// Starts console and clock, hands the peripherals to `start`, which spawns the first tasks, and
/// runs these for ever.
pub fn run(start: impl FnOnce(Spawner, Board)) -> ! {
    stack::paint();
    console::start();
    time::start();
    let board = Board {
        ethernet: ethernet::Port(()),
        i2c: i2c::I2c::start(),
        regions: regions::Regions::new(),
        #[cfg(feature = "uart")]
        uart0: uart::Uart::start(&uart::UART0),
        #[cfg(feature = "uart")]
        uart1: uart::Uart::start(&uart::UART1),
        watchdog: watchdog::Watchdog::new(),
    };
    executor::run(|spawner| start(spawner, board))
}

/// Resets the machine: RAM and peripherals begin anew, flash keeps what it holds.
pub fn reset() -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}

/// Stops for good: only a reset from outside goes on from here.
#[cfg(feature = "boot")]
pub fn halt() -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}
