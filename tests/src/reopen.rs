//! How soon a gateway with a large outbox acks again after a SIGKILL, on one core.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use edge_broker::codec::{Packet, PacketId, Publish};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;

use crate::author::{Author, fixture};
use crate::gateway::{Gateway, Setup};
use crate::mqtt::{Client, Login};
use crate::process::wait_for;

/// Records of one message, and bytes of each payload.
const RECORDS: u64 = 64;
const RECORD_BYTES: u64 = 1_024;
/// Messages under way while the outbox is filled.
const WINDOW: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Records in the outbox at the kill.
    pub records: u64,
    /// Their bytes, as the outbox counts them.
    pub outbox_bytes: u64,
    /// Bytes of the store's files.
    pub store_bytes: u64,
    /// From the start of the process to the first PUBACK, the files in the page cache.
    pub warm: Duration,
    /// The same with the files read from the disk.
    pub cold: Duration,
}

/// Fills an outbox with `bytes`, kills the gateway, starts it on core 0 alone and waits for an ack;
/// twice. `progress` is told how many bytes are there.
///
/// # Errors
/// The gateway does not do its part; there is no `taskset`.
pub fn measure(dir: &Path, bytes: u64, mut progress: impl FnMut(u64)) -> Result<Figures> {
    let author = Author::new(&dir.join("author"))?;
    let setup = Setup {
        author_keys: vec![author.key()?],
        more: "[limits]\noutbox = \"16 GiB\"\nstore = \"32 GiB\"".to_owned(),
        pinned_to: Some(0),
        ..Setup::open("barn")
    };
    let mut gateway = Gateway::new(&dir.join("gateway"), &setup)?;
    gateway.start()?;
    let bundle = author.build(&fixture("apps/recorder"))?;
    gateway.hand_over(&bundle)?;
    wait_for(PATIENCE, "the app to be live", || {
        let status = gateway.status()?;
        let phase = &status["deployments"]["apps"][0]["phase"];
        Ok((phase == "probation" || phase == "live").then_some(()))
    })?;
    let mut client = Client::connect(&Login::anonymous(gateway.address(), "filler"))?;
    let mut there = 0;
    while there < bytes {
        let messages = (bytes - there).div_ceil(RECORDS * RECORD_BYTES).min(512);
        fill(&mut client, messages)?;
        (_, there) = outbox(&gateway.wait_idle(PATIENCE)?);
        ensure!(there > 0, "the outbox takes nothing");
        progress(there);
    }
    drop(client);
    let (records, outbox_bytes) = outbox(&gateway.status()?);
    gateway.kill()?;
    let warm = first_ack(&mut gateway)?;
    let kept = outbox(&gateway.status()?);
    ensure!(kept.0 >= records, "{records} records before the kill, {} after it", kept.0);
    gateway.kill()?;
    let store = dir.join("gateway/data/store");
    let store_bytes = forget_pages(&store)?;
    let cold = first_ack(&mut gateway)?;
    gateway.stop()?;
    Ok(Figures { records, outbox_bytes, store_bytes, warm, cold })
}

/// Records and bytes in the outbox.
fn outbox(status: &serde_json::Value) -> (u64, u64) {
    let streams = || status["core"]["outbox"].as_array().into_iter().flatten();
    let sum = |key: &str| streams().filter_map(|stream| stream[key].as_u64()).sum();
    (sum("records"), sum("bytes"))
}

fn publish(client: &mut Client, n: u64, payload: &str) -> Result<()> {
    let id = u16::try_from(n % 60_000)? + 1;
    client.queue(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Topic::new("sensors/filler")?,
        packet_id: PacketId::new(id),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Properties::default(),
        payload: Bytes::from(payload.to_owned()),
    }));
    client.flush()
}

fn fill(client: &mut Client, messages: u64) -> Result<()> {
    let wish = format!("{{\"records\":{RECORDS},\"bytes\":{RECORD_BYTES}}}");
    let (mut sent, mut acked) = (0, 0);
    while acked < messages {
        while sent < messages && sent - acked < WINDOW as u64 {
            publish(client, sent, &wish)?;
            sent += 1;
        }
        match client.next(PATIENCE)? {
            Some(Packet::PubAck(ack)) if !ack.reason.is_error() => acked += 1,
            other => bail!("no PUBACK: {other:?}"),
        }
    }
    Ok(())
}

/// From the start of the process to the first PUBACK of a client that tries all the time.
fn first_ack(gateway: &mut Gateway) -> Result<Duration> {
    let begun = Instant::now();
    gateway.spawn()?;
    let address = gateway.address();
    let mut client = wait_for(PATIENCE, "the gateway to listen", || {
        Ok(Client::connect(&Login::anonymous(address, "first")).ok())
    })?;
    publish(&mut client, 0, "{\"records\":1,\"bytes\":1}")?;
    match client.next(PATIENCE)? {
        Some(Packet::PubAck(ack)) if !ack.reason.is_error() => Ok(begun.elapsed()),
        other => bail!("no PUBACK: {other:?}"),
    }
}

/// Takes the files of a folder out of the page cache; returns their bytes.
fn forget_pages(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let path: PathBuf = entry?.path();
        bytes += path.metadata()?.len();
        let mut dd = Command::new("dd");
        dd.arg(format!("of={}", path.display()));
        dd.args(["oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"]);
        ensure!(dd.status().context("dd")?.success(), "dd could not drop {}", path.display());
    }
    Ok(bytes)
}
