//! What a gateway writes to the disk: for a message, and in an hour in which nothing happens.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use edge_broker::codec::{Packet, PacketId, Publish};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;

use crate::author::{Author, fixture};
use crate::gateway::{Gateway, Setup};
use crate::mqtt::{Client, Login};
use crate::process::wait_for;

const PATIENCE: Duration = Duration::from_secs(60);
/// An app is on probation for a minute; that it ends is written, and is nothing of the messages.
const PROBATION: Duration = Duration::from_secs(150);
/// What rides along with other batches, and the checkpoint a minute later, are of the messages.
const SETTLE: Duration = Duration::from_secs(70);
/// What each message has a function record: a job, its outcome, and a record of this many bytes.
const RECORD_BYTES: u32 = 100;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// `commit_interval` of the gateway, in milliseconds.
    pub interval_ms: u64,
    /// Messages in all.
    pub messages: u16,
    /// Messages a second.
    pub rate: u32,
    /// How long nothing happens then.
    pub idle: Duration,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Bytes in whole blocks that the store wrote, for a message.
    pub stored_per_message: u64,
    /// Bytes that the system says the process wrote (`/proc/PID/io`), for a message. It is far more than the store counts; that
    /// it counts large folios as a whole is a guess, and was not checked at the device.
    pub dirtied_per_message: u64,
    /// Syncs of the store while the messages came.
    pub syncs: u64,
    /// Median time from a message to its ack.
    pub ack_median: Duration,
    /// Bytes in whole blocks that the store writes in an idle hour.
    pub stored_per_idle_hour: u64,
}

/// Sends messages to a gateway of its own in `dir`, which is empty, and then lets it idle.
///
/// # Errors
/// The gateway does not do its part.
pub fn measure(dir: &Path, plan: Plan) -> Result<Figures> {
    let author = Author::new(&dir.join("author"))?;
    let setup = Setup {
        author_keys: vec![author.key()?],
        more: format!("[disk]\ncommit_interval = \"{} ms\"", plan.interval_ms),
        ..Setup::open("barn")
    };
    let mut gateway = Gateway::new(&dir.join("gateway"), &setup)?;
    gateway.start()?;
    let bundle = author.build(&fixture("apps/recorder"))?;
    gateway.ask(&["deploy", bundle.to_str().context("the path is not UTF-8")?])?;
    wait_for(PROBATION, "the app to be live", || {
        let status = gateway.status()?;
        Ok((status["deployments"]["apps"][0]["phase"] == "live").then_some(()))
    })?;
    gateway.wait_idle(PATIENCE)?;
    let (dirtied_before, before) = (dirtied(&gateway)?, stored(&gateway)?);
    let ack_median = send(&gateway, plan)?;
    gateway.wait_idle(PATIENCE)?;
    sleep(SETTLE);
    let (dirtied_after, after) = (dirtied(&gateway)?, stored(&gateway)?);
    sleep(plan.idle);
    let idle = stored(&gateway)?.0 - after.0;
    gateway.stop()?;
    let messages = u64::from(plan.messages);
    Ok(Figures {
        stored_per_message: (after.0 - before.0) / messages,
        dirtied_per_message: (dirtied_after - dirtied_before) / messages,
        syncs: after.1 - before.1,
        ack_median,
        stored_per_idle_hour: idle * 3_600 / plan.idle.as_secs().max(1),
    })
}

/// Sends the messages at their times; the median time to an ack.
fn send(gateway: &Gateway, plan: Plan) -> Result<Duration> {
    let mut client = Client::connect(&Login::anonymous(gateway.address(), "sensor"))?;
    let wish = format!("{{\"records\":1,\"bytes\":{RECORD_BYTES}}}");
    let (begun, each) = (Instant::now(), Duration::from_secs(1) / plan.rate);
    let due = |n: u16| begun + each * u32::from(n);
    let (mut sent, mut took) = (Vec::new(), Vec::new());
    while took.len() < usize::from(plan.messages) {
        let next = u16::try_from(sent.len())?;
        let now = Instant::now();
        let has_room = sent.len() - took.len() < usize::from(client.receive_max);
        if next < plan.messages && has_room && due(next) <= now {
            client.queue(&Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: Topic::new("sensors/filler")?,
                packet_id: PacketId::new(next + 1),
                expiry_s: None,
                subscription_ids: Vec::new(),
                properties: Properties::default(),
                payload: Bytes::from(wish.clone()),
            }));
            client.flush()?;
            sent.push(now);
            continue;
        }
        let wait = if next < plan.messages && has_room { due(next) - now } else { PATIENCE };
        match client.next(wait.max(Duration::from_millis(1)))? {
            Some(Packet::PubAck(ack)) if !ack.reason.is_error() => {
                let n = usize::from(ack.packet_id.get()) - 1;
                took.push(sent.get(n).context("an ack of nothing that was sent")?.elapsed());
            }
            None if next < plan.messages && has_room => {}
            other => bail!("no PUBACK: {other:?}"),
        }
    }
    took.sort();
    Ok(took[took.len() / 2])
}

/// Bytes and syncs of the store.
fn stored(gateway: &Gateway) -> Result<(u64, u64)> {
    let status = gateway.status()?;
    let number = |key: &str| status["disk"][key].as_u64().with_context(|| format!("no {key}"));
    Ok((number("written_bytes")?, number("syncs")?))
}

/// Bytes of the page cache that the process has made dirty so far.
fn dirtied(gateway: &Gateway) -> Result<u64> {
    let path = format!("/proc/{}/io", gateway.id()?);
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.with_context(|| format!("no write_bytes in {path}"))?.parse()?)
}
