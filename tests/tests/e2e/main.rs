//! Real processes on loopback: what users were promised, seen from outside.

mod artifacts;
mod command;
mod crash;
mod fleet;
mod gateway;
mod reopen;
mod sessions;
mod support;
