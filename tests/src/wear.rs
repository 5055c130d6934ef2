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
/// What rides along with other batches, the checkpoint a minute later, and what the file system writes half
/// a minute after that, are of the messages.
const SETTLE: Duration = Duration::from_secs(110);
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

/// What was written, to the block device that holds the gateway's data and by the store alone.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Bytes in whole blocks that the store wrote.
    pub store: u64,
    /// Bytes that the block device took, whoever wrote them: also the file system's own book-keeping.
    /// `None` where the file system has no device of its own.
    pub device: Option<u64>,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// For a message.
    pub per_message: Written,
    /// Syncs of the store while the messages came.
    pub syncs: u64,
    /// Median time from a message to its ack.
    pub ack_median: Duration,
    /// In an idle hour.
    pub per_idle_hour: Written,
}

impl Written {
    fn since(self, before: Self) -> Self {
        Self {
            store: self.store - before.store,
            device: self.device.zip(before.device).map(|(now, before)| now - before),
        }
    }

    fn map(self, each: impl Fn(u64) -> u64) -> Self {
        Self { store: each(self.store), device: self.device.map(each) }
    }
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
    gateway.hand_over(&bundle)?;
    wait_for(PROBATION, "the app to be live", || {
        let status = gateway.status()?;
        Ok((status["deployments"]["apps"][0]["phase"] == "live").then_some(()))
    })?;
    gateway.wait_idle(PATIENCE)?;
    // Of what came before, the file system writes some later.
    sleep(SETTLE);
    let (before, syncs_before) = written(&gateway)?;
    let ack_median = send(&gateway, plan)?;
    gateway.wait_idle(PATIENCE)?;
    let (_, syncs) = written(&gateway)?;
    sleep(SETTLE);
    let (after, _) = written(&gateway)?;
    sleep(plan.idle);
    let idle = written(&gateway)?.0.since(after);
    gateway.stop()?;
    let (messages, idle_s) = (u64::from(plan.messages), plan.idle.as_secs().max(1));
    Ok(Figures {
        per_message: after.since(before).map(|bytes| bytes / messages),
        syncs: syncs - syncs_before,
        ack_median,
        per_idle_hour: idle.map(|bytes| bytes * 3_600 / idle_s),
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

/// Bytes so far, and syncs of the store.
fn written(gateway: &Gateway) -> Result<(Written, u64)> {
    let disk = &gateway.status()?["disk"];
    let number = |key: &str| disk[key].as_u64().with_context(|| format!("no {key}"));
    let device = disk["device_written_bytes"].as_u64();
    Ok((Written { store: number("written_bytes")?, device }, number("syncs")?))
}
