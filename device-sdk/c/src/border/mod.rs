//! Where C and Rust meet: all `unsafe` of the library, each piece with the reason why it is sound.
#![allow(unsafe_code, reason = "C hands in raw pointers, and calls functions by their names")]

pub(crate) mod arena;
pub(crate) mod call;
mod exports;
mod platform;
pub(crate) mod waker;
