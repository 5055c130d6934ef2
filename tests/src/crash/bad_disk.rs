//! A gateway whose disk is bad for a while: what it still does then, and how it comes back.

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

/// How long no ack may come while it is bad.
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
    /// What `edge-agent status` said while the disk was bad.
    pub degraded: String,
}

/// A gateway under load on a small disk of its own.
pub(super) struct BadDisk {
    pub(super) campaign: Campaign,
    pub(super) disk: SmallDisk,
    steps: Vec<(&'static str, Duration)>,
    /// Words by which `edge-agent status` tells that the disk is bad.
    told: &'static str,
}

impl BadDisk {
    pub(super) fn begin(options: Options, disk_bytes: u64, told: &'static str) -> Result<Self> {
        let dir = options.dir.clone();
        std::fs::create_dir_all(&dir)?;
        let data = dir.join(GATEWAY).join("data");
        let disk = SmallDisk::mount(&dir.join("disk.img"), &data, disk_bytes)?;
        Ok(Self { campaign: Campaign::begin(options)?, disk, steps: Vec::new(), told })
    }

    pub(super) fn step<T>(
        &mut self,
        name: &'static str,
        act: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        let value = act(self).context(name)?;
        self.steps.push((name, begun.elapsed()));
        Ok(value)
    }

    pub(super) fn finish(self, degraded: String) -> Result<Report> {
        let evidence = self.campaign.finish()?;
        drop(self.disk);
        Ok(Report { evidence, steps: self.steps, degraded })
    }

    fn why(&self) -> Result<Option<String>> {
        let status = self.campaign.gateway.status()?;
        let reasons = status["degraded"].as_array().into_iter().flatten();
        let mut reasons = reasons.filter_map(|reason| reason.as_str());
        Ok(reasons.find(|reason| reason.contains(self.told)).map(str::to_owned))
    }

    pub(super) fn wait_bad(&mut self) -> Result<String> {
        // Between two lives the gateway answers that it is down.
        let told = || Ok(self.why().ok().flatten());
        wait_for(PATIENCE, &format!("status to say \"{}\"", self.told), told)
    }

    pub(super) fn wait_answer(&self) -> Result<()> {
        wait_for(PATIENCE, "an answer", || Ok(self.campaign.gateway.status().ok())).map(|_| ())
    }

    fn acked(&self) -> Result<usize> {
        let mut acked = 0;
        for (name, _) in &self.campaign.devices {
            let facts = ledger::read_so_far(&self.campaign.ledger(name))?;
            acked += facts.iter().filter(|fact| matches!(fact, Fact::Acked { .. })).count();
        }
        Ok(acked)
    }

    pub(super) fn wait_acks(&mut self) -> Result<()> {
        let before = self.acked()?;
        wait_for(PATIENCE, "acks to come again", || {
            Ok((self.acked()? > before + 100 && self.why()?.is_none()).then_some(()))
        })
    }

    /// While the disk is bad nothing is acked, and a message between two clients that no function
    /// and no persistent session wants is passed on.
    pub(super) fn watch(&mut self) -> Result<()> {
        // What was under way when it became bad, and ledgers that are a little behind.
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
        ensure!(acked == 0, "{acked} messages were acked though they could not be stored");
        if self.why()?.is_none() {
            bail!("the disk was bad for less than {WATCH:?}: that shows nothing");
        }
        Ok(())
    }
}
