//! `cargo xtask bench`: what is measured.

mod connections;
pub(crate) mod memory;
mod pipeline;
mod reopen;
mod wear;

use anyhow::Result;
use clap::Subcommand;

/// The benchmarks.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Device message, function, device message: Holm, durable, against Mosquitto with a native
    /// handler, volatile (release profile).
    Pipeline(pipeline::PipelineArgs),
    /// Holds many idle and busy connections, and lets many password clients come at once.
    Connections(connections::ConnectionsArgs),
    /// The first ack after a SIGKILL with a large outbox, on one core.
    Reopen(reopen::ReopenArgs),
    /// Memory of an agent, at rest and at work (profile `dist`).
    Memory(memory::MemoryArgs),
    /// Bytes written to the disk for a message and in an idle hour, by how often batches are written.
    Wear(wear::WearArgs),
}

/// Runs a benchmark.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Pipeline(args) => pipeline::run(args),
        Bench::Connections(args) => connections::run(args),
        Bench::Reopen(args) => reopen::run(args),
        Bench::Memory(args) => memory::run(args),
        Bench::Wear(args) => wear::run(args),
    }
}
