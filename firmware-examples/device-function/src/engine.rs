//! From a verified image to a function that can be run.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use wasmtime::{Config, Engine, InstancePre, Linker};

use crate::attempt::{self, Attempt};
use crate::effects::{Event, Report};
use crate::image::{Header, Image, Limits};
use crate::state::State;
use crate::{imports, trusted};

/// Heap that engine, imports and the frame of an attempt take beside what the image's limits name.
const FRAME_BYTES: u64 = 24 << 10;
/// A loaded module takes a byte of heap for so many of its code. Measured: 19 KB for 129 KB, 38 KB
/// for 377 KB, engine and imports included.
const CODE_BYTES_PER_HEAP_BYTE: u64 = 8;

/// Why a verified image cannot be run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// It asks for more than this device has.
    Heap {
        /// What it may need.
        needed_bytes: u64,
        /// What there is.
        heap_bytes: u64,
    },
    /// Its limits contradict each other.
    Limits,
    /// The interpreter refuses the code, or the module wants what this firmware does not offer.
    Code(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heap { needed_bytes, heap_bytes } => write!(
                f,
                "the function may need {needed_bytes} bytes of heap, this device gives \
                 {heap_bytes}: lower its limits in holm.toml"
            ),
            Self::Limits => f.write_str("the module begins with more memory than its limit"),
            Self::Code(why) => write!(f, "the function does not load: {why}"),
        }
    }
}

/// Whether a publish of so many bytes to a topic can leave the device, or why not.
pub type MaySend = fn(topic: &str, payload_bytes: usize) -> Result<(), &'static str>;

/// A function that is ready to run.
pub struct Function {
    header: Arc<Header>,
    pre: InstancePre<Attempt>,
    may_send: MaySend,
    spare_bytes: u64,
}

impl Function {
    /// Loads an image. `heap_bytes` is the heap that the function may have.
    ///
    /// # Errors
    /// [`LoadError`]; nothing of the function has run then.
    pub fn load(image: &Image, heap_bytes: u64) -> Result<Self, LoadError> {
        let limits = &image.header.limits;
        let needed_bytes = heap_needed_bytes(limits, image);
        if needed_bytes > heap_bytes {
            return Err(LoadError::Heap { needed_bytes, heap_bytes });
        }
        let growth = limits.memory.checked_sub(limits.memory_initial).ok_or(LoadError::Limits)?;
        let pre = prepare(image, limits, growth).map_err(|error| code(&error))?;
        let header = Arc::new(image.header.clone());
        let spare_bytes = heap_bytes - needed_bytes;
        Ok(Self { header, pre, may_send: |_, _| Ok(()), spare_bytes })
    }

    /// Refuses, while the function runs, what the device could not send: the attempt ends in a fault
    /// ([`FaultKind::Outputs`](crate::FaultKind::Outputs)), so that nothing that is owed is left behind.
    #[must_use]
    pub fn sending(self, may_send: MaySend) -> Self {
        Self { may_send, ..self }
    }

    /// Heap of what it was given that it does not take, in bytes.
    #[must_use]
    pub const fn spare_bytes(&self) -> u64 {
        self.spare_bytes
    }

    /// What it is and what it may.
    #[must_use]
    pub fn header(&self) -> &Arc<Header> {
        &self.header
    }

    /// Runs the function on an event, in a fresh sandbox. If it returns ok, `state` changes, and
    /// the caller owes the publishes and records of the report; otherwise nothing happened.
    ///
    /// A failure of the function is a value. It ends within its fuel, and takes heap within
    /// what [`Function::load`] was given.
    pub fn process(&self, event: &Event, state: &mut State) -> Report {
        attempt::run(self, event, state)
    }

    pub(crate) fn may_send(&self) -> MaySend {
        self.may_send
    }

    pub(crate) fn pre(&self) -> &InstancePre<Attempt> {
        &self.pre
    }
}

/// Most heap that loading and one attempt can take.
fn heap_needed_bytes(limits: &Limits, image: &Image) -> u64 {
    let module_bytes = FRAME_BYTES + image.code().len() as u64 / CODE_BYTES_PER_HEAP_BYTE;
    // The image's, the function's, and what an answer of `config` copies.
    let header_bytes = 3 * image.header_bytes() as u64;
    u64::from(limits.memory)
        + u64::from(limits.call_stack)
        + limits.effect_bytes()
        + module_bytes
        + header_bytes
}

fn prepare(image: &Image, limits: &Limits, growth: u32) -> wasmtime::Result<InstancePre<Attempt>> {
    let engine = Engine::new(&config(limits, growth))?;
    let module = trusted::load(&engine, image)?;
    let mut linker = Linker::new(&engine);
    imports::add_to(&mut linker)?;
    linker.instantiate_pre(&module)
}

/// As `edge-agent/src/runtime/device.rs` compiles: wasmtime refuses code that was compiled with
/// other settings. There are no pages and no signals to catch an access with, so memory is heap
/// and every access is checked. Fuel, because epochs need 64-bit atomics.
fn config(limits: &Limits, growth: u32) -> Config {
    let mut config = Config::new();
    config
        .gc_support(false)
        .concurrency_support(false)
        .consume_fuel(true)
        .signals_based_traps(false)
        .memory_init_cow(false)
        .memory_reservation(0)
        .memory_guard_size(0)
        // Room for all growth at once: growing in place needs no second copy of the memory.
        .memory_reservation_for_growth(u64::from(growth))
        .max_wasm_stack(limits.call_stack as usize)
        .wasm_backtrace_max_frames(None);
    config
}

fn code(error: &wasmtime::Error) -> LoadError {
    LoadError::Code(format!("{error:#}"))
}
