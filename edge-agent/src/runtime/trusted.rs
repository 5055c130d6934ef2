//! The one place that turns stored bytes into native code.

use wasmtime::Engine;
use wasmtime::component::Component;

/// Loads an artifact.
///
/// Callers have it from the compiler or from [`ArtifactCache`](super::ArtifactCache), which gives
/// out only what this device compiled. The bytes are copied: the file may change afterwards.
#[expect(
    unsafe_code,
    reason = "an artifact is native code and is believed; the cache proves its origin by HMAC"
)]
pub(super) fn load(engine: &Engine, artifact: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes came from `Engine::precompile_component` of this agent on this device,
    // unchanged since: either from the child just now or under a verified HMAC.
    unsafe { Component::deserialize(engine, artifact) }
}
