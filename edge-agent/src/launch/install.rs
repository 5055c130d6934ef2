//! An update into the free slot: written beside, read back, asked what it is, named, and given its trial.

use edge_core::boot::{Before, Offer, Refusal, Slot, Source, State, TRIES_DEFAULT, Terms, Version};

use super::slots::Slots;
use super::{TARGET, probe};

/// Why the slot of the program that runs is not written, though the state takes it for free: the launcher
/// found the confirmed program damaged, and could not write that down.
pub const RUNNING: &str = "this agent runs from the slot that the update would be written into, because the \
                           launcher could not write the state of the slots: restart the service once the disk \
                           takes writes";

/// An update, and what it begins with.
#[derive(Clone, Debug)]
pub struct Update<'a> {
    /// What is offered.
    pub offer: &'a Offer,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The slot that the agent runs from which writes it.
    pub running: Slot,
    /// Who brought it.
    pub by: Source,
    /// How things are before it.
    pub before: Before,
    /// The format that the data is in.
    pub data: u32,
}

/// Does all of it; afterwards the next start is the first try of the update. Takes seconds. One that has
/// its trial already, from a call that nobody heard the end of, is left as it is.
///
/// # Errors
/// What was refused, and why; the running program and its slot are as they were. So is the program before
/// it, unless the update has passed all questions.
pub fn install(slots: &Slots, update: &Update<'_>) -> Result<(), String> {
    let io = |what: &str| {
        let what = format!("{what} in {}", slots.dir().display());
        move |error: std::io::Error| format!("{what}: {error}")
    };
    let Update { offer, bytes, running, by, before, data } = *update;
    let read = || slots.change(|_| None).map_err(io("reading the state"));
    let slot = read()?.free();
    if slot == running {
        return Err(RUNNING.to_owned());
    }
    let beside = slots.write_beside(slot, bytes, offer.program.digest);
    let beside = beside.map_err(io("writing the program"))?;
    // Nobody else writes a program from here on.
    let state = read()?;
    if has_trial(&state, offer) {
        return Ok(());
    }
    assert!(state.free() == slot, "the confirmed slot does not change while its agent runs");
    state.admit(offer).map_err(|refusal| refusal.to_string())?;
    ask(beside.path(), offer, &state, data)?;
    let forgotten = slots.change(|state| state.trial.is_none().then(|| state.forget_free()));
    forgotten.map_err(io("writing the state"))?;
    beside.name().map_err(io("writing the program"))?;
    let terms = Terms { by, before, tries: TRIES_DEFAULT, data };
    let begun = slots.change(|state| Some(state.begin_trial(offer, terms)));
    begun.map(|_| ()).map_err(io("writing the state"))
}

/// Whether this very update has its trial already.
fn has_trial(state: &State, offer: &Offer) -> bool {
    let program = state.on_trial().and_then(|slot| state.program(slot));
    program.is_some_and(|program| program.digest == offer.program.digest)
}

/// Asks the program what it is.
fn ask(path: &std::path::Path, offer: &Offer, state: &State, data: u32) -> Result<(), String> {
    let about = probe::ask(path).map_err(|error| error.to_string())?;
    if about.target != TARGET {
        return Err(format!("it is built for {}, this agent for {TARGET}", about.target));
    }
    if about.version.parse::<Version>() != Ok(offer.program.version) {
        let (says, offered) = (about.version, offer.program.version);
        return Err(format!(
            "it calls itself {says}, its deployment {offered}: mend `version` in [agent]"
        ));
    }
    state.check_formats(about.formats, data).map_err(|refusal: Refusal| refusal.to_string())
}
