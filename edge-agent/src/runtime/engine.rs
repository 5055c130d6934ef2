//! The engine: what is compiled into an artifact, what memory is reserved, and the clock that
//! ends attempts.
//!
//! - [`engine_config`] alone decides what is compiled into an artifact; the compiling child and
//!   the running process both use it, else artifacts would not load.
//! - The pool leaves room for the rest of the process ([`EngineSettings::fitted`]), and is made smaller where
//!   it finds none: address space is short under `ulimit -v`, in 32 bits, and where other programs' limits
//!   say so.
//! - The pool reserves `slots x (memory_bytes_max + 64 KiB)` of address space, 257 MiB with 16
//!   slots of 16 MiB. wasmtime's own defaults reserve 3.9 TiB.
//! - The epoch thread ticks every 10 ms while attempts run and sleeps when none has run for 100 ms.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, ModuleVersionStrategy,
    PoolingAllocationConfig, WasmFeatures,
};

use super::workers::HOST_STACK_BYTES;
use crate::settings::Limits;

/// The full version of the engine. wasmtime itself compares the major number only, so that code
/// from a compiler with a known fault would go on running after its correction.
pub const WASMTIME_VERSION: &str = "48.0.8";

/// Inaccessible bytes behind each linear memory.
const GUARD_BYTES: u64 = 64 << 10;
/// Size of a WebAssembly page.
const WASM_PAGE_BYTES: u64 = 64 << 10;
/// Core instances, tables and such per component: the function and its adapters.
const PARTS_PER_COMPONENT: u32 = 4;
/// Elements of one function table.
const TABLE_ELEMENTS: usize = 10_000;
/// Bytes of host-side metadata per component and per core instance.
const INSTANCE_BYTES: usize = 256 << 10;
/// Proposals that functions may not use: shared memory, a second heap, results that depend on the
/// hardware.
pub(super) const FEATURES_OFF: WasmFeatures = WasmFeatures::THREADS
    .union(WasmFeatures::SHARED_EVERYTHING_THREADS)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::LEGACY_EXCEPTIONS)
    .union(WasmFeatures::GC)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::STACK_SWITCHING)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::RELAXED_SIMD);
/// Address space of the rest: program, threads, store, heap.
const SPACE_BESIDE_BYTES: u64 = 512 << 20;
/// Address space of a process of 32 bits, as much of it as is left whole.
const SPACE_32_BYTES: u64 = 1_536 << 20;
/// Address space of an arena of glibc's allocator. A thread that allocates takes one for itself, up to so many
/// a core; then they share.
const ARENA_BYTES: u64 = 64 << 20;
const ARENAS_PER_CORE: u64 = 8;
/// Frames kept of a trap.
const BACKTRACE_FRAMES: usize = 64;

/// Length of one tick of the epoch.
pub(super) const TICK_MS: u64 = 10;
/// Longest time limit of an attempt.
const TIME_MS_MAX: u64 = sync_protocol::limits::TIME_MS_MAX as u64;
/// Ticks without an attempt after which the epoch thread sleeps.
const IDLE_TICKS: u32 = 10;

/// Sizes of the engine; part of `[limits]` in the gateway's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// Attempts in work at once: sandboxes reserved and worker threads. Default: four times the
    /// cores, at least 8.
    pub slots: u32,
    /// Largest `memory` that a function may ask for. It sets the address space per slot and is
    /// compiled into artifacts: a change recompiles them.
    pub function_memory_bytes_max: u64,
    /// Native stack of an attempt.
    pub call_stack_bytes: usize,
    /// Bytes of a used memory, and of a table, that are reset by copying and stay resident.
    pub keep_resident_bytes: usize,
    /// Reset only the pages that were written, where the kernel can tell (Linux 6.7).
    pub pagemap_scan: bool,
}

impl Default for EngineSettings {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            slots: u32::try_from(cores * 4).unwrap_or(u32::MAX).clamp(8, 256),
            function_memory_bytes_max: 16 << 20,
            call_stack_bytes: 256 << 10,
            keep_resident_bytes: 128 << 10,
            pagemap_scan: true,
        }
    }
}

impl From<&Limits> for EngineSettings {
    /// The sizes that an agent gives its runtime.
    fn from(limits: &Limits) -> Self {
        let all = Self::default();
        Self {
            slots: limits.workers.and_then(|n| u32::try_from(n).ok()).unwrap_or(all.slots),
            function_memory_bytes_max: limits.function_memory_bytes_max,
            call_stack_bytes: limits.call_stack_bytes,
            ..all
        }
    }
}

impl EngineSettings {
    /// `function_memory_bytes_max` in whole pages.
    pub(super) fn reservation_bytes(&self) -> u64 {
        self.function_memory_bytes_max.next_multiple_of(WASM_PAGE_BYTES)
    }

    /// Address space that a sandbox and its worker take, in bytes.
    fn slot_bytes(&self) -> u64 {
        const TABLES_BYTES: u64 =
            PARTS_PER_COMPONENT as u64 * (TABLE_ELEMENTS as u64 * 8).next_multiple_of(64 << 10);
        let stack = (self.call_stack_bytes as u64).saturating_add(HOST_STACK_BYTES as u64);
        let memory = self.reservation_bytes().saturating_add(GUARD_BYTES);
        memory.saturating_add(TABLES_BYTES).saturating_add(stack)
    }

    /// How many of the slots there is address space for, beside the rest of the process:
    /// `limit_bytes` is that of the process, if it has one, and `bits` is the length of an address.
    #[must_use]
    pub fn slots_that_fit(&self, limit_bytes: Option<u64>, bits: u32) -> u32 {
        let has_arenas = cfg!(target_env = "gnu") && bits > 32;
        let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
        let arenas = if has_arenas { ARENAS_PER_CORE.saturating_mul(cores) } else { 0 };
        self.slots_beside(arenas, limit_bytes, bits)
    }

    /// The same with so many arenas of the allocator, one for each of the first workers.
    fn slots_beside(&self, arenas: u64, limit_bytes: Option<u64>, bits: u32) -> u32 {
        let all = if bits <= 32 { Some(SPACE_32_BYTES) } else { None };
        let Some(space) = all.into_iter().chain(limit_bytes).min() else { return self.slots };
        // Little space is shared by halves, much leaves the rest what it may need.
        let room = space.saturating_sub(SPACE_BESIDE_BYTES.min(space / 2));
        let first = self.slot_bytes().saturating_add(ARENA_BYTES);
        let firsts = (room / first).min(arenas);
        let rest = room - firsts * first;
        let more = if firsts == arenas { rest / self.slot_bytes() } else { 0 };
        u32::try_from(firsts + more).unwrap_or(u32::MAX).min(self.slots)
    }

    /// The same with no more slots than there is address space for, but at least one.
    #[must_use]
    pub fn fitted(self, limit_bytes: Option<u64>, bits: u32) -> Self {
        let slots = self.slots_that_fit(limit_bytes, bits).max(1);
        Self { slots, ..self }
    }

    /// Address space that the pool reserves for sandboxes, in bytes.
    #[must_use]
    pub fn pool_bytes(&self) -> u64 {
        u64::from(self.slots).saturating_mul(self.reservation_bytes().saturating_add(GUARD_BYTES))
    }
}

/// Everything that is compiled into an artifact and must be equal where it is compiled and where
/// it runs, whatever cargo features either of them was built with.
///
/// # Errors
/// When the version string is too long for an artifact's header.
pub fn engine_config(settings: &EngineSettings) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        // Off by name: left alone they follow the cargo features of whoever builds.
        .wasm_features(FEATURES_OFF, false)
        .gc_support(false)
        .concurrency_support(false)
        // A recording must replay to the same bits on any hardware.
        .cranelift_nan_canonicalization(true)
        .epoch_interruption(true)
        .memory_reservation(settings.reservation_bytes())
        .memory_guard_size(GUARD_BYTES)
        .memory_reservation_for_growth(0)
        .memory_may_move(false)
        .guard_before_linear_memory(false)
        .max_wasm_stack(settings.call_stack_bytes)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES))
        .module_version(ModuleVersionStrategy::Custom(format!(
            "{WASMTIME_VERSION}+holm-{}",
            env!("CARGO_PKG_VERSION")
        )))?;
    Ok(config)
}

/// The engine that runs functions, and the sizes that it has: fitted to the process's limit of address space,
/// and with half as many slots as often as the system refuses theirs. It cannot compile: to set a compiler up
/// costs every start time, and memory for pages of the program that only a child needs.
pub(super) fn running(
    settings: EngineSettings,
    limit_bytes: Option<u64>,
) -> wasmtime::Result<(Engine, EngineSettings)> {
    let wanted = settings.slots;
    // Before it is taken: what the pool leaves is not enough for threads and heap.
    let mut settings = settings.fitted(limit_bytes, usize::BITS);
    loop {
        let mut config = engine_config(&settings)?;
        config.enable_compiler(false);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(&settings)?));
        match Engine::new(&config) {
            Ok(engine) => {
                if settings.slots < wanted {
                    let workers = settings.slots;
                    tracing::warn!(
                        wanted,
                        workers,
                        "address space is short: fewer workers, see `edge-agent doctor`"
                    );
                }
                return Ok((engine, settings));
            }
            // One that has another reason says it again of one slot.
            Err(_) if settings.slots > 1 => settings.slots /= 2,
            Err(error) => return Err(error),
        }
    }
}

/// The engine that only compiles: it reserves nothing.
pub(super) fn compiling(settings: &EngineSettings) -> wasmtime::Result<Engine> {
    Engine::new(&engine_config(settings)?)
}

fn pool(settings: &EngineSettings) -> wasmtime::Result<PoolingAllocationConfig> {
    let slots = settings.slots;
    let parts = slots.saturating_mul(PARTS_PER_COMPONENT);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(parts)
        .total_memories(slots)
        .total_tables(parts)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_core_instances_per_component(PARTS_PER_COMPONENT)
        .max_memories_per_component(1)
        .max_memories_per_module(1)
        .max_tables_per_component(PARTS_PER_COMPONENT)
        .max_tables_per_module(1)
        .max_memory_size(usize::try_from(settings.reservation_bytes())?)
        .table_elements(TABLE_ELEMENTS)
        .max_unused_warm_slots(slots)
        .decommit_batch_size(1)
        .linear_memory_keep_resident(settings.keep_resident_bytes)
        .table_keep_resident(settings.keep_resident_bytes)
        .pagemap_scan(if settings.pagemap_scan { Enabled::Auto } else { Enabled::No });
    Ok(pool)
}

/// Moves the engine's epoch while attempts run.
pub(super) struct Ticker {
    engine: Engine,
    shared: Arc<TickerShared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct TickerShared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

/// Says that an attempt runs, until dropped.
pub(super) struct Ticking<'a>(&'a TickerShared);

impl Ticker {
    pub(super) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(TickerShared::default());
        let (theirs, ticked) = (Arc::clone(&shared), engine.clone());
        let thread =
            thread::Builder::new().name("epoch".into()).spawn(move || theirs.run(&ticked))?;
        Ok(Self { engine, shared, thread: Some(thread) })
    }

    /// Ends every attempt in work, however much time it has left.
    pub(super) fn end_all(&self) {
        // An epoch later than any deadline set until now. An increment is one atomic addition.
        (0..=TIME_MS_MAX / TICK_MS + 1).for_each(|_| self.engine.increment_epoch());
    }

    pub(super) fn begin(&self) -> Ticking<'_> {
        // Sequentially consistent with the sleeper: either it sees this attempt or we see it
        // asleep.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.shared.rouse();
        }
        Ticking(&self.shared)
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.rouse();
        if let Some(thread) = self.thread.take() {
            // It cannot panic; were it to, there is nothing left to do about it here.
            let _ = thread.join();
        }
    }
}

impl TickerShared {
    fn rouse(&self) {
        let _held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(false, Ordering::SeqCst);
        self.wake.notify_all();
    }

    fn run(&self, engine: &Engine) {
        let mut idle_ticks = 0;
        while !self.stop.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(TICK_MS));
            engine.increment_epoch();
            idle_ticks = if self.running.load(Ordering::SeqCst) > 0 { 0 } else { idle_ticks + 1 };
            if idle_ticks >= IDLE_TICKS {
                self.sleep();
                idle_ticks = 0;
            }
        }
    }

    fn sleep(&self) {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, Ordering::SeqCst);
        while self.asleep.load(Ordering::SeqCst)
            && self.running.load(Ordering::SeqCst) == 0
            && !self.stop.load(Ordering::SeqCst)
        {
            held = self.wake.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_version_pinned_is_the_one_built() {
        let lock = include_str!("../../../Cargo.lock");
        let entry = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"\n");
        assert!(lock.contains(&entry), "WASMTIME_VERSION differs from Cargo.lock");
    }

    #[test]
    fn what_one_engine_compiles_the_other_runs() {
        const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
        let settings = EngineSettings::default();
        let artifact = compiling(&settings).unwrap().precompile_component(EMPTY).unwrap();
        let (running, _) = running(settings, None).unwrap();
        super::super::trusted::load(&running, &artifact).unwrap();
        assert!(running.precompile_component(EMPTY).is_err(), "it has no compiler");
    }

    #[test]
    fn slots_are_as_many_as_there_is_address_space_for() {
        let settings = EngineSettings { slots: 200, ..EngineSettings::default() };
        let fit = |limit: Option<u64>, bits| settings.slots_beside(0, limit, bits);
        assert_eq!(fit(None, 64), 200);
        assert_eq!(fit(Some(256 << 30), 64), 200, "39 bits of address");
        let slot = settings.slot_bytes();
        assert_eq!(fit(Some(SPACE_BESIDE_BYTES + 200 * slot), 64), 200);
        assert_eq!(fit(Some(SPACE_BESIDE_BYTES + 200 * slot - 1), 64), 199);
        assert_eq!(fit(Some(1_500_000 << 10), 64), 53);
        assert_eq!(fit(Some(3_000_000 << 10), 64), 135);
        assert_eq!(fit(None, 32), 57);
        assert_eq!(fit(Some(400_000 << 10), 32), 10, "by halves");
        assert_eq!(fit(Some(1 << 20), 64), 0);
        assert_eq!(settings.clone().fitted(Some(1 << 20), 64).slots, 1);
        let few = EngineSettings { slots: 8, ..EngineSettings::default() };
        assert_eq!(few.fitted(Some(3_000_000 << 10), 64).slots, 8);
        // Beside arenas: 53 workers and 135 were too many, and the agent did not start.
        let fit = |arenas, limit| settings.slots_beside(arenas, Some(limit), 64);
        let first = slot + ARENA_BYTES;
        assert_eq!(fit(16, SPACE_BESIDE_BYTES + 16 * first + 5 * slot), 21);
        assert_eq!(fit(16, SPACE_BESIDE_BYTES + 10 * first + slot), 10);
        let limit = SPACE_BESIDE_BYTES + 40 * slot;
        let (_, settled) = running(settings.clone(), Some(limit)).unwrap();
        assert_eq!(settled.slots, settings.slots_that_fit(Some(limit), 64), "at the start");
        assert!(settled.slots <= 40);
        let large = EngineSettings { function_memory_bytes_max: u64::MAX / 2, ..settings.clone() };
        assert_eq!(large.slots_that_fit(Some(1 << 40), 64), 0);
    }

    #[test]
    fn the_epoch_moves_while_an_attempt_runs_and_after_a_sleep() {
        let ticker = Ticker::start(Engine::default()).unwrap();
        let asleep = |want: bool| {
            let started = Instant::now();
            while ticker.shared.asleep.load(Ordering::SeqCst) != want {
                assert!(started.elapsed() < Duration::from_secs(30), "asleep is not {want}");
                thread::yield_now();
            }
        };
        asleep(true);
        let attempt = ticker.begin();
        asleep(false);
        drop(attempt);
        asleep(true);
    }
}
