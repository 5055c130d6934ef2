//! Client of a Holm gateway for microcontrollers.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "update")]
pub mod update;
