//! The contract between a device and a Holm gateway.
#![no_std]
#![forbid(unsafe_code)]
