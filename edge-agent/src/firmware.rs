//! Firmware of devices: who is offered which image of the live apps, and the bytes that devices ask for.
//!
//! A core without clock and I/O: what is live, questions and the time go in, what is to be said and
//! read comes out. The shell (`agent/firmware.rs`) says and reads it.
//!
//! # Invariants
//! - What stands retained for a device is the offer of the one image that is for it, or nothing.
//! - A device has one question open at most; a newer one takes its place. It is answered only for
//!   the image that the device is offered.
//! - A device gets [`CHUNKS_PER_S`] chunks a second, all together [`CHUNKS_PER_S_ALL`]: who asks for
//!   more waits, so that a fleet cannot starve the loop. A tick answers at most [`BURST_ALL`].
//! - Images in memory have at most [`IMAGES_BYTES_MAX`], and go [`IMAGE_IDLE`] after the last question.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use device_protocol::Down;
use device_protocol::limits::{CHUNK_MAX, IMAGE_MAX};
use device_protocol::update::{Chunk, Want};
use edge_core::id::DeviceId;
use edge_core::time::Millis;
use sync_protocol::Manifest;
use sync_protocol::id::Digest;

mod images;
mod pace;

#[cfg(test)]
mod tests;

use images::Images;
pub use images::{IMAGE_IDLE, IMAGE_KEPT, IMAGES_BYTES_MAX};
use pace::Pace;

/// Chunks that one device gets in a second, on average.
pub const CHUNKS_PER_S: u64 = 64;
/// Chunks that one device gets at once.
pub const BURST: u64 = 8;
/// Chunks that all devices get in a second, on average: 1 MiB.
pub const CHUNKS_PER_S_ALL: u64 = 1_000;
/// Chunks that all devices get at once.
pub const BURST_ALL: u64 = 64;

/// Something retained for a device, to be changed; an empty payload takes it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The device.
    pub device: DeviceId,
    /// The offer, encoded.
    pub payload: Bytes,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// Send a chunk to a device.
    Send {
        /// The device.
        device: DeviceId,
        /// The chunk, encoded.
        payload: Bytes,
    },
    /// Read an image; [`Firmware::loaded`] takes it.
    Load(Digest),
}

/// What a device is offered.
#[derive(Debug)]
struct Offered {
    app: String,
    digest: Digest,
    length: u32,
    version: u32,
    pace: Pace,
    /// The open question, and when it is to be answered; `None`: once the image is there.
    open: Option<(Want, Option<Millis>)>,
}

impl Offered {
    fn is_of(&self, image: [u8; 8]) -> bool {
        self.digest.0.starts_with(&image)
    }
}

/// Sums since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Chunks sent.
    pub chunks: u64,
    /// Questions for what is not offered, or for bytes behind the end.
    pub refused: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Firmware {
    accounts: Vec<DeviceId>,
    /// What stands retained.
    standing: BTreeMap<DeviceId, Bytes>,
    offered: BTreeMap<DeviceId, Offered>,
    /// Open questions by the time of their answer.
    due: BTreeSet<(Millis, DeviceId)>,
    images: Images,
    pace: Pace,
    counters: Counters,
}

impl Firmware {
    /// Nothing is live yet; `standing` is what is retained for devices, known ones or not.
    pub fn new(
        accounts: impl IntoIterator<Item = DeviceId>,
        standing: impl IntoIterator<Item = (DeviceId, Bytes)>,
    ) -> Self {
        Self {
            accounts: accounts.into_iter().collect(),
            standing: standing.into_iter().collect(),
            offered: BTreeMap::new(),
            due: BTreeSet::new(),
            images: Images::default(),
            pace: Pace::new(CHUNKS_PER_S_ALL, BURST_ALL),
            counters: Counters::default(),
        }
    }

    /// Whether a revision can go live beside `others`, the live revisions of other apps.
    ///
    /// # Errors
    /// A device would have two images.
    pub fn check<'m>(
        &self,
        new: &Manifest,
        others: impl IntoIterator<Item = &'m Manifest>,
    ) -> Result<(), String> {
        for other in others.into_iter().filter(|other| other.app != new.app) {
            for (name, firmware) in &new.firmware {
                let twice = |device: &&DeviceId| {
                    let device = device.as_str();
                    firmware.is_for(device)
                        && other.firmware.values().any(|other| other.is_for(device))
                };
                if let Some(device) = self.accounts.iter().find(twice) {
                    let other = &other.app;
                    return Err(format!(
                        "firmware.{name} is for device {device}, for which app {other} has an image as well: make \
                         `devices` narrower in one of them"
                    ));
                }
            }
        }
        Ok(())
    }

    /// These manifests are live, in order of their apps' names. Returns what is to be changed.
    pub fn live<'m>(&mut self, live: impl IntoIterator<Item = &'m Manifest>) -> Vec<Change> {
        let mut before = std::mem::take(&mut self.offered);
        let mut wanted = BTreeMap::new();
        for manifest in live {
            for firmware in manifest.firmware.values() {
                let Some((payload, length)) = encoded(firmware) else { continue };
                for device in self.accounts.iter().filter(|d| firmware.is_for(d.as_str())) {
                    if wanted.contains_key(device) {
                        continue;
                    }
                    wanted.insert(device.clone(), payload.clone());
                    let kept = before.remove(device).filter(|old| old.digest == firmware.artifact);
                    let (pace, open) = kept.map_or_else(
                        || (Pace::new(CHUNKS_PER_S, BURST), None),
                        |old| (old.pace, old.open),
                    );
                    let (app, digest) = (manifest.app.clone(), firmware.artifact);
                    let version = firmware.version;
                    let offered = Offered { app, digest, length, version, pace, open };
                    self.offered.insert(device.clone(), offered);
                }
            }
        }
        let offered = &self.offered;
        let is_open =
            |device: &DeviceId| offered.get(device).is_some_and(|it: &Offered| it.open.is_some());
        self.due.retain(|(_, device)| is_open(device));
        let gone = self.standing.keys().filter(|device| !wanted.contains_key(*device));
        let gone = gone.map(|device| Change { device: device.clone(), payload: Bytes::new() });
        let new =
            wanted.iter().filter(|(device, offer)| self.standing.get(*device) != Some(*offer));
        let new =
            new.map(|(device, offer)| Change { device: device.clone(), payload: offer.clone() });
        let changes = gone.chain(new).collect();
        self.standing = wanted;
        changes
    }

    /// App and version of an image that a device is offered.
    #[must_use]
    pub fn offered(&self, device: &DeviceId, image: [u8; 8]) -> Option<(&str, u32)> {
        let offered = self.offered.get(device).filter(|offered| offered.is_of(image))?;
        Some((&offered.app, offered.version))
    }

    /// A device asks for bytes.
    pub fn wanted(&mut self, device: &DeviceId, want: Want, now: Millis) -> Vec<Do> {
        let fits = |offered: &&mut Offered| {
            let end = want.offset.checked_add(u32::from(want.length));
            offered.is_of(want.image) && end.is_some_and(|end| end <= offered.length)
        };
        let Some(offered) = self.offered.get_mut(device).filter(fits) else {
            self.counters.refused += 1;
            return Vec::new();
        };
        if let Some((_, Some(at))) = offered.open.replace((want, None)) {
            self.due.remove(&(at, device.clone()));
        }
        let (digest, length) = (offered.digest, offered.length);
        if self.images.get(digest, now).is_none() {
            let load = self.images.may_load(digest, length, now);
            return load.then_some(Do::Load(digest)).into_iter().collect();
        }
        self.schedule(device, now);
        self.tick(now)
    }

    /// An image was read, or could not be; whoever waits asks again.
    pub fn loaded(&mut self, digest: Digest, bytes: Option<Bytes>, now: Millis) -> Vec<Do> {
        if !self.images.loaded(digest, bytes, now) {
            return Vec::new();
        }
        let waits = |(_, offered): &(&DeviceId, &Offered)| {
            offered.digest == digest && matches!(offered.open, Some((_, None)))
        };
        let waiting: Vec<_> = self.offered.iter().filter(waits).map(|(d, _)| d.clone()).collect();
        for device in &waiting {
            self.schedule(device, now);
        }
        self.tick(now)
    }

    /// When [`Firmware::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let answer = self.due.first().map(|(at, _)| (*at).max(self.pace.free_at()));
        [answer, self.images.idle_at()].into_iter().flatten().min()
    }

    /// Answers the questions whose time has come.
    pub fn tick(&mut self, now: Millis) -> Vec<Do> {
        self.images.drop_idle(now);
        let mut done = Vec::new();
        while let Some((at, _)) = self.due.first()
            && *at <= now
            && self.pace.free_at() <= now
        {
            let Some((_, device)) = self.due.pop_first() else { break };
            if let Some(payload) = self.answer(&device, now) {
                self.pace.take(now);
                self.counters.chunks += 1;
                done.push(Do::Send { device, payload });
            }
        }
        done
    }

    /// Sums since the start of the process.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn schedule(&mut self, device: &DeviceId, now: Millis) {
        let Some(offered) = self.offered.get_mut(device) else { return };
        let Some((_, at)) = &mut offered.open else { return };
        let due = offered.pace.free_at().max(now);
        *at = Some(due);
        self.due.insert((due, device.clone()));
    }

    fn answer(&mut self, device: &DeviceId, now: Millis) -> Option<Bytes> {
        const HEAD: usize = 32;
        let offered = self.offered.get_mut(device)?;
        let (want, _) = offered.open.take()?;
        let image = self.images.get(offered.digest, now)?;
        let (start, length) = (usize::try_from(want.offset).ok()?, usize::from(want.length));
        let bytes = image.get(start..start.checked_add(length)?)?;
        offered.pace.take(now);
        encode(
            &Down::Chunk(Chunk { image: want.image, offset: want.offset, bytes }),
            CHUNK_MAX + HEAD,
        )
    }
}

/// The offer of an image and its length; none of an image that nobody signed.
fn encoded(firmware: &sync_protocol::manifest::Firmware) -> Option<(Bytes, u32)> {
    const OFFER_BYTES_MAX: usize = 256;
    let mut signature = [0; 64];
    let offer = firmware.offer(&mut signature)?;
    let length = offer.length;
    debug_assert!(length <= IMAGE_MAX, "checked with the manifest");
    Some((encode(&Down::Offer(offer), OFFER_BYTES_MAX)?, length))
}

fn encode(down: &Down<'_>, bytes_max: usize) -> Option<Bytes> {
    let mut bytes = vec![0; bytes_max];
    let length = down.encode(&mut bytes).ok()?;
    bytes.truncate(length);
    Some(Bytes::from(bytes))
}
