//! Real processes on loopback: what users were promised, seen from outside.

mod artifacts;
mod command;
mod fleet;
mod gateway;
mod support;
