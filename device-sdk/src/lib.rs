//! Client of a Holm gateway for microcontrollers.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "tls")]
pub mod tls;
