//! What a boot loader needs of the machine: flash, the watchdog, and the jump into an image.
//!
//! A boot loader uses no interrupts and no clock: the image finds the machine as after a reset, but for the console, the
//! watchdog that runs, and the vector table, which is the image's.

#![allow(unsafe_code, reason = "an image takes the machine over")]

use core::fmt;
use core::ops::Range;

use cortex_m::peripheral::SCB;

use crate::flash::{Flash, PAGE_BYTES};
use crate::regions::Regions;
use crate::watchdog::Watchdog;
use crate::{console, stack};

/// RAM of an image: `memory-slot.x`.
const RAM: Range<u32> = 0x2000_0000..0x2040_0000;

/// What a boot loader is given.
pub struct Machine {
    /// Flash, by region.
    pub regions: Regions,
    /// The watchdog, not started yet.
    pub watchdog: Watchdog,
}

/// Starts the console, and hands out what a boot loader works with. It takes the place of [`crate::run`].
#[must_use]
pub fn machine() -> Machine {
    stack::paint();
    console::start();
    Machine { regions: Regions::new(), watchdog: Watchdog::new() }
}

/// An image that can be started.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Address of its vector table.
    table: u32,
}

/// Why what lies in a region is not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAnImage {
    /// Nothing but erased flash, or zeros, where an image begins.
    Blank,
    /// The stack would begin there, which is not in RAM.
    Stack(u32),
    /// The code would begin there, which is not in the region, or not code of this processor.
    Code(u32),
}

impl fmt::Display for NotAnImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("nothing is there"),
            Self::Stack(at) => write!(f, "its stack would begin at {at:#010x}, outside of RAM"),
            Self::Code(at) => {
                write!(f, "its code would begin at {at:#010x}, outside of its region")
            }
        }
    }
}

impl Image {
    /// Looks at the first two words of a region: where the stack begins, and the code.
    ///
    /// # Errors
    /// No image is there.
    ///
    /// # Panics
    /// With a region of less than a page.
    pub fn find(region: &Flash) -> Result<Self, NotAnImage> {
        let [stack, code] = [0, 4].map(|offset| region.word(offset));
        if [stack, code] == [0, 0] || [stack, code] == [u32::MAX; 2] {
            return Err(NotAnImage::Blank);
        }
        if !(RAM.start < stack && stack <= RAM.end && stack.is_multiple_of(8)) {
            return Err(NotAnImage::Stack(stack));
        }
        let address = u32::try_from(region.address()).expect("invariant: addresses have 32 bits");
        assert!((address as usize).is_multiple_of(PAGE_BYTES), "a vector table is aligned");
        let is_inside = (address..address + region.bytes()).contains(&code);
        // Thumb code has odd addresses.
        if is_inside && code % 2 == 1 {
            Ok(Self { table: address })
        } else {
            Err(NotAnImage::Code(code))
        }
    }

    /// Hands the machine over to it.
    pub fn start(self) -> ! {
        let table = self.table as *const u32;
        // SAFETY: the table is the processor's own register; from here on exceptions are the image's, which the jump
        // below makes the owner of everything. Nothing of this program runs again: no interrupt was let through, and
        // `bootload` does not come back. That its first words are a stack and code was looked at by `find`.
        unsafe {
            (*SCB::PTR).vtor.write(self.table);
            cortex_m::asm::dsb();
            cortex_m::asm::isb();
            cortex_m::asm::bootload(table)
        }
    }
}
