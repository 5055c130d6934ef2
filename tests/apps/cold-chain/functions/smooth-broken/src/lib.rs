//! A version of `smooth` that must not stay: it carries the state over to a new shape, writes it,
//! and then traps, on every event. The gateway takes it back.

use cold_chain_model::{Moving, Reading};
use function_sdk::prelude::*;
use function_sdk::{NewState, OldState};

#[derive(Default, Serialize, Deserialize)]
struct Broken {
    moving: Moving,
}

fn smooth(event: Event) -> Result {
    let reading: Reading = event.json()?;
    let broken = state::postcard("broken").update(|broken: &mut Broken| {
        // Wrong on purpose: if any of this survived the take-back, the state would tell.
        let doubled = Reading { value: reading.value * 2.0, ..reading };
        let smoothed = broken.moving.observe(&doubled);
        log!("smoothed to {}", smoothed.mean);
    })?;
    panic!("version 3 cannot count beyond {}", broken.moving.count)
}

fn migrate(old: OldState) -> Result<NewState> {
    let mut new = NewState::default();
    if let Some(moving) = old.json("moving")? {
        new.put_postcard("broken", &Broken { moving })?;
    }
    Ok(new)
}

function_sdk::export!(smooth, migrate: migrate);
