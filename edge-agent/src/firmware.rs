//! Images for devices, firmware and functions: who is offered which of the live apps, and the bytes that devices ask for.
//!
//! A core without clock and I/O: what is live, questions and the time go in, what is to be said and
//! read comes out. The shell (`agent/firmware.rs`) says and reads it.
//!
//! # Invariants
//! - What stands retained for a device is, of each kind, the offer of the one image that is for it, or nothing.
//! - A device has one question open at most for each kind; a newer one takes its place. It is answered only for
//!   an image that the device is offered.
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
use sync_protocol::manifest::{Firmware as Image, ImageKind};

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
    /// Kind of the offer.
    pub kind: ImageKind,
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

/// Where an offer stands: a device has one place for each kind.
type Spot = (DeviceId, ImageKind);

/// See the module.
#[derive(Debug)]
pub struct Firmware {
    accounts: Vec<DeviceId>,
    /// What stands retained.
    standing: BTreeMap<Spot, Bytes>,
    offered: BTreeMap<Spot, Offered>,
    /// Open questions by the time of their answer.
    due: BTreeSet<(Millis, Spot)>,
    images: Images,
    pace: Pace,
    counters: Counters,
}

impl Firmware {
    /// Nothing is live yet; `standing` is what is retained for devices, known ones or not.
    pub fn new(
        accounts: impl IntoIterator<Item = DeviceId>,
        standing: impl IntoIterator<Item = (DeviceId, ImageKind, Bytes)>,
    ) -> Self {
        Self {
            accounts: accounts.into_iter().collect(),
            standing: standing.into_iter().map(|(device, kind, it)| ((device, kind), it)).collect(),
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
    /// A device would have two images of one kind.
    pub fn check<'m>(
        &self,
        new: &Manifest,
        others: impl IntoIterator<Item = &'m Manifest>,
    ) -> Result<(), String> {
        for other in others.into_iter().filter(|other| other.app != new.app) {
            for (name, firmware) in &new.firmware {
                let twice = |device: &&DeviceId| {
                    let device = device.as_str();
                    let meets = |other: &Image| other.kind == firmware.kind && other.is_for(device);
                    firmware.is_for(device) && other.firmware.values().any(meets)
                };
                if let Some(device) = self.accounts.iter().find(twice) {
                    let (other, kind) = (&other.app, firmware.kind.as_str());
                    return Err(format!(
                        "firmware.{name} ({kind}) is for device {device}, for which app {other} has such an image as \
                         well: make `devices` narrower in one of them"
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
                    let spot = (device.clone(), firmware.kind);
                    if wanted.contains_key(&spot) {
                        continue;
                    }
                    wanted.insert(spot.clone(), payload.clone());
                    let kept = before.remove(&spot).filter(|old| old.digest == firmware.artifact);
                    let (pace, open) = kept.map_or_else(
                        || (Pace::new(CHUNKS_PER_S, BURST), None),
                        |old| (old.pace, old.open),
                    );
                    let (app, digest) = (manifest.app.clone(), firmware.artifact);
                    let version = firmware.version;
                    let offered = Offered { app, digest, length, version, pace, open };
                    self.offered.insert(spot, offered);
                }
            }
        }
        let offered = &self.offered;
        let is_open = |spot: &Spot| offered.get(spot).is_some_and(|it: &Offered| it.open.is_some());
        self.due.retain(|(_, spot)| is_open(spot));
        let change = |(device, kind): &Spot, payload: Bytes| {
            let (device, kind) = (device.clone(), *kind);
            Change { device, kind, payload }
        };
        let gone = self.standing.keys().filter(|spot| !wanted.contains_key(*spot));
        let gone = gone.map(|spot| change(spot, Bytes::new()));
        let new = wanted.iter().filter(|(spot, offer)| self.standing.get(*spot) != Some(*offer));
        let new = new.map(|(spot, offer)| change(spot, offer.clone()));
        let changes = gone.chain(new).collect();
        self.standing = wanted;
        changes
    }

    /// App, kind and version of an image that a device is offered.
    #[must_use]
    pub fn offered(&self, device: &DeviceId, image: [u8; 8]) -> Option<(&str, ImageKind, u32)> {
        let (_, kind) = self.spot(device, image)?;
        let offered = self.offered.get(&(device.clone(), kind))?;
        Some((&offered.app, kind, offered.version))
    }

    /// Where an image is offered to a device.
    fn spot(&self, device: &DeviceId, image: [u8; 8]) -> Option<Spot> {
        let spots = ImageKind::ALL.map(|kind| (device.clone(), kind));
        let is_there = |spot: &Spot| self.offered.get(spot).is_some_and(|it| it.is_of(image));
        spots.into_iter().find(is_there)
    }

    /// A device asks for bytes.
    pub fn wanted(&mut self, device: &DeviceId, want: Want, now: Millis) -> Vec<Do> {
        let fits = |offered: &&mut Offered| {
            let end = want.offset.checked_add(u32::from(want.length));
            end.is_some_and(|end| end <= offered.length)
        };
        let spot = self.spot(device, want.image);
        let offered = spot.as_ref().and_then(|spot| self.offered.get_mut(spot)).filter(fits);
        let (Some(spot), Some(offered)) = (&spot, offered) else {
            self.counters.refused += 1;
            return Vec::new();
        };
        if let Some((_, Some(at))) = offered.open.replace((want, None)) {
            self.due.remove(&(at, spot.clone()));
        }
        let (digest, length) = (offered.digest, offered.length);
        if self.images.get(digest, now).is_none() {
            let load = self.images.may_load(digest, length, now);
            return load.then_some(Do::Load(digest)).into_iter().collect();
        }
        self.schedule(spot, now);
        self.tick(now)
    }

    /// An image was read, or could not be; whoever waits asks again.
    pub fn loaded(&mut self, digest: Digest, bytes: Option<Bytes>, now: Millis) -> Vec<Do> {
        if !self.images.loaded(digest, bytes, now) {
            return Vec::new();
        }
        let waits = |(_, offered): &(&Spot, &Offered)| {
            offered.digest == digest && matches!(offered.open, Some((_, None)))
        };
        let waiting: Vec<_> = self.offered.iter().filter(waits).map(|(d, _)| d.clone()).collect();
        for spot in &waiting {
            self.schedule(spot, now);
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
            let Some((_, spot)) = self.due.pop_first() else { break };
            if let Some(payload) = self.answer(&spot, now) {
                self.pace.take(now);
                self.counters.chunks += 1;
                done.push(Do::Send { device: spot.0, payload });
            }
        }
        done
    }

    /// Sums since the start of the process.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn schedule(&mut self, spot: &Spot, now: Millis) {
        let Some(offered) = self.offered.get_mut(spot) else { return };
        let Some((_, at)) = &mut offered.open else { return };
        let due = offered.pace.free_at().max(now);
        *at = Some(due);
        self.due.insert((due, spot.clone()));
    }

    fn answer(&mut self, spot: &Spot, now: Millis) -> Option<Bytes> {
        const HEAD: usize = 32;
        let offered = self.offered.get_mut(spot)?;
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
fn encoded(firmware: &Image) -> Option<(Bytes, u32)> {
    const OFFER_BYTES_MAX: usize = 256;
    let mut signature = [0; 64];
    let offer = firmware.offer(&mut signature)?;
    let length = offer.length;
    debug_assert!(length <= IMAGE_MAX, "checked with the manifest");
    Some((encode(&firmware.kind.down(offer), OFFER_BYTES_MAX)?, length))
}

fn encode(down: &Down<'_>, bytes_max: usize) -> Option<Bytes> {
    let mut bytes = vec![0; bytes_max];
    let length = down.encode(&mut bytes).ok()?;
    bytes.truncate(length);
    Some(Bytes::from(bytes))
}
