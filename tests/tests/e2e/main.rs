//! Real processes on loopback: what users were promised, seen from outside.

mod artifacts;
mod batches;
mod certificates;
mod clocks;
mod command;
mod conformance;
mod connections;
mod crash;
mod destinations;
mod filters;
mod fleet;
mod functions;
mod gateway;
mod hostile;
mod outbox;
mod protocol;
mod reopen;
mod replay;
mod restored;
mod safe_mode;
mod schedule;
mod sessions;
mod sharing;
mod status;
mod stop;
mod support;
