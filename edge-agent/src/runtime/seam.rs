//! The seam to whatever runs functions: WebAssembly here, scripted ones in the simulator.

use std::sync::Arc;

use bytes::Bytes;
use edge_core::id::DeviceId;
use edge_core::outcome::Fault;

use super::attempt::{Attempt, Report};
use super::prepared::{FunctionProfile, PrepareError, Prepared, Runtime};

/// A function that is ready to run. Attempts may run on many threads at once.
pub trait Runnable: Send + Sync {
    /// Who it is and what it may.
    fn profile(&self) -> &Arc<FunctionProfile>;

    /// Whether it can carry state over from an older `state_version`.
    fn can_migrate(&self) -> bool;

    /// Runs one attempt on the calling thread.
    fn run(&self, attempt: &Attempt) -> Report;

    /// Turns one set of keys, as `from_version` left it, into its own.
    ///
    /// # Errors
    /// The fault or the refusal, for the report of the deployment.
    fn migrate(
        &self,
        from_version: u32,
        device: Option<&DeviceId>,
        entries: Vec<(String, Bytes)>,
    ) -> Result<Vec<(String, Bytes)>, Fault>;
}

/// What makes functions of components.
pub trait Toolchain: Send + Sync {
    /// Compiles `component` and checks it against the contract. Blocks for as long as that takes.
    ///
    /// # Errors
    /// See [`PrepareError`]: nothing of the component has run then.
    fn prepare(
        &self,
        component: &[u8],
        profile: FunctionProfile,
    ) -> Result<Arc<dyn Runnable>, PrepareError>;
}

impl Runnable for Prepared {
    fn profile(&self) -> &Arc<FunctionProfile> {
        Self::profile(self)
    }

    fn can_migrate(&self) -> bool {
        Self::can_migrate(self)
    }

    fn run(&self, attempt: &Attempt) -> Report {
        Self::run(self, attempt)
    }

    fn migrate(
        &self,
        from_version: u32,
        device: Option<&DeviceId>,
        entries: Vec<(String, Bytes)>,
    ) -> Result<Vec<(String, Bytes)>, Fault> {
        Self::migrate(self, from_version, device, entries)
    }
}

impl Toolchain for Runtime {
    fn prepare(
        &self,
        component: &[u8],
        profile: FunctionProfile,
    ) -> Result<Arc<dyn Runnable>, PrepareError> {
        Ok(Self::prepare(self, component, profile)?)
    }
}
