//! Misbehaves as the last level of the event's topic says.
#![expect(clippy::infinite_iter, reason = "that is the point")]

use std::hint::black_box;

use function_sdk::prelude::*;

fn rogue(event: Event) -> Result {
    let how = event.topic.rsplit('/').next().unwrap_or_default();
    match how {
        "fine" => {}
        "loop" => endless(),
        "recurse" => log!("{}", recurse(0)),
        "recurse-lean" => log!("{}", recurse_lean(black_box(1))),
        "big-frame" => log!("{}", big_frame(event.payload.len())),
        "allocate" => allocate(),
        "touch" => touch(event.text()?.parse()?),
        "panic" => panic!("on purpose: {}", event.text()?),
        "index" => log!("{}", event.payload[black_box(10_000)]),
        "divide" => log!("{}", black_box(1) / event.payload.len()),
        "log" => (0..).for_each(|n| log!("flood {n}")),
        "log-empty" => (0..).for_each(|_: u64| log!("")),
        "publish" => (0..).for_each(|n| publish(format!("rogue/{n}")).text("flood")),
        "publish-bytes" => publish("rogue/big").bytes(vec![0; 300 << 10]),
        "publish-huge" => publish("rogue/huge").bytes(vec![0; 8 << 20]),
        "publish-properties" => many_properties(),
        "record" => (0..).for_each(|n: u64| record("n").bytes(&n.to_le_bytes(), "n")),
        "denied-publish" => publish("secret/door").text("open"),
        "denied-record" => record("secret").bytes(b"", "x"),
        "for-event" => for_event(0),
        "wildcard" => publish("rogue/+").text("x"),
        "state" => state::put("k", b"v"),
        "state-key" => state::put(&"k".repeat(257), b"v"),
        "state-flood" => (0..).for_each(|n| state::put(&format!("{n:08}"), &[0; 1024])),
        "leak" => leak()?,
        "read-own" => read_own()?,
        other => reject!("no such misbehaviour: {other}"),
    }
    Ok(())
}

fn endless() {
    loop {
        black_box(0);
    }
}

#[inline(never)]
fn recurse(n: u64) -> u64 {
    let frame = black_box([n; 64]);
    if n == u64::MAX { 0 } else { recurse(n + 1) + frame[3] }
}

/// Needs no shadow stack: only the native one grows.
#[inline(never)]
fn recurse_lean(n: u64) -> u64 {
    if n == 0 { 0 } else { recurse_lean(n.wrapping_add(2)).wrapping_add(n) ^ n }
}

#[inline(never)]
fn big_frame(n: usize) -> usize {
    let frame = black_box([n; 100 << 10]);
    frame[n]
}

fn allocate() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 1 << 20]));
    }
}

fn touch(bytes: usize) {
    black_box(vec![7_u8; bytes]);
}

fn many_properties() {
    let mut message = publish("rogue/p");
    for _ in 0..200_000 {
        message = message.property("", "");
    }
    message.text("x");
}

/// Leaves a mark in memory that a later attempt must not find.
fn leak() -> Result {
    use std::sync::atomic::{AtomicU32, Ordering};
    static MARK: AtomicU32 = AtomicU32::new(0);
    let before = MARK.fetch_add(1, Ordering::Relaxed);
    let stale = vec![0_u8; 256 << 10];
    let dirty = stale.iter().filter(|byte| **byte != 0).count();
    black_box(vec![0xaa_u8; 2 << 20]);
    publish("rogue/leak").json(&(before, dirty))
}

/// Reads its own writes, over what was there before.
fn read_own() -> Result {
    let before = state::get("b");
    state::put("b", b"new");
    state::delete("c");
    state::put("d", b"own");
    let keys: Vec<String> = state::scan("", None, 10).entries.into_iter().map(|e| e.0).collect();
    let seen = (before, state::get("b"), state::get("c"), keys);
    publish("rogue/seen").json(&seen)
}

function_sdk::export!(rogue);
