//! Counts its events: the number goes to `count/DEVICE` and into the series `count`.
//!
//! A payload of `retry` or `reject` asks for just that, after counting.

use function_sdk::prelude::*;

fn counter(event: Event) -> Result {
    let n = state::json("n").update(|n: &mut u64| *n += 1)?;
    publish(format!("count/{}", event.device.as_deref().unwrap_or("all"))).json(&n)?;
    record("count").json(&n)?;
    log!("counted to {n}");
    match event.payload.as_slice() {
        b"retry" => retry!("asked to, at {n}"),
        b"reject" => reject!("asked to, at {n}"),
        _ => Ok(()),
    }
}

function_sdk::export!(counter);
