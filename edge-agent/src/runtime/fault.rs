//! Turns what ended a sandbox into words for the function's author: which limit and which setting
//! raises it, or which trap and where in the author's own functions.

use std::fmt::Write;

use edge_core::outcome::{Fault, FaultKind};
use wasmtime::{Trap, WasmBacktrace};

use super::host::{AttemptHost, cut};
use super::limits::{self, Key};

/// Longest message of a fault.
const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Frames told of a trap.
const FRAMES_TOLD: usize = 12;
/// The same function this often in one backtrace is a recursion.
const RECURSION_FRAMES: usize = 16;
/// Rust's own functions between a fault and the trap that follows it.
const MACHINERY: [&str; 6] = ["__rustc::", "alloc::", "core::", "dlmalloc::", "std::", "<"];
/// Functions between the gateway and the author's own.
const GLUE: [&str; 2] = ["function_sdk::host::contract::", "holm:function/"];
/// wasmtime's words for a call that hands over too much; it has no type for them.
const CALL_TOO_LARGE: &str = "fuel allocated for hostcalls has been exhausted";

/// The fault of a call into a function that ended with `error`.
pub(super) fn of_call(error: &wasmtime::Error, host: &mut AttemptHost) -> Fault {
    if let Some(fault) = host.refused.take() {
        return bounded(fault);
    }
    let frames = frames(error);
    let profile = host.profile();
    let reached = |key: Key| {
        let mut fault = limits::reached(key, &profile.limits, &profile.function);
        fault.message.push_str(&place(&frames));
        bounded(fault)
    };
    if host.memory.refused {
        return reached(Key::Memory);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => reached(Key::Time),
        Some(Trap::StackOverflow) => bounded(call_stack(&frames)),
        Some(Trap::MemoryOutOfBounds) if recursion(&frames).is_some() => {
            let mut fault = reached(Key::Stack);
            fault.message.push_str("; the stack is set when the function is built");
            bounded(fault)
        }
        trap => bounded(trapped(error, trap.copied(), host, &frames)),
    }
}

/// The fault of a sandbox that could not be made.
pub(super) fn of_start(error: &wasmtime::Error, host: &mut AttemptHost) -> Fault {
    if host.memory.refused || error.downcast_ref::<Trap>().is_some() {
        return of_call(error, host);
    }
    bounded(Fault {
        kind: FaultKind::Host,
        message: format!("the gateway could not start the function: {error:#}"),
    })
}

/// A fault of the host itself.
pub(super) fn of_host(message: String) -> Fault {
    bounded(Fault { kind: FaultKind::Host, message })
}

fn trapped(
    error: &wasmtime::Error,
    trap: Option<Trap>,
    host: &AttemptHost,
    frames: &[String],
) -> Fault {
    let mut message = match (&host.panic, trap) {
        (Some(panic), _) => panic.clone(),
        (None, Some(Trap::MemoryOutOfBounds)) => out_of_bounds(host),
        (None, Some(trap)) => trap.to_string(),
        (None, None) => error.root_cause().to_string(),
    };
    if message.contains(CALL_TOO_LARGE) {
        let profile = host.profile();
        let mut message = limits::call_reached(&profile.limits, &profile.function);
        message.push_str(&place(frames));
        return Fault { kind: FaultKind::Outputs, message };
    }
    for (n, frame) in frames.iter().take(FRAMES_TOLD).enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(message, "\n  {n}: {frame}");
    }
    if frames.len() > FRAMES_TOLD {
        message.push_str("\n  ...");
    }
    Fault { kind: FaultKind::Trap, message }
}

/// In safe Rust this is a value too large for the stack; elsewhere it may be a stray pointer.
fn out_of_bounds(host: &AttemptHost) -> String {
    let profile = host.profile();
    let hint = limits::reached(Key::Stack, &profile.limits, &profile.function).message;
    format!("{}; if a value is too large for the stack: {hint}", Trap::MemoryOutOfBounds)
}

fn call_stack(frames: &[String]) -> Fault {
    Fault {
        kind: FaultKind::Stack,
        message: format!(
            "call stack limit reached{}: raise `call_stack` in [limits] of the gateway's \
             configuration",
            place(frames)
        ),
    }
}

/// The function that calls itself, if one fills the backtrace.
///
/// A function's own stack lies at the bottom of its memory and grows down: going over its end
/// wraps below zero and looks like any stray access, unless a recursion tells.
fn recursion(frames: &[String]) -> Option<&str> {
    frames
        .iter()
        .take(RECURSION_FRAMES)
        .find(|name| frames.iter().filter(|other| other == name).count() >= RECURSION_FRAMES)
        .map(String::as_str)
}

/// ` in NAME`, where the innermost function is known.
fn place(frames: &[String]) -> String {
    match recursion(frames).or(frames.first().map(String::as_str)) {
        Some(name) => format!(" (in `{name}`)"),
        None => String::new(),
    }
}

/// The function's own names, innermost first: without what stands between its fault and the trap,
/// and without the glue of the contract.
fn frames(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let all: Vec<String> = backtrace
        .frames()
        .iter()
        .map(|frame| match frame.func_name() {
            Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
            None => format!("function {}", frame.func_index()),
        })
        .collect();
    let machinery = |name: &String| MACHINERY.iter().any(|prefix| name.starts_with(prefix));
    let glue = |name: &String| GLUE.iter().any(|prefix| name.starts_with(prefix));
    let own: Vec<String> =
        all.iter().skip_while(|name| machinery(name)).filter(|name| !glue(name)).cloned().collect();
    if own.is_empty() { all } else { own }
}

fn bounded(mut fault: Fault) -> Fault {
    let end = cut(&fault.message, MESSAGE_BYTES_MAX).len();
    fault.message.truncate(end);
    fault
}
