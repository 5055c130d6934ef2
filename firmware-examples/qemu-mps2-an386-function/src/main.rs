//! A Holm function on an emulated Cortex-M4: reads events over semihosting, prints what the
//! function did, and at the end what it took.
//!
//! [`Function::process`] is the seam: with a network, events come from the device's own sensors
//! and effects go to its MQTT client, and nothing else here changes.
#![no_std]
#![no_main]

extern crate alloc;

mod board;
mod events;
mod heap;
mod show;

use alloc::string::{String, ToString};
use core::fmt::Display;
use core::panic::PanicInfo;

use device_function::{Function, Image, State};

use crate::board::println;

/// The image was refused or does not load.
const EXIT_REFUSED: u32 = 2;
/// A panic: there is no memory left, or a mistake of the firmware.
const EXIT_PANIC: u32 = 101;

#[cortex_m_rt::entry]
fn main() -> ! {
    board::start();
    heap::start();
    let mut arguments = [0; 512];
    let arguments = board::arguments(&mut arguments);
    match run(arguments) {
        Ok(()) => board::exit(0),
        Err(why) => {
            println!("refused: {why}");
            board::exit(EXIT_REFUSED)
        }
    }
}

/// Runs the function in the slot on all events of a file.
fn run(arguments: &str) -> Result<(), String> {
    let mut arguments = arguments.split(' ').skip(1);
    let path = arguments.next().unwrap_or_default();
    let device = arguments.next().unwrap_or_default();
    let component = arguments.next().and_then(digest);
    let started = board::ticks();
    let image = Image::verify(board::function_slot(), &[board::author()], component.as_ref());
    let image = image.map_err(text)?;
    let verified = board::ticks();
    let function = Function::load(&image, heap::BYTES as u64).map_err(text)?;
    let loaded = board::ticks();
    let heap_loaded = heap::used_bytes();
    let mut events = events::open(path, device).ok_or("the events cannot be read")?;
    let mut state = State::default();
    let (mut count, mut ticks) = (0_u64, 0_u64);
    while let Some(event) = events.next()? {
        let begun = board::ticks();
        let report = function.process(&event, &mut state);
        ticks += u64::from(board::since(begun));
        count += 1;
        show::report(count, &report);
    }
    println!("function {} {} bytes of code", function.header().function, image.code().len());
    println!(
        "instructions verify {} load {} event {}",
        board::instructions(verified.wrapping_sub(started).into()),
        board::instructions(loaded.wrapping_sub(verified).into()),
        board::instructions(ticks) / count.max(1),
    );
    println!(
        "bytes heap_loaded {heap_loaded} heap_after {} heap_peak {} stack_peak {}",
        heap::used_bytes(),
        heap::peak_bytes(),
        board::stack_peak_bytes(),
    );
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function of `map_err`")]
fn text(error: impl Display) -> String {
    error.to_string()
}

/// A digest in hexadecimal.
fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    for (n, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("panic: {info}");
    board::exit(EXIT_PANIC)
}
