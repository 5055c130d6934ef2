//! The gateway's calls: the real ones in WebAssembly, the fake ones in a test.

#[cfg(target_arch = "wasm32")]
pub mod contract;

#[cfg(target_arch = "wasm32")]
pub(crate) use contract::calls::*;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::fake::calls::*;
