//! What a simulated device gets from its host, by semihosting: its command line, an exit code, wall
//! time and entropy. Numbers: Arm's *Semihosting for AArch32 and AArch64*.
//!
//! Without an emulator or debugger that serves it, a call is a hard fault: hence the feature.

#![allow(
    unsafe_code,
    reason = "a call is a breakpoint instruction with the address of its arguments"
)]

const SYS_OPEN: usize = 0x01;
const SYS_CLOSE: usize = 0x02;
const SYS_READ: usize = 0x06;
const SYS_TIME: usize = 0x11;
const SYS_GET_CMDLINE: usize = 0x15;
const SYS_EXIT_EXTENDED: usize = 0x20;

const APPLICATION_EXIT: usize = 0x2_0026;
const OPEN_READ_BINARY: usize = 1;
const FAILED: usize = usize::MAX;

/// The host did not serve a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimError {
    /// The command line does not fit or is not UTF-8.
    Arguments,
    /// The host's `/dev/urandom` cannot be read.
    Entropy,
}

/// Ends the simulated device: the emulator's exit code is `code`, modulo 256.
pub fn exit(code: u32) -> ! {
    loop {
        call(SYS_EXIT_EXTENDED, &mut [APPLICATION_EXIT, code as usize]);
    }
}

/// The command line: the arguments of `-semihosting-config arg=...`, separated by spaces.
///
/// # Errors
/// `buffer` is too short, or the host's text is not UTF-8.
pub fn arguments(buffer: &mut [u8]) -> Result<&str, SimError> {
    let mut block = [buffer.as_mut_ptr() as usize, buffer.len()];
    let result = call(SYS_GET_CMDLINE, &mut block);
    let line = buffer.get(..block[1]).filter(|_| result == 0).ok_or(SimError::Arguments)?;
    let text = core::str::from_utf8(line).map_err(|_| SimError::Arguments)?;
    Ok(text.trim_end_matches('\0'))
}

/// Seconds since 1970 by the host's clock.
#[must_use]
pub fn unix_time_s() -> u32 {
    u32::try_from(call(SYS_TIME, &mut [])).unwrap_or(0)
}

/// Fills `bytes` from the host's random generator.
///
/// # Errors
/// The host has none. What is in `bytes` then is not random.
pub fn entropy(bytes: &mut [u8]) -> Result<(), SimError> {
    let path = c"/dev/urandom";
    let mut open = [path.as_ptr() as usize, OPEN_READ_BINARY, path.count_bytes()];
    let file = call(SYS_OPEN, &mut open);
    if file == FAILED {
        return Err(SimError::Entropy);
    }
    let mut read = [file, bytes.as_mut_ptr() as usize, bytes.len()];
    let bytes_missing = call(SYS_READ, &mut read);
    call(SYS_CLOSE, &mut [file]);
    if bytes_missing == 0 { Ok(()) } else { Err(SimError::Entropy) }
}

/// Asks the host; private, because what `block` points to is the caller's promise.
fn call(operation: usize, block: &mut [usize]) -> usize {
    let result;
    // SAFETY: the host reads and writes the block and what it points to, which the callers above
    // borrow for longer than the call; the compiler is not told that memory stays as it was.
    unsafe {
        core::arch::asm!(
            "bkpt 0xab",
            inout("r0") operation => result,
            in("r1") block.as_mut_ptr(),
            options(nostack),
        );
    }
    result
}
