//! The desk for devices: answers what they ask of the gateway, keeps what they say of themselves, and
//! remembers when each was last heard.
//!
//! A core without clock and I/O: messages and the time go in, what is to be said comes out. The shell
//! (`agent/counter.rs`) says it.
//!
//! # Invariants
//! - What stands on `$holm/v1/up/DEVICE/KIND` is a message of that kind, or nobody gets it.
//! - At most so many devices are remembered as the desk was made for, the one heard longest ago is forgotten first; of
//!   each [`METRICS_MAX`] figures, of all [`LINES_MAX`] lines of their logs.
//! - A device gets [`LINES_BURST`] lines through at once and [`LINES_PER_S`] a second after that. What is
//!   dropped is counted and told with the next line.
//! - What is wrong with a device's messages is told at most once in [`COMPLAIN_EVERY`].
//! - Of its firmware [`REPORTS_BURST`] changes of stage pass to the control plane at once, and one every
//!   [`REPORT_EVERY`] after that; of a device that changes its mind faster the last stage is told when its time has come.
//! - It begins empty with each process: it shows, and decides nothing that must last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use device_protocol::system::{LogLine, Metric, TimeReply};
use device_protocol::update::{Progress, Stage, Want};
use device_protocol::{Down, Quality, Timestamp, Up};
use edge_core::effect::{RefusedReason, Verdict};
use edge_core::id::DeviceId;
use edge_core::message::{Message, Origin, Properties, QoS};
use edge_core::time::{ClockQuality, Millis, Now, WallTime};
use edge_core::topic::Topic;
use sync_protocol::manifest::ImageKind;

mod entry;
mod show;

#[cfg(test)]
mod tests;

use entry::{Entry, Figure, Rank};

/// Figures of one device.
pub const METRICS_MAX: usize = 64;
/// Lines of logs kept, of all devices.
pub const LINES_MAX: usize = 200;
/// Lines of one device that pass at once.
pub const LINES_BURST: u32 = 50;
/// Lines of one device that pass in a second, on average.
pub const LINES_PER_S: u32 = 10;
/// How often a device's unusable messages are told at most.
pub const COMPLAIN_EVERY: Millis = Millis::from_secs(60);

/// Changes of stage of one device's firmware that are reported at once.
pub const REPORTS_BURST: u32 = 8;
/// How often one is reported after that.
pub const REPORT_EVERY: Millis = Millis::from_secs(60);

/// What the topics of messages from devices begin with.
pub const UP: &str = "$holm/v1/up/";

/// Something to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Say {
    /// To the device, at once.
    Reply(Arc<Message>),
    /// A line of its log, to whoever reads the gateway's.
    Line(Line),
    /// It asks for bytes of its firmware.
    Want {
        /// The device.
        device: DeviceId,
        /// Which.
        want: Want,
    },
    /// It says how far its firmware is.
    Firmware {
        /// The device.
        device: DeviceId,
        /// How far.
        told: Told,
    },
    /// A message of it was of no use.
    Complaint {
        /// The device.
        device: DeviceId,
        /// What it was about.
        topic: Topic,
        /// What is wrong.
        why: String,
        /// How many more since the last complaint were not told.
        untold: u64,
    },
}

/// A line of a device's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The device.
    pub device: DeviceId,
    /// How much it matters.
    pub level: device_protocol::system::Level,
    /// When it came, by the gateway's clock.
    pub came: WallTime,
    /// When it was written, by the device's.
    pub written: Timestamp,
    /// Lines before it that were dropped, by the device or here.
    pub dropped: u64,
    /// The text.
    pub text: String,
}

/// What a device says of an image it is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// First bytes of the image's digest.
    pub image: [u8; 8],
    /// Kind and version of the image, where it is one that the device is offered.
    pub offered: Option<(ImageKind, u32)>,
    /// How far it is.
    pub stage: Stage,
    /// Bytes of it that the device keeps.
    pub offset: u32,
    /// Why it was declined or taken back.
    pub reason: String,
}

/// Sums since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages to the gateway that could not be read.
    pub undecodable: u64,
    /// Lines of logs over a device's rate.
    pub lines_dropped: u64,
    /// Figures over a device's number of them.
    pub metrics_dropped: u64,
    /// Devices forgotten for others.
    pub forgotten: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Desk {
    devices_max: usize,
    devices: BTreeMap<DeviceId, Entry>,
    /// The same devices, by which one is forgotten first.
    by_rank: BTreeSet<(Rank, DeviceId)>,
    lines: VecDeque<Line>,
    counters: Counters,
    /// Devices whose last stage came too fast to be reported, and when its time comes; each is remembered above.
    late: BTreeMap<DeviceId, Millis>,
}

impl Desk {
    /// An empty one, for so many devices.
    #[must_use]
    pub fn new(devices_max: u32) -> Self {
        Self {
            devices_max: devices_max.max(1) as usize,
            devices: BTreeMap::new(),
            by_rank: BTreeSet::new(),
            lines: VecDeque::new(),
            counters: Counters::default(),
            late: BTreeMap::new(),
        }
    }

    /// A client is connected.
    pub fn connected(&mut self, device: &DeviceId, now: Now) {
        self.entry(device, now);
        self.rank_anew(device, |entry| entry.connections += 1);
    }

    /// A client is gone.
    pub fn disconnected(&mut self, device: &DeviceId) {
        self.rank_anew(device, |entry| entry.connections = entry.connections.saturating_sub(1));
    }

    /// Whether a message to the gateway can be read; every other message passes.
    ///
    /// # Errors
    /// It cannot: ack it and forget it, and say this.
    pub fn check(&mut self, message: &Message, now: Now) -> Result<(), Option<Say>> {
        let Some((device, kind)) = from_device(&message.topic) else { return Ok(()) };
        // How a retained message is taken back (MQTT 5, 3.3.1.3).
        if message.retain && message.payload.is_empty() {
            return Ok(());
        }
        let error = match Up::decode(&message.payload) {
            Ok(up) if up.kind() == kind => return Ok(()),
            Ok(up) => format!("a message of the kind `{}` on a topic of `{kind}`", up.kind()),
            Err(error) => error.to_string(),
        };
        self.counters.undecodable += 1;
        let device = DeviceId::new(device);
        let entry = self.entry(&device, now);
        entry.undecodable += 1;
        Err(entry.complain(now.at).map(|untold| {
            let topic = message.topic.clone();
            Say::Complaint { device, topic, why: error, untold }
        }))
    }

    /// The core's word on a message.
    pub fn judged(&mut self, message: &Message, verdict: &Verdict, now: Now) -> Option<Say> {
        let Origin::Client { identity, .. } = &message.origin else { return None };
        let entry = self.entry(identity, now);
        match verdict {
            Verdict::Accepted { .. } | Verdict::Shed { .. } => {
                entry.messages += 1;
                if let Some(id) = message.message_id() {
                    entry.last = Some((id.boot, id.seq));
                }
                None
            }
            Verdict::Duplicate => {
                entry.repeats += 1;
                None
            }
            Verdict::Refused { reason: RefusedReason::Stopping } => None,
            Verdict::Refused { reason: RefusedReason::Claim(claim) } => {
                entry.refused += 1;
                let untold = entry.complain(now.at)?;
                let (device, topic) = (identity.clone(), message.topic.clone());
                Some(Say::Complaint { device, topic, why: claim.to_string(), untold })
            }
        }
    }

    /// Takes in what a device tells the gateway; of other messages nothing.
    pub fn hear(&mut self, message: &Message, now: Now) -> Option<Say> {
        let (device, _) = from_device(&message.topic)?;
        let device = DeviceId::new(device);
        match Up::decode(&message.payload).ok()? {
            Up::TimeRequest(asked) => {
                let reply = TimeReply { uptime_ms: asked.uptime_ms, now: stamp(now.wall) };
                reply_message(&device, Down::Time(reply), now).map(Say::Reply)
            }
            Up::Log(line) => self.line(device, &line, now).map(Say::Line),
            Up::Metric(metric) => {
                self.metric(&device, &metric, now);
                None
            }
            Up::Want(want) => Some(Say::Want { device, want }),
            Up::Progress(told) => {
                let Progress { image, stage, offset, reason } = told;
                let reason = reason.to_owned();
                let told = Told { image, offered: None, stage, offset, reason };
                Some(Say::Firmware { device, told })
            }
            // Those are for who subscribed.
            Up::Response(_) | Up::Reported(_) => None,
        }
    }

    /// Keeps what a device says of its firmware; whether the control plane is to be told.
    pub fn firmware_told(&mut self, device: &DeviceId, told: Told, now: Now) -> bool {
        let entry = self.entry(device, now);
        let is_known = told.offered.is_some();
        let stage = (told.image, told.stage);
        entry.firmware = Some(told);
        if !is_known || entry.reported == Some(stage) {
            return false;
        }
        let passes = entry.lets_report_through(now.at);
        if passes {
            entry.reported = Some(stage);
            self.late.remove(device);
        } else {
            let due = entry.report_due();
            self.late.insert(device.clone(), due);
        }
        passes
    }

    /// When [`Desk::late_firmware`] has something to tell.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.late.values().min().copied()
    }

    /// A device whose last stage came too fast to be reported, and whose time has come.
    pub fn late_firmware(&mut self, now: Now) -> Option<(DeviceId, Told)> {
        let (device, _) = self.late.iter().find(|(_, due)| **due <= now.at)?;
        let device = device.clone();
        self.late.remove(&device);
        let told = self.devices.get(&device)?.firmware.clone()?;
        Some((device, told))
    }

    fn line(&mut self, device: DeviceId, line: &LogLine<'_>, now: Now) -> Option<Line> {
        let entry = self.entry(&device, now);
        if !entry.lets_line_through(now.at) {
            entry.lines_dropped += 1;
            entry.lines_untold += u64::from(line.dropped) + 1;
            self.counters.lines_dropped += 1;
            return None;
        }
        let dropped = std::mem::take(&mut entry.lines_untold) + u64::from(line.dropped);
        let line = Line {
            device,
            level: line.level,
            came: now.wall,
            written: line.time,
            dropped,
            text: line.text.to_owned(),
        };
        if self.lines.len() >= LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line.clone());
        Some(line)
    }

    fn metric(&mut self, device: &DeviceId, metric: &Metric<'_>, now: Now) {
        let metrics = &mut self.entry(device, now).metrics;
        if metrics.len() >= METRICS_MAX && !metrics.contains_key(metric.name) {
            self.counters.metrics_dropped += 1;
            return;
        }
        let figure = Figure { value: metric.value, measured: metric.time, came_at: now.at };
        metrics.insert(metric.name.to_owned(), figure);
    }

    /// The entry of a device that is heard now.
    fn entry(&mut self, device: &DeviceId, now: Now) -> &mut Entry {
        if !self.devices.contains_key(device) {
            if self.devices.len() >= self.devices_max {
                self.forget_first();
            }
            let entry = Entry::new(now);
            self.by_rank.insert((entry.rank(), device.clone()));
            self.devices.insert(device.clone(), entry);
        }
        self.rank_anew(device, |entry| entry.seen_at = now.at);
        self.devices.get_mut(device).expect("invariant: inserted above")
    }

    fn forget_first(&mut self) {
        if let Some((_, first)) = self.by_rank.pop_first() {
            self.devices.remove(&first);
            self.late.remove(&first);
            self.counters.forgotten += 1;
        }
    }

    /// Changes what the rank of a known device is made of.
    fn rank_anew(&mut self, device: &DeviceId, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.devices.get_mut(device) else { return };
        let before = entry.rank();
        change(entry);
        let after = entry.rank();
        if before != after {
            self.by_rank.remove(&(before, device.clone()));
            self.by_rank.insert((after, device.clone()));
        }
    }
}

/// Device and kind of a message to the gateway.
fn from_device(topic: &Topic) -> Option<(&str, &str)> {
    topic.as_str().strip_prefix(UP)?.split_once('/')
}

fn stamp(wall: WallTime) -> Timestamp {
    let quality = match wall.quality {
        ClockQuality::Synced => Quality::Synced,
        ClockQuality::Unsynced | ClockQuality::Unknown => Quality::Unsynced,
    };
    Timestamp { quality, ms: wall.unix_ms }
}

fn reply_message(device: &DeviceId, down: Down<'_>, now: Now) -> Option<Arc<Message>> {
    const BYTES_MAX: usize = 64;
    let mut bytes = [0; BYTES_MAX];
    let length = down.encode(&mut bytes).ok()?;
    // A name from a topic may be none.
    let topic = down.topic(device.as_str()).ok()?;
    let payload = Bytes::copy_from_slice(bytes.get(..length)?);
    to_device(device, &topic, payload, QoS::AtMostOnce, false, now).map(Arc::new)
}

/// A message of the gateway to a device; none for a topic that is none.
#[must_use]
pub fn to_device(
    device: &DeviceId,
    topic: &str,
    payload: Bytes,
    qos: QoS,
    retain: bool,
    now: Now,
) -> Option<Message> {
    Some(Message {
        topic: Topic::new(topic).ok()?,
        payload,
        qos,
        retain,
        properties: Properties::default(),
        expiry_s: None,
        origin: Origin::Gateway,
        device: Some(device.clone()),
        hops: 0,
        at: now.at,
        wall: now.wall,
    })
}
