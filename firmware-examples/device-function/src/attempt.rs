//! One attempt: a fresh sandbox, one call, one report.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use wasmtime::{
    AsContextMut, Error, Instance, ResourceLimiter, Result, Store, WasmParams, WasmResults,
};

use crate::abi::{Failure, Guest, Lift, Lower};
use crate::effects::{Effects, Event, Fault, LogLine, Outcome, Publication, Record, Report};
use crate::engine::{Function, MaySend};
use crate::fault;
use crate::image::Header;
use crate::state::{Session, State};

const HANDLE: &str = "holm:function/handler@0.1.0#handle";
const POST_HANDLE: &str = "cabi_post_holm:function/handler@0.1.0#handle";
/// What a component calls first, where its module exports it.
const INITIALIZE: &str = "_initialize";
/// Elements of a function's tables: each takes heap of the device.
const TABLE_ELEMENTS_MAX: usize = 2_048;

/// What one attempt collects, and what it may.
pub(crate) struct Attempt {
    pub(crate) header: Arc<Header>,
    pub(crate) may_send: MaySend,
    pub(crate) session: Session,
    pub(crate) publishes: Vec<Publication>,
    pub(crate) publish_bytes: usize,
    pub(crate) records: Vec<Record>,
    pub(crate) record_bytes: usize,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) log_bytes: usize,
    /// `None` while the sandbox is being made: nothing can be handed over then.
    pub(crate) guest: Option<Guest>,
    /// Not while the device itself asks for room or lets it be freed.
    pub(crate) may_call: bool,
    /// A growth of memory was refused.
    pub(crate) memory_refused: bool,
    /// The first refused call.
    pub(crate) refused: Option<Fault>,
    /// Last words of a panic.
    pub(crate) panic: Option<String>,
}

impl Attempt {
    fn new(function: &Function, state: State) -> Self {
        Self {
            header: Arc::clone(function.header()),
            may_send: function.may_send(),
            session: Session::new(state),
            publishes: Vec::new(),
            publish_bytes: 0,
            records: Vec::new(),
            record_bytes: 0,
            logs: Vec::new(),
            log_bytes: 0,
            guest: None,
            may_call: true,
            memory_refused: false,
            refused: None,
            panic: None,
        }
    }
}

/// A refused growth ends the attempt: told `-1`, most programs abort without a word about why.
impl ResourceLimiter for Attempt {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        if desired > self.header.limits.memory as usize {
            self.memory_refused = true;
            return Err(Error::msg("memory limit"));
        }
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: Error) -> Result<()> {
        self.memory_refused = true;
        Err(error)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

/// Runs one attempt. `state` changes if it returns ok.
pub(crate) fn run(function: &Function, event: &Event, state: &mut State) -> Report {
    let fuel_given = function.header().limits.fuel;
    let attempt = Attempt::new(function, mem::take(state));
    let mut store = Store::new(function.pre().module().engine(), attempt);
    store.limiter(|attempt| attempt);
    let returned = store.set_fuel(fuel_given).and_then(|()| call(function, &mut store, event));
    let fuel = fuel_given - store.get_fuel().unwrap_or_default().min(fuel_given);
    let memory = store.data().guest.as_ref().map(|guest| guest.memory);
    let memory_bytes = memory.map_or(0, |memory| memory.data_size(&store));
    let mut attempt = store.into_data();
    let logs = mem::take(&mut attempt.logs);
    let outcome = match returned {
        Ok(Ok(())) => Outcome::Done(apply(attempt, state)),
        Ok(Err(failure)) => {
            (*state, _) = attempt.session.into_parts();
            match failure {
                Failure::Retry(reason) => Outcome::Retry(reason),
                Failure::Reject(reason) => Outcome::Reject(reason),
            }
        }
        Err(error) => {
            let fault = fault::of(&error, &mut attempt);
            (*state, _) = attempt.session.into_parts();
            Outcome::Fault(fault)
        }
    };
    let memory_bytes = u32::try_from(memory_bytes).unwrap_or(u32::MAX);
    Report { outcome, logs, fuel, memory_bytes }
}

fn apply(attempt: Attempt, state: &mut State) -> Effects {
    let (base, changes) = attempt.session.into_parts();
    *state = base;
    state.apply(&changes);
    Effects { publishes: attempt.publishes, records: attempt.records, state: changes }
}

/// Makes the sandbox and calls `handle` in it, as the component would: lower the event, call, lift
/// the result, call the function that frees it.
fn call(
    function: &Function,
    store: &mut Store<Attempt>,
    event: &Event,
) -> Result<core::result::Result<(), Failure>> {
    let instance = function.pre().instantiate(&mut *store)?;
    let memory = instance.get_memory(&mut *store, "memory");
    let memory = memory.ok_or_else(|| Error::msg("the module exports no memory"))?;
    let realloc = instance.get_typed_func(&mut *store, "cabi_realloc")?;
    let guest = Guest { memory, realloc };
    store.data_mut().guest = Some(guest.clone());
    call_if_there(&instance, store, INITIALIZE, ())?;
    let handle = instance.get_typed_func::<u32, u32>(&mut *store, HANDLE)?;
    let event = Lower { store: store.as_context_mut(), guest }.event(event)?;
    let at = handle.call(&mut *store, event)?;
    let returned = Lift(memory.data(&*store)).result(at)?;
    store.data_mut().may_call = false;
    call_if_there(&instance, store, POST_HANDLE, at)?;
    Ok(returned)
}

fn call_if_there<P: WasmParams>(
    instance: &Instance,
    store: &mut Store<Attempt>,
    name: &str,
    parameters: P,
) -> Result<()>
where
    (): WasmResults,
{
    if instance.get_func(&mut *store, name).is_none() {
        return Ok(());
    }
    let there = instance.get_typed_func::<P, ()>(&mut *store, name)?;
    there.call(&mut *store, parameters)
}
