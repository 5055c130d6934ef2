//! The control plane as gateways and operators see it: real sockets, TLS and processes.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod access;
mod crash;
mod deployments;
mod enrolment;
mod gateway;
mod harness;
mod records;
mod schema;
mod talk;
