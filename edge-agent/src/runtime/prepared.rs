//! From a component to something that can be run.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use edge_core::id::{DeviceId, Digest, FunctionId};
use edge_core::outcome::Fault;
use rustix::process::{Resource, getrlimit};
use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, Linker};

use super::attempt::{self, Attempt, Report};
use super::cache::ArtifactCache;
use super::compile::{self, CompileError, Compiler};
use super::engine::{self, EngineSettings, Ticker};
use super::exports::{BATCH_HANDLER, Exports, HANDLER, Needs};
use super::grants::Grants;
use super::host::batching::BatchFunctionPre;
use super::host::function::FunctionPre;
use super::host::migrating::MigratorPre;
use super::host::migrating::exports::holm::function::migration::OldState;
use super::host::{AttemptHost, batching, function};
use super::limits::{Limits, short_name};
use super::trusted;

/// The contract's package and version, as they stand in a component's imports and exports.
const PACKAGE: &str = "holm:function/";
const VERSION: &str = "@0.1.0";

/// Who a function is and what it may: one function of one revision, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionProfile {
    /// `app/function`.
    pub function: FunctionId,
    /// The revision that it belongs to.
    pub revision: Digest,
    /// Version of its state's shape.
    pub state_version: u32,
    /// What an attempt may use.
    pub limits: Limits,
    /// What it may call.
    pub grants: Grants,
    /// What it must export.
    pub needs: Needs,
}

/// The engine with everything that functions need from the host. One per process.
pub struct Runtime {
    engine: Engine,
    linker: Linker<AttemptHost>,
    ticker: Arc<Ticker>,
    settings: EngineSettings,
    compiler: Compiler,
    cache: Option<ArtifactCache>,
}

/// Why the runtime did not start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine refused its settings or could not reserve its memory.
    #[error(
        "the function engine did not start: {0:#}; with little address space, lower `workers` or \
         `function_memory` in [limits]"
    )]
    Engine(wasmtime::Error),
    /// A thread could not be started or the artifact cache not be opened.
    #[error("the function runtime did not start: {0}")]
    Io(#[from] io::Error),
}

/// Why a component cannot be run here.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// It does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It wants something that is no part of the contract.
    #[error(
        "the component imports `{import}`, which this gateway does not offer: it offers \
         holm:function{VERSION}{hint}"
    )]
    Import {
        /// The import.
        import: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// It is no function.
    #[error(
        "the component exports no `{HANDLER}`: a function exports `handle` of the world \
         `function` in holm:function{VERSION}"
    )]
    NoHandler,
    /// A trigger with `batch` wakes it, and it takes single events only.
    #[error(
        "function `{function}` is woken by a trigger with `batch`, but exports no \
         `{BATCH_HANDLER}`: export it (in Rust `function_sdk::export!(batch: NAME);`), or take \
         `batch` out of the trigger"
    )]
    NoBatchHandler {
        /// Which function.
        function: String,
    },
    /// A trigger without `batch` or a destination wakes it, and it takes batches only.
    #[error(
        "function `{function}` is woken by single events (a trigger without `batch`, or \
         `on_success` or `on_failure` of another), but exports only `{BATCH_HANDLER}`: export \
         `{HANDLER}` too (in Rust `function_sdk::export!(NAME, batch: NAME);`), or give the trigger \
         a `batch`"
    )]
    NoEventHandler {
        /// Which function.
        function: String,
    },
    /// Import or export of the right name but the wrong type.
    #[error("the component does not fit holm:function{VERSION}: {0}")]
    Contract(String),
    /// It asks for more than this gateway gives to any function.
    #[error(
        "function `{function}` asks for {asked} bytes of `memory`, this gateway gives at most \
         {max}: lower it in holm.toml or raise `function_memory` in [limits]"
    )]
    Memory {
        /// Which function.
        function: String,
        /// What its manifest says.
        asked: u64,
        /// The gateway's bound.
        max: u64,
    },
}

impl Runtime {
    /// Starts engine and epoch thread. With a `cache_dir`, compiled code is kept there.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn new(
        settings: EngineSettings,
        compiler: Compiler,
        cache_dir: Option<&Path>,
    ) -> Result<Self, RuntimeError> {
        let limit = getrlimit(Resource::As).current;
        let (engine, settings) = engine::running(settings, limit).map_err(RuntimeError::Engine)?;
        let mut linker = Linker::new(&engine);
        function::Function::add_to_linker::<_, HasSelf<_>>(&mut linker, |host| host)
            .map_err(RuntimeError::Engine)?;
        batching::holm::function::batch::add_to_linker::<_, HasSelf<_>>(&mut linker, |host| host)
            .map_err(RuntimeError::Engine)?;
        let ticker = Arc::new(Ticker::start(engine.clone())?);
        let cache = cache_dir.map(|dir| ArtifactCache::open(dir, &engine)).transpose()?;
        Ok(Self { engine, linker, ticker, settings, compiler, cache })
    }

    /// Sizes that this runtime has: no more slots than there was address space for.
    #[must_use]
    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// Ends every attempt in work as if its time were up.
    pub fn end_attempts(&self) {
        self.ticker.end_all();
    }

    /// The cache of compiled code, where there is one.
    #[must_use]
    pub fn cache(&self) -> Option<&ArtifactCache> {
        self.cache.as_ref()
    }

    /// Compiles `component`, or takes it from the cache, and checks it against the contract.
    /// Blocks for as long as the compiler runs.
    ///
    /// # Errors
    /// See [`PrepareError`]: nothing of the component has run then.
    pub fn prepare(
        &self,
        component: &[u8],
        profile: FunctionProfile,
    ) -> Result<Arc<Prepared>, PrepareError> {
        let max = self.settings.function_memory_bytes_max;
        if profile.limits.memory_bytes > max {
            return Err(PrepareError::Memory {
                function: short_name(&profile.function).to_owned(),
                asked: profile.limits.memory_bytes,
                max,
            });
        }
        let compiled = self.load(component)?;
        self.check_imports(&compiled)?;
        let pre = self.linker.instantiate_pre(&compiled).map_err(contract)?;
        let exports = Exports::of(&self.engine, &compiled, &pre)?;
        profile.needs.are_met(&profile.function, exports.offers())?;
        let ticker = Arc::clone(&self.ticker);
        let engine = self.engine.clone();
        Ok(Arc::new(Prepared { profile: Arc::new(profile), engine, exports, ticker }))
    }

    fn load(&self, component: &[u8]) -> Result<Component, PrepareError> {
        compile::check_component(component)?;
        let Some(cache) = &self.cache else {
            let artifact = self.compiler.compile(component, &self.settings)?;
            return trusted::load(&self.engine, &artifact)
                .map_err(|error| PrepareError::Compile(CompileError::Load(format!("{error:#}"))));
        };
        if let Some(artifact) = cache.get(component) {
            match trusted::load(&self.engine, &artifact) {
                Ok(loaded) => return Ok(loaded),
                Err(error) => tracing::warn!("compiling again what does not load: {error:#}"),
            }
        }
        let artifact = self.compiler.compile(component, &self.settings)?;
        if let Err(error) = cache.put(component, &artifact) {
            tracing::warn!("compiled code could not be kept: {error}");
        }
        trusted::load(&self.engine, &artifact)
            .map_err(|error| PrepareError::Compile(CompileError::Load(format!("{error:#}"))))
    }

    fn check_imports(&self, component: &Component) -> Result<(), PrepareError> {
        for (name, _) in component.component_type().imports(&self.engine) {
            if name.starts_with(PACKAGE) && name.ends_with(VERSION) {
                continue;
            }
            let hint = if name.starts_with("wasi:") {
                "; build Rust functions for wasm32-unknown-unknown, which imports no WASI"
            } else {
                ""
            };
            return Err(PrepareError::Import { import: name.to_owned(), hint });
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function of `map_err`")]
pub(super) fn contract(error: wasmtime::Error) -> PrepareError {
    PrepareError::Contract(format!("{error:#}"))
}

/// A function that is ready to run: compiled, checked and told what it may. Attempts may run on
/// many threads at once.
pub struct Prepared {
    profile: Arc<FunctionProfile>,
    engine: Engine,
    exports: Exports,
    ticker: Arc<Ticker>,
}

impl Prepared {
    /// Who it is and what it may.
    #[must_use]
    pub fn profile(&self) -> &Arc<FunctionProfile> {
        &self.profile
    }

    /// Whether it can carry state over from an older `state_version`.
    #[must_use]
    pub fn can_migrate(&self) -> bool {
        self.exports.migrating.is_some()
    }

    /// Whether it takes single events.
    #[must_use]
    pub fn takes_events(&self) -> bool {
        self.exports.function.is_some()
    }

    /// Whether it takes batches.
    #[must_use]
    pub fn takes_batches(&self) -> bool {
        self.exports.batching.is_some()
    }

    /// Runs one attempt on the calling thread, which must have room on its stack for
    /// `call_stack_bytes` and 256 KiB of the host's own.
    #[must_use]
    pub fn run(&self, attempt: &Attempt) -> Report {
        attempt::run(self, &self.ticker, attempt)
    }

    /// Lets the function turn one set of keys, as `from_version` left it, into its own.
    ///
    /// # Errors
    /// The fault or the refusal, for the report of the deployment.
    pub fn migrate(
        &self,
        from_version: u32,
        device: Option<&DeviceId>,
        entries: Vec<(String, Bytes)>,
    ) -> Result<Vec<(String, Bytes)>, Fault> {
        let entries = entries.into_iter().map(|(key, value)| (key, Vec::from(value))).collect();
        let device = device.map(|device| device.as_str().to_owned());
        let old = OldState { version: from_version, device, entries };
        let new = attempt::migrate(self, &self.ticker, &old)?;
        Ok(new.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect())
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn function(&self) -> Option<&FunctionPre<AttemptHost>> {
        self.exports.function.as_ref()
    }

    pub(super) fn batching(&self) -> Option<&BatchFunctionPre<AttemptHost>> {
        self.exports.batching.as_ref()
    }

    pub(super) fn migrating(&self) -> Option<&MigratorPre<AttemptHost>> {
        self.exports.migrating.as_ref()
    }
}
