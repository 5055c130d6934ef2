//! Real processes on loopback: what users were promised, seen from outside.

mod gateway;
mod support;
