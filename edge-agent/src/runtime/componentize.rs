//! From the core module that a compiler emits to a component.

use wit_component::{ComponentEncoder, metadata};

/// Why a module is not turned into a component.
#[derive(Debug, thiserror::Error)]
#[error("the module does not make a function: {0}")]
pub struct ComponentizeError(String);

/// Wraps a core module, as `cargo build --target wasm32-unknown-unknown` leaves it, into a
/// component. The contract it was built against stands in the module's own custom section.
///
/// # Errors
/// When the module is malformed or carries no contract.
pub fn componentize(core_module: &[u8]) -> Result<Vec<u8>, ComponentizeError> {
    let failed = |error| ComponentizeError(format!("{error:#}"));
    let (_, contract) = metadata::decode(core_module).map_err(failed)?;
    if contract.resolve.worlds[contract.world].exports.is_empty() {
        let missing = "it exports nothing; in Rust, `function_sdk::export!(handle);` is missing";
        return Err(ComponentizeError(missing.to_owned()));
    }
    ComponentEncoder::default()
        .validate(true)
        .module(core_module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(failed)
}
