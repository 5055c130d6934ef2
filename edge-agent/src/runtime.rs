//! Runs functions: WebAssembly components in sandboxes that live for one attempt.
//!
//! # Invariants
//! - A function's failure is a value ([`Fault`](edge_core::outcome::Fault)); no input makes the
//!   host fail, and a panic of host code is caught and becomes a value too.
//! - Host calls only collect. What an attempt published, wrote and recorded leaves the worker in
//!   its [`Completion`], and only if the function returned ok.
//! - Every attempt starts from the same memory: nothing of an earlier one is left in its sandbox.
//! - Native code is executed only if this device compiled it, or [`ArtifactCache`] proved that it
//!   did; the one `unsafe` block of the process stands in `trusted`.
//! - Everything compiled into an artifact is set by [`engine_config`]; everything else that
//!   reserves memory is set by [`EngineSettings`], with no number left to a default.
//!
//! # Order of things
//! [`Runtime::new`] makes engine, linker and cache. [`Runtime::prepare`] turns a component into a
//! [`Prepared`]: found in the cache or compiled in a limited child process, type-checked against
//! the contract `edge-agent/wit`, held as long as its revision is live. [`Workers`] take
//! [`Invocation`]s and hand back [`Completion`]s.

mod attempt;
mod breadcrumb;
mod build;
mod cache;
mod compile;
mod componentize;
mod device;
mod engine;
mod exports;
mod fault;
mod grants;
mod host;
mod invoke;
mod limits;
mod prepared;
mod seam;
mod session;
mod state;
mod trusted;
mod workers;

pub use attempt::{Attempt, LogLevel, LogLine, Report, Stats};
pub use breadcrumb::{Breadcrumbs, Crashed, boot_id};
pub use build::{BuildError, BuildOptions, build_function};
pub use cache::ArtifactCache;
pub use compile::{CompileError, Compiler, compile_child_main};
pub use componentize::{ComponentizeError, componentize};
pub use device::{DEVICE_TARGET, DeviceError, InnerModule};
pub use engine::{EngineSettings, WASMTIME_VERSION, engine_config};
pub use exports::{Needs, check_exports};
pub use grants::Grants;
pub use invoke::{EventFile, InvokeError, InvokeReport, invoke_once};
pub use limits::Limits;
pub use prepared::{FunctionProfile, PrepareError, Prepared, Runtime, RuntimeError};
pub use seam::{Runnable, Toolchain};
pub use state::{MemoryState, StateDomain, StateView};
pub use workers::{AttemptHook, Completion, Invocation, Workers};
