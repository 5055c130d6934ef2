//! A gateway whose disk fills up under load, twice.
//!
//! First it heals without anybody making room: the link to the control plane comes back, and
//! receipts free what the records took. Then somebody else's file takes the disk, the gateway is
//! killed and started on the full disk, and heals when the file goes, with the link still cut.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use edge_broker::codec::{Packet, PacketId, Publish, Subscribe, SubscribeOptions};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;

use super::disk::SmallDisk;
use super::{Campaign, Evidence, GATEWAY, Options, PATIENCE};
use crate::ledger::{self, Fact};
use crate::mqtt::{Client, Login};
use crate::process::wait_for;

/// Size of the disk: the journal, a checkpoint and a ballast fit, and little more.
const DISK_BYTES: u64 = 72 << 20;
/// What somebody else leaves of it.
const LEFT_BYTES: u64 = 1 << 20;
/// How long no ack may come while it is full.
const WATCH: Duration = Duration::from_secs(2);
/// A client that no function hears.
pub(super) const WATCHER: &str = "watcher";

/// What was seen.
#[derive(Debug)]
pub struct Report {
    /// For [`super::judge`].
    pub evidence: Evidence,
    /// What happened, and how long it took.
    pub steps: Vec<(&'static str, Duration)>,
    /// What `edge-agent status` said while the disk was full.
    pub degraded: String,
}

/// Runs it.
///
/// # Errors
/// A step does not come to its end; the message names it.
pub fn run(options: Options) -> Result<Report> {
    let dir = options.dir.clone();
    std::fs::create_dir_all(&dir)?;
    let data = dir.join(GATEWAY).join("data");
    let disk = SmallDisk::mount(&dir.join("disk.img"), &data, DISK_BYTES)?;
    let mut full = Full { campaign: Campaign::begin(options)?, disk, steps: Vec::new() };
    full.campaign.cloud.link.cut();
    full.disk.fill(LEFT_BYTES)?;
    let degraded = full.step("the disk is full", Full::wait_full)?;
    full.step("no acks, but what needs no disk goes on", Full::watch)?;
    full.campaign.cloud.link.mend();
    full.step("receipts made room: acks again", Full::wait_acks)?;

    full.campaign.cloud.link.cut();
    full.disk.fill(LEFT_BYTES / 2)?;
    full.step("the disk is full again", Full::wait_full)?;
    full.step("SIGKILL, and up again on the full disk", |full| {
        full.campaign.kill_at_random(Duration::ZERO)?;
        wait_for(PATIENCE, "an answer", || Ok(full.campaign.gateway.status().ok())).map(|_| ())
    })?;
    full.step("no acks there either", Full::watch)?;
    full.disk.clear()?;
    full.step("space returned: acks again, the link still cut", Full::wait_acks)?;
    full.campaign.cloud.link.mend();
    let Full { campaign, disk, steps } = full;
    let evidence = campaign.finish()?;
    drop(disk);
    Ok(Report { evidence, steps, degraded })
}

struct Full {
    campaign: Campaign,
    disk: SmallDisk,
    steps: Vec<(&'static str, Duration)>,
}

impl Full {
    fn step<T>(
        &mut self,
        name: &'static str,
        act: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        let value = act(self).context(name)?;
        self.steps.push((name, begun.elapsed()));
        Ok(value)
    }

    fn why_full(&self) -> Result<Option<String>> {
        let status = self.campaign.gateway.status()?;
        let reasons = status["degraded"].as_array().into_iter().flatten();
        let mut reasons = reasons.filter_map(|reason| reason.as_str());
        Ok(reasons.find(|reason| reason.contains("the store is full")).map(str::to_owned))
    }

    fn wait_full(&mut self) -> Result<String> {
        wait_for(PATIENCE, "status to say that the store is full", || self.why_full())
    }

    fn acked(&self) -> Result<usize> {
        let mut acked = 0;
        for (name, _) in &self.campaign.devices {
            let facts = ledger::read_so_far(&self.campaign.ledger(name))?;
            acked += facts.iter().filter(|fact| matches!(fact, Fact::Acked { .. })).count();
        }
        Ok(acked)
    }

    fn wait_acks(&mut self) -> Result<()> {
        let before = self.acked()?;
        wait_for(PATIENCE, "acks to come again", || {
            Ok((self.acked()? > before + 100 && self.why_full()?.is_none()).then_some(()))
        })
    }

    /// While the disk is full nothing is acked, and a message between two clients that no function
    /// and no persistent session wants is passed on.
    fn watch(&mut self) -> Result<()> {
        // What was under way when it became full, and ledgers that are a little behind.
        std::thread::sleep(WATCH / 2);
        let before = self.acked()?;
        let login = Login {
            password: Some(super::token(WATCHER)),
            ..Login::anonymous(self.campaign.gateway.address(), WATCHER)
        };
        let mut client = Client::connect(&login)?;
        let topic = "sensors/elsewhere/ping";
        client.queue(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(1).context("1 is a packet id")?,
            subscription_id: None,
            filters: vec![(topic.parse()?, SubscribeOptions::default())],
        }));
        client.flush()?;
        ensure!(matches!(client.next(WATCH)?, Some(Packet::SubAck(_))), "no SUBACK");
        client.queue(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: Topic::new(topic)?,
            packet_id: None,
            expiry_s: None,
            subscription_ids: Vec::new(),
            properties: Properties::default(),
            payload: Bytes::from_static(b"still there"),
        }));
        client.flush()?;
        ensure!(matches!(client.next(WATCH)?, Some(Packet::Publish(_))), "it is not passed on");
        std::thread::sleep(WATCH);
        let acked = self.acked()? - before;
        ensure!(acked == 0, "{acked} messages were acked though there was no room for them");
        if self.why_full()?.is_none() {
            bail!("it was full for less than {WATCH:?}: that shows nothing");
        }
        Ok(())
    }
}
