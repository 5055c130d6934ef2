//! What a component exports, and whether that is what its triggers call.

use edge_core::id::FunctionId;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre};
use wit_component::DecodedWasm;

use super::host::AttemptHost;
use super::host::batching::BatchFunctionPre;
use super::host::function::FunctionPre;
use super::host::migrating::MigratorPre;
use super::limits::short_name;
use super::prepared::{PrepareError, contract};

pub(super) const HANDLER: &str = "holm:function/handler@0.1.0";
pub(super) const BATCH_HANDLER: &str = "holm:function/batch-handler@0.1.0";
const MIGRATION: &str = "holm:function/migration@0.1.0";

/// What triggers call of a function. One that nobody wakes needs neither, but exports one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// `handler`: a trigger without `batch` wakes it, or a destination.
    pub handler: bool,
    /// `batch-handler`: a trigger with `batch` wakes it.
    pub batch_handler: bool,
}

impl Needs {
    /// Whether a component offers what is needed; one that offers neither is no function.
    pub(super) fn are_met(self, function: &FunctionId, offers: Self) -> Result<(), PrepareError> {
        let function = || short_name(function).to_owned();
        if !offers.handler && !offers.batch_handler {
            return Err(PrepareError::NoHandler);
        }
        if self.batch_handler && !offers.batch_handler {
            return Err(PrepareError::NoBatchHandler { function: function() });
        }
        if self.handler && !offers.handler {
            return Err(PrepareError::NoEventHandler { function: function() });
        }
        Ok(())
    }
}

/// Whether a component exports what is needed of `function`, without compiling it: for whoever
/// builds it. What cannot be read as a component is left to [`Runtime::prepare`](super::Runtime).
///
/// # Errors
/// [`PrepareError::NoHandler`], [`PrepareError::NoBatchHandler`] or
/// [`PrepareError::NoEventHandler`].
pub fn check_exports(
    component: &[u8],
    function: &FunctionId,
    needs: Needs,
) -> Result<(), PrepareError> {
    let Ok(DecodedWasm::Component(resolve, world)) = wit_component::decode(component) else {
        return Ok(());
    };
    let names: Vec<String> =
        resolve.worlds[world].exports.keys().map(|key| resolve.name_world_key(key)).collect();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let offers = Needs { handler: has(HANDLER), batch_handler: has(BATCH_HANDLER) };
    needs.are_met(function, offers)
}

/// What a component offers, ready to be called.
pub(super) struct Exports {
    pub(super) function: Option<FunctionPre<AttemptHost>>,
    pub(super) batching: Option<BatchFunctionPre<AttemptHost>>,
    pub(super) migrating: Option<MigratorPre<AttemptHost>>,
}

impl Exports {
    /// # Errors
    /// An export has the right name and the wrong type.
    pub(super) fn of(
        engine: &Engine,
        component: &Component,
        pre: &InstancePre<AttemptHost>,
    ) -> Result<Self, PrepareError> {
        let ty = component.component_type();
        let pre_of =
            |wanted: &str| ty.exports(engine).any(|(name, _)| name == wanted).then(|| pre.clone());
        let function = pre_of(HANDLER).map(FunctionPre::new).transpose();
        let batching = pre_of(BATCH_HANDLER).map(BatchFunctionPre::new).transpose();
        let migrating = pre_of(MIGRATION).map(MigratorPre::new).transpose();
        Ok(Self {
            function: function.map_err(contract)?,
            batching: batching.map_err(contract)?,
            migrating: migrating.map_err(contract)?,
        })
    }

    pub(super) fn offers(&self) -> Needs {
        Needs { handler: self.function.is_some(), batch_handler: self.batching.is_some() }
    }
}
