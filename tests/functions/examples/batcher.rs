//! Takes batches: the payload of each event says how it ends.
//!
//! Each event that is done counts in the state of its lane, is recorded in the series `done` and
//! published to `batch/done/SIZE` with its payload, SIZE being that of the batch. The number of
//! done events of each batch goes to `batch/whole`. A payload may begin with `fail-once`, `retry`,
//! `reject`, `trap`, or `all-retry`, which is said of the whole batch; `slow` takes a while.

use std::hint::black_box;

use function_sdk::prelude::*;

fn batcher(batch: Batch) -> Result<Failures> {
    let size = batch.events.len();
    if batch.events.iter().any(|event| event.payload.starts_with(b"all-retry")) {
        retry!("asked to, for all {size}");
    }
    let mut done = 0;
    let failures = batch.each(|event| {
        one(&event, size)?;
        done += 1;
        Ok(())
    });
    if done > 0 {
        publish("batch/whole").json(&done)?;
    }
    Ok(failures)
}

fn one(event: &Event, size: usize) -> Result {
    let text = event.text()?;
    publish(format!("batch/done/{size}")).text(text);
    record("done").bytes(text.as_bytes(), "text/plain");
    match text.split(' ').next().unwrap_or_default() {
        "fail-once" if event.attempt == 1 => retry!("asked to, once"),
        "retry" => retry!("asked to, in attempt {}", event.attempt),
        "reject" => reject!("asked to"),
        "trap" => panic!("asked to, with {size}"),
        "slow" => spin(),
        _ => {}
    }
    if config::get("count").is_some() {
        state::json("n").update(|n: &mut u64| *n += 1)?;
    }
    Ok(())
}

fn spin() {
    for n in 0..20_000_000_u64 {
        black_box(n);
    }
}

/// What a trigger without `batch` brings.
fn alone(event: Event) -> Result {
    publish("batch/alone").text(event.text()?);
    Ok(())
}

function_sdk::export!(alone, batch: batcher);
