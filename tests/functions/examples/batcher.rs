//! Takes batches: the payload of each event says how it ends.
//!
//! Each event that is done is recorded in the series `done` and published to `batch/done/SIZE` with
//! its payload, SIZE being that of the batch. The number of done events of each batch goes to
//! `batch/whole`. A payload may begin with `fail-once`, `retry`,
//! `reject` or `trap`; with `all-retry`, which is said of the whole batch; with `beyond` or
//! `misnamed`: the function then speaks of an event that the batch does not have. With the setting
//! `spin` each event takes so many turns of a loop, and with `count` it is counted.

use std::hint::black_box;

use function_sdk::prelude::*;

fn batcher(batch: Batch) -> Result<Failures> {
    let size = batch.size();
    if batch.events().any(|(_, event)| event.payload.starts_with(b"all-retry")) {
        retry!("asked to, for all {size}");
    }
    let misnamed = batch.events().any(|(_, event)| event.payload.starts_with(b"misnamed"));
    let mut done = 0;
    let mut failures = batch.each(|event| {
        one(&event, size)?;
        done += 1;
        Ok(())
    });
    if misnamed {
        failures.add(size, Failure::Retry("nobody".to_owned()));
    }
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
        "beyond" => for_event(size),
        _ => {}
    }
    for turn in 0..config::get_or("spin", 0_u64)? {
        black_box(turn);
    }
    if config::get("count").is_some() {
        state::json("n").update(|n: &mut u64| *n += 1)?;
    }
    Ok(())
}

/// What a trigger without `batch` brings.
fn alone(event: Event) -> Result {
    publish("batch/alone").text(event.text()?);
    Ok(())
}

function_sdk::export!(alone, batch: batcher);
