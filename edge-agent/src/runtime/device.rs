//! From a component to the code that a microcontroller runs.
//!
//! A device has no room for the component model. It runs the core module inside the component, the
//! very bytes that gateways run, and serves that module's imports by hand
//! (`firmware-examples/device-function`). What else stands in a component made of such a module is
//! only what ties its imports to those of the component.

use std::ops::Range;

use wasmparser::{ExternalKind, Parser, Payload, TypeRef};
use wasmtime::{Config, Engine};

use super::engine::FEATURES_OFF;
use super::exports::HANDLER;

/// What devices interpret: 32 bits, little-endian.
pub const DEVICE_TARGET: &str = "pulley32";

const WASM_PAGE_BYTES: u64 = 64 << 10;
const PACKAGE: &str = "holm:function/";

/// Why a component is not for devices.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not a component, or a damaged one.
    #[error("the component cannot be read: {0}")]
    Malformed(String),
    /// It takes no single events, or is not made the way this needs.
    #[error(
        "no core module of the component exports `{HANDLER}#handle`: a device calls `handle` (in Rust \
         `function_sdk::export!(handle);`), not batches"
    )]
    NoHandler,
    /// The module wants something that devices do not serve, such as WASI.
    #[error("the module imports `{0}`, which devices do not offer: they offer {PACKAGE}*")]
    Import(String),
    /// It begins with more memory than a device has.
    #[error(
        "the function begins with {initial_bytes} bytes of memory, a device gives at most \
         {bytes_max}: lower `stack` of the function in holm.toml, or its static data"
    )]
    Memory {
        /// What it begins with.
        initial_bytes: u64,
        /// What a device gives.
        bytes_max: u32,
    },
    /// The compiler's own complaint.
    #[error("the module does not compile: {0}")]
    Compile(String),
}

/// The core module of a function, inside the bytes of its component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InnerModule<'a> {
    /// Its bytes: a part of the component's.
    pub bytes: &'a [u8],
    /// Linear memory that it begins with, in bytes.
    pub memory_initial_bytes: u32,
}

impl<'a> InnerModule<'a> {
    /// Finds the module that exports `handle`, and checks that a device can serve it.
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub fn of(component: &'a [u8], memory_bytes_max: u32) -> Result<Self, DeviceError> {
        let mut found = None;
        // To the end: a component that breaks off is no component.
        for payload in Parser::new(0).parse_all(component) {
            if let Payload::ModuleSection { unchecked_range, .. } = payload.map_err(malformed)? {
                let bytes = part(component, unchecked_range)?;
                found = memory_of_handler(bytes)?.map(|memory| (bytes, memory)).or(found);
            }
        }
        let (bytes, initial_bytes) = found.ok_or(DeviceError::NoHandler)?;
        let fits = u32::try_from(initial_bytes).ok().filter(|initial| *initial <= memory_bytes_max);
        let memory_initial_bytes =
            fits.ok_or(DeviceError::Memory { initial_bytes, bytes_max: memory_bytes_max })?;
        Ok(Self { bytes, memory_initial_bytes })
    }

    /// Compiles it for `target`, [`DEVICE_TARGET`] or, to try it on this machine, its own triple.
    ///
    /// # Errors
    /// [`DeviceError::Compile`].
    pub fn compile(&self, target: &str) -> Result<Vec<u8>, DeviceError> {
        let compile = || Engine::new(&device_config(target)?)?.precompile_module(self.bytes);
        compile().map_err(|error| DeviceError::Compile(format!("{error:#}")))
    }
}

/// Everything that is compiled into the code, as `device-function` has it: wasmtime refuses code of
/// other settings. A microcontroller has no pages and signals to catch accesses with, so every one
/// is checked; and no 64-bit atomics for epochs, so fuel ends what runs too long.
fn device_config(target: &str) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .target(target)?
        .wasm_features(FEATURES_OFF, false)
        .wasm_component_model(false)
        .gc_support(false)
        .concurrency_support(false)
        // As on gateways: results do not depend on the hardware.
        .cranelift_nan_canonicalization(true)
        .consume_fuel(true)
        .signals_based_traps(false)
        .memory_init_cow(false)
        .memory_reservation(0)
        .memory_guard_size(0)
        .memory_reservation_for_growth(0)
        // Only backtraces would read it.
        .generate_address_map(false);
    Ok(config)
}

/// Memory in bytes that a module begins with, if it is the one that exports `handle`.
fn memory_of_handler(module: &[u8]) -> Result<Option<u64>, DeviceError> {
    let (mut exports_handler, mut memory_bytes, mut foreign) = (false, 0, None);
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(malformed)? {
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export.map_err(malformed)?;
                    let is_handler = export.name.strip_prefix(HANDLER) == Some("#handle");
                    exports_handler |= is_handler && export.kind == ExternalKind::Func;
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.map_err(malformed)?;
                    let is_call = matches!(import.ty, TypeRef::Func(_));
                    if !is_call || !import.module.starts_with(PACKAGE) {
                        foreign = Some(format!("{} {}", import.module, import.name));
                    }
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let pages = memory.map_err(malformed)?.initial;
                    memory_bytes = pages.saturating_mul(WASM_PAGE_BYTES);
                }
            }
            _ => {}
        }
    }
    match foreign {
        Some(import) if exports_handler => Err(DeviceError::Import(import)),
        _ => Ok(exports_handler.then_some(memory_bytes)),
    }
}

fn part(component: &[u8], range: Range<usize>) -> Result<&[u8], DeviceError> {
    let outside = || DeviceError::Malformed("a module outside of the component".to_owned());
    component.get(range).ok_or_else(outside)
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function of `map_err`")]
fn malformed(error: wasmparser::BinaryReaderError) -> DeviceError {
    DeviceError::Malformed(error.to_string())
}
