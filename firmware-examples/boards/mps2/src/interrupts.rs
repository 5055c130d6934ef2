//! The vector table of the machine's interrupts, and their switches.

#![allow(
    unsafe_code,
    reason = "the table is found by its section; unmasking is unsafe in cortex-m"
)]

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::{NVIC, SCB};

use crate::{ethernet, time};

/// An interrupt that this board handles. UARTs have one for each direction.
#[derive(Clone, Copy)]
#[repr(u16)]
pub(crate) enum Interrupt {
    #[cfg(feature = "uart")]
    Uart0Receive = 0,
    #[cfg(feature = "uart")]
    Uart0Transmit = 1,
    #[cfg(feature = "uart")]
    Uart1Receive = 2,
    #[cfg(feature = "uart")]
    Uart1Transmit = 3,
    Timer0 = 8,
    Timer1 = 9,
    Ethernet = 13,
}

// SAFETY: the numbers are those of the table below, and fixed.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

type Handler = extern "C" fn();

// SAFETY: cortex-m-rt puts this section behind the system exceptions and wants this name; an entry
// is the address of a handler, in the order of interrupt numbers.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [Handler; 32] = {
    let mut table = [unexpected as Handler; 32];
    #[cfg(feature = "uart")]
    {
        table[Interrupt::Uart0Receive as usize] = crate::uart::on_uart0;
        table[Interrupt::Uart0Transmit as usize] = crate::uart::on_uart0;
        table[Interrupt::Uart1Receive as usize] = crate::uart::on_uart1;
        table[Interrupt::Uart1Transmit as usize] = crate::uart::on_uart1;
    }
    table[Interrupt::Timer0 as usize] = time::on_wrap;
    table[Interrupt::Timer1 as usize] = time::on_alarm;
    table[Interrupt::Ethernet as usize] = ethernet::on_interrupt;
    table
};

extern "C" fn unexpected() {
    panic!("an interrupt without a handler: {:?}", SCB::vect_active());
}

/// Lets an interrupt through.
pub(crate) fn unmask(interrupt: Interrupt) {
    // SAFETY: critical sections of this board mask all interrupts, not single ones, so that none is
    // broken by this.
    unsafe { NVIC::unmask(interrupt) }
}
