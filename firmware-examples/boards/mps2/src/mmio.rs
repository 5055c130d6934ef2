//! Registers of peripherals: where they lie, and the only code that touches them.
//!
//! Addresses: Arm application notes 385, 386 and 500 (CMSDK memory map), as QEMU models them. The
//! AN500 (Cortex-M7) keeps Ethernet and PSRAM elsewhere; the core's part number tells.

#![allow(unsafe_code, reason = "device registers are reached by address")]

use core::ptr::{read_volatile, write_volatile};

/// Bytes of one peripheral's block.
const BLOCK_BYTES: usize = 0x1000;

/// A peripheral's block of 32-bit registers.
#[derive(Clone, Copy)]
pub(crate) struct Registers(usize);

pub(crate) const TIMER0: Registers = Registers(0x4000_0000);
pub(crate) const TIMER1: Registers = Registers(0x4000_1000);
pub(crate) const DUAL_TIMER: Registers = Registers(0x4000_2000);
pub(crate) const UART0: Registers = Registers(0x4000_4000);
#[cfg(feature = "uart")]
pub(crate) const UART1: Registers = Registers(0x4000_5000);
pub(crate) const WATCHDOG: Registers = Registers(0x4000_8000);
/// The last of four buses: the one that QEMU's `-device` takes when none is named.
pub(crate) const I2C: Registers = Registers(0x4002_A000);
const SYSTEM_CONTROL: Registers = Registers(0xE000_E000);

/// Clock of timers, watchdog and UARTs.
pub(crate) const CLOCK_MHZ: u32 = 25;

/// The Ethernet controller of this machine.
pub(crate) fn ethernet() -> Registers {
    Registers(if is_cortex_m7() { 0xA000_0000 } else { 0x4020_0000 })
}

/// Where PSRAM begins on this machine.
pub(crate) fn psram_base() -> usize {
    if is_cortex_m7() { 0x6000_0000 } else { 0x2100_0000 }
}

fn is_cortex_m7() -> bool {
    const CPUID: usize = 0xD00;
    const PART_M7: u32 = 0xC27;
    (SYSTEM_CONTROL.read(CPUID) >> 4) & 0xFFF == PART_M7
}

/// Why the core faulted, for the console.
pub(crate) fn fault_status() -> FaultStatus {
    FaultStatus {
        configurable: SYSTEM_CONTROL.read(0xD28),
        hard: SYSTEM_CONTROL.read(0xD2C),
        memory_address: SYSTEM_CONTROL.read(0xD34),
        bus_address: SYSTEM_CONTROL.read(0xD38),
    }
}

/// Fault registers (Armv7-M ARM B3.2).
pub(crate) struct FaultStatus {
    /// CFSR.
    pub(crate) configurable: u32,
    /// HFSR.
    pub(crate) hard: u32,
    /// MMFAR; holds with CFSR bit 7.
    pub(crate) memory_address: u32,
    /// BFAR; holds with CFSR bit 15.
    pub(crate) bus_address: u32,
}

impl Registers {
    /// Reads the register at `offset` bytes.
    #[inline(always)]
    pub(crate) fn read(self, offset: usize) -> u32 {
        // SAFETY: only this module makes `Registers`, and each is a block of device registers that
        // holds no Rust value; `at` keeps the access aligned and inside the block.
        unsafe { read_volatile(self.at(offset)) }
    }

    /// Writes the register at `offset` bytes.
    #[inline(always)]
    pub(crate) fn write(self, offset: usize, value: u32) {
        // SAFETY: as for `read`; none of these devices accesses memory by itself (no DMA).
        unsafe { write_volatile(self.at(offset), value) }
    }

    #[inline(always)]
    fn at(self, offset: usize) -> *mut u32 {
        assert!(offset < BLOCK_BYTES && offset.is_multiple_of(4), "no register there");
        (self.0 + offset) as *mut u32
    }
}
