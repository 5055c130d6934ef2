//! An update into the free slot: written, read back, asked what it is, and given its trial.

use edge_core::boot::{Before, Offer, TRIES_DEFAULT, Version};

use super::slots::Slots;
use super::{TARGET, probe};

/// Does all of it; afterwards the next start is the first try of the update. Takes seconds.
///
/// `data` is the format that the data is in.
///
/// # Errors
/// What was refused, and why; the running program and its slot are as they were.
pub fn install(
    slots: &Slots,
    offer: &Offer,
    bytes: &[u8],
    before: Before,
    data: u32,
) -> Result<(), String> {
    let io = |what: &str| {
        let what = format!("{what} in {}", slots.dir().display());
        move |error: std::io::Error| format!("{what}: {error}")
    };
    let stored = slots.load().map_err(io("reading the state"))?;
    let state = stored.ok_or("the state of the slots cannot be read: restart the launcher")?.state;
    state.admit(offer).map_err(|refusal| refusal.to_string())?;
    let slot = state.free();
    slots.save(&state.forget_free()).map_err(io("writing the state"))?;
    slots.install(slot, bytes, offer.program.digest).map_err(io("writing the program"))?;
    let about = probe::ask(&slots.program(slot))?;
    if about.target != TARGET {
        return Err(format!("it is built for {}, this agent for {TARGET}", about.target));
    }
    if about.version.parse::<Version>() != Ok(offer.program.version) {
        let (says, offered) = (about.version, offer.program.version);
        return Err(format!(
            "it calls itself {says}, its deployment {offered}: mend `version` in [agent]"
        ));
    }
    state.check_formats(about.formats, data).map_err(|refusal| refusal.to_string())?;
    let next = state.begin_trial(offer, before, TRIES_DEFAULT, data);
    slots.save(&next).map_err(io("writing the state"))
}
