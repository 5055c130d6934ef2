//! Lanes, workers and pauses of functions, seen from outside.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use edge_broker::codec::Packet;
use serde_json::Value;
use system_tests::connections::Latency;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::wait_for;

use crate::functions::{Device, function, rogue};
use crate::support::{PATIENCE, author, bundle};

/// Jobs of a flood that an event of a quiet function may wait for, at the median: those that run when it comes end one
/// after the other, and on a busy machine the longest of them takes several times its mean.
const JOBS_BEFORE: f64 = 4.0;

fn gateway(dir: &std::path::Path, app: &str) -> Result<Gateway> {
    let setup = Setup { author_keys: vec![author().key()?], ..Setup::open("barn") };
    let mut gateway = Gateway::new(dir, &setup)?;
    gateway.start()?;
    gateway.deploy(&bundle(app))?;
    Ok(gateway)
}

/// `ordered = "body.machine"`: state is of the machine, whichever device tells of it, and it is
/// there after a restart; what names no machine is in a lane of its own.
#[test]
fn state_is_kept_by_a_field_of_the_body() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path(), "lanes")?;
    let count = |gateway: &Gateway, lane: &str| -> Result<String> {
        let state = gateway.ask(&["state", "lanes/by-machine", "--lane", lane])?;
        Ok(state[0]["value"]["text"].as_str().unwrap_or_default().to_owned())
    };
    for (device, body) in [
        ("a", r#"{"machine": "m1"}"#),
        ("b", r#"{"machine": "m1"}"#),
        ("a", r#"{"machine": 7}"#),
        ("b", "not json"),
    ] {
        Device::new(&gateway, device)?.publish(&format!("machines/{device}"), body)?;
    }
    gateway.wait_idle(PATIENCE)?;
    for (lane, expected) in [("m1", "2"), ("7", "1"), ("", "1"), ("a", "")] {
        assert_eq!(count(&gateway, lane)?, expected, "{lane:?}");
    }
    assert_eq!(gateway.status()?["core"]["counters"]["keyless"], 1);
    gateway.stop()?;
    gateway.start()?;
    Device::new(&gateway, "c")?.publish("machines/c", r#"{"machine": "m1"}"#)?;
    gateway.wait_idle(PATIENCE)?;
    assert_eq!(count(&gateway, "m1")?, "3");
    let all = gateway.ask(&["state", "lanes/by-machine"])?;
    let lanes: Vec<&Value> =
        all.as_array().into_iter().flatten().map(|row| &row["device"]).collect();
    assert_eq!(lanes, ["7", "m1", ""], "{all:#}");
    gateway.stop()
}

/// A pause is there after a restart, and an operator ends it.
#[test]
fn a_pause_outlives_a_restart_and_ends_by_hand() -> Result<()> {
    const EVENTS: usize = 12;
    let dir = tempfile::tempdir()?;
    let (mut gateway, mut device) = rogue(dir.path(), "")?;
    for _ in 0..EVENTS {
        device.publish("broken-in/panic", "")?;
    }
    let paused = |gateway: &Gateway| {
        wait_for(PATIENCE, "the pause", || {
            let status = gateway.status()?;
            let paused = !function(&status, "rogue/broken")["paused_ms"].is_null();
            Ok(paused.then_some(status))
        })
    };
    let status = paused(&gateway)?;
    let reasons = status["degraded"].to_string();
    assert!(reasons.contains("rogue/broken is paused after 1"), "{reasons}");
    // Its ack follows all batches before.
    device.publish("quiet-in/x", "")?;
    gateway.kill()?;
    gateway.start()?;
    let status = gateway.status()?;
    assert!(!function(&status, "rogue/broken")["paused_ms"].is_null(), "{}", status["core"]);
    let resume = |name: &str| -> Result<String> {
        let output = gateway.agent(&["functions", "resume", name])?.output()?;
        Ok(String::from_utf8(output.stderr)?)
    };
    assert_eq!(resume("rogue/broken")?, "");
    wait_for(PATIENCE, "the log of it", || {
        Ok(gateway.printed().contains("FunctionResumed").then_some(()))
    })?;
    assert!(resume("rogue/quiet")?.contains("rogue/quiet is not paused"));
    assert!(resume("rogue/none")?.contains("no function \"rogue/none\" is live here"));
    paused(&gateway)?;
    gateway.stop()
}

/// Sends to a function as fast as it is acked, until told to stop.
fn flood(
    gateway: &Gateway,
    name: &str,
    bytes: &str,
    stop: &AtomicBool,
    acked: &AtomicU64,
) -> Result<()> {
    const WINDOW: usize = 16;
    let mut device = Device::new(gateway, name)?;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..WINDOW {
            device.send(&format!("{name}-in/touch"), bytes)?;
        }
        device.acks(WINDOW, PATIENCE)?;
        acked.fetch_add(WINDOW as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// From the publish of a device to the arrival of what the function publishes.
fn latency(gateway: &Gateway, name: &str, count: usize) -> Result<Latency> {
    let mut device = Device::new(gateway, &format!("device of {name}"))?;
    let mut listener = Device::new(gateway, &format!("listener of {name}"))?;
    listener.subscribe(&format!("echo/{name}-in/x"))?;
    let mut took = Vec::with_capacity(count);
    for n in 0..count {
        let begin = Instant::now();
        device.send(&format!("{name}-in/x"), &n.to_string())?;
        match listener.client.next(PATIENCE)? {
            Some(Packet::Publish(publish)) if publish.payload == n.to_string().as_bytes() => {}
            other => bail!("not the echo of {n}: {other:?}"),
        }
        took.push(begin.elapsed());
        device.acks(1, PATIENCE)?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Latency::of(took))
}

/// Worker time and backlog of the five that flood.
fn flooded(status: &Value) -> Vec<(u64, u64)> {
    let of = |n: usize| {
        let row = function(status, &format!("flood/flood-{n}"));
        (row["worker_us"].as_u64().unwrap_or(0), row["jobs"].as_u64().unwrap_or(0))
    };
    (1..=5).map(of).collect()
}

/// Five functions are sent more than all workers can do, one of them four times as much work an
/// event. Each gets about the same worker time, and the quiet ones are as quick as they need to be:
/// an event of theirs is the next to be started, so it waits for a job or two of those that run. How
/// long these take is measured in the same run; a bound in milliseconds would judge the machine.
#[test]
fn quiet_functions_are_quick_beside_a_flood() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut gateway = gateway(dir.path(), "flood")?;
    let alone = latency(&gateway, "quiet", 100)?;
    let (stop, acked) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 5]);
    // Of the function with the longest jobs: worker time, and events done.
    let done = |status: &Value| {
        let (worker_us, jobs) = flooded(status)[0];
        (worker_us, acked[0].load(Ordering::Relaxed).saturating_sub(jobs))
    };
    let (beside, reserved, times, longest_ms) = std::thread::scope(|scope| -> Result<_> {
        let senders: Vec<_> = (1..=5)
            .map(|n| {
                let bytes = if n == 1 { "8000000" } else { "2000000" };
                let (gateway, stop, acked) = (&gateway, &stop, &acked[n - 1]);
                scope.spawn(move || flood(gateway, &format!("flood-{n}"), bytes, stop, acked))
            })
            .collect();
        let measured = (|| {
            let begin = wait_for(PATIENCE, "a backlog of each", || {
                let status = gateway.status()?;
                Ok(flooded(&status).iter().all(|(_, jobs)| *jobs >= 16).then_some(status))
            })?;
            let before = done(&begin);
            let beside = latency(&gateway, "quiet", 200)?;
            let reserved = latency(&gateway, "reserved", 200)?;
            let end = gateway.status()?;
            let times: Vec<u64> = flooded(&end)
                .iter()
                .zip(flooded(&begin))
                .map(|((end, _), (begin, _))| end - begin)
                .collect();
            let after = done(&end);
            let events = after.1.saturating_sub(before.1).max(1);
            let longest_ms = (after.0 - before.0) as f64 / events as f64 / 1_000.0;
            Ok::<_, anyhow::Error>((beside, reserved, times, longest_ms))
        })();
        stop.store(true, Ordering::Relaxed);
        for sender in senders {
            sender.join().expect("no panic")?;
        }
        measured
    })?;
    println!("quiet function, publish to its own publish: alone {alone}");
    println!("beside five that are flooded {beside}; with a reserved worker {reserved}");
    println!("worker time of the five in us: {times:?}; the longest jobs take {longest_ms:.1} ms");
    let (least, most) = (times.iter().min(), times.iter().max());
    let (least, most) = (least.context("five")?, most.context("five")?);
    // Taking turns by events would give the first one four times as much. It is not exactly even:
    // on a busy machine a sender may fall behind for a moment.
    assert!(*most < *least * 2, "worker time is shared: {times:?}");
    for quiet in [beside, reserved] {
        let most_ms = alone.p99_ms + JOBS_BEFORE * longest_ms;
        assert!(quiet.p50_ms < most_ms, "alone {alone}; beside a flood {quiet}; {longest_ms:.1}");
    }
    gateway.kill()
}
