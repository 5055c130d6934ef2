//! The counter with a new shape of state: `n` became `total`, in postcard, times ten.

use function_sdk::prelude::*;
use function_sdk::{NewState, OldState};

fn counter(event: Event) -> Result {
    let total = state::postcard("total").update(|total: &mut u64| *total += 10)?;
    publish(format!("count/{}", event.device.as_deref().unwrap_or("all"))).json(&total)
}

fn migrate(old: OldState) -> Result<NewState> {
    let mut new = NewState::default();
    match old.device.as_deref() {
        Some("panics") => panic!("migrate panics on purpose"),
        Some("refuses") => reject!("cannot read version {}", old.version),
        Some("publishes") => publish("count/x").text("x"),
        Some("twice") => new.put("total", [0]),
        _ => {}
    }
    if let Some(n) = old.json::<u64>("n")? {
        new.put_postcard("total", &(n * 10))?;
    }
    Ok(new)
}

function_sdk::export!(counter, migrate: migrate);
