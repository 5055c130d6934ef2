//! Turns what ended a sandbox into words.

use alloc::format;
use alloc::string::{String, ToString};

use wasmtime::{Error, Trap};

use crate::abi::cut;
use crate::attempt::Attempt;
use crate::effects::{Fault, FaultKind};

/// Longest message of a fault.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// The fault of an attempt that ended with `error`.
pub(crate) fn of(error: &Error, attempt: &mut Attempt) -> Fault {
    if let Some(fault) = attempt.refused.take() {
        return fault;
    }
    let limits = &attempt.header.limits;
    if attempt.memory_refused {
        return fault(FaultKind::Memory, format!("memory limit {} reached", limits.memory));
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => {
            fault(FaultKind::Timeout, format!("fuel limit {} reached", limits.fuel))
        }
        Some(Trap::StackOverflow) => {
            fault(FaultKind::Stack, format!("call stack limit {} reached", limits.call_stack))
        }
        None if attempt.guest.is_none() => {
            fault(FaultKind::Host, cut(&error.root_cause().to_string(), MESSAGE_BYTES_MAX))
        }
        trap => {
            let told = || trap.map_or_else(|| error.root_cause().to_string(), ToString::to_string);
            let message = attempt.panic.take().unwrap_or_else(told);
            fault(FaultKind::Trap, cut(&message, MESSAGE_BYTES_MAX))
        }
    }
}

fn fault(kind: FaultKind, message: String) -> Fault {
    Fault { kind, message }
}
