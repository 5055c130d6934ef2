//! Calls of the program's functions.

use core::ffi::c_void;

use device_sdk::Reply;

use crate::abi::{Command, Event, OnCommand, OnEvent};

pub(crate) fn event(function: OnEvent, context: *mut c_void, event: &Event) {
    // SAFETY: the settings promise a function of this type, and that it does not unwind; the event lives until it returns.
    unsafe { function(context, event) }
}

pub(crate) fn command(
    function: OnCommand,
    context: *mut c_void,
    command: &Command,
    reply: &mut Reply,
) -> i32 {
    let reply: *mut Reply = reply;
    // SAFETY: as above; `reply` and what `command` points to live until it returns, and nobody else uses `reply` meanwhile.
    unsafe { function(context, command, reply.cast()) }
}
