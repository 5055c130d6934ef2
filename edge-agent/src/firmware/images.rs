//! Images in memory: those that devices ask for now.
//!
//! # Invariants
//! - At most [`IMAGES_BYTES_MAX`], what is being read counted; one is read at a time.
//! - An image gives way to another one only [`IMAGE_KEPT`] after it was read, so that two fleets with
//!   large images get on by turns.

use std::collections::BTreeMap;

use bytes::Bytes;
use device_protocol::limits::IMAGE_MAX;
use edge_core::time::Millis;
use sync_protocol::id::Digest;

/// Bytes of all images in memory: the largest one fits.
pub const IMAGES_BYTES_MAX: u64 = IMAGE_MAX as u64;
/// How long an image is kept, however many others are wanted.
pub const IMAGE_KEPT: Millis = Millis(5_000);
/// How long an image is kept that nobody asks for.
pub const IMAGE_IDLE: Millis = Millis(60_000);

#[derive(Debug)]
struct Held {
    bytes: Bytes,
    read_at: Millis,
    wanted_at: Millis,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Images {
    held: BTreeMap<Digest, Held>,
    loading: Option<Digest>,
}

impl Images {
    /// An image, if it is in memory.
    pub(super) fn get(&mut self, digest: Digest, now: Millis) -> Option<&Bytes> {
        let held = self.held.get_mut(&digest)?;
        held.wanted_at = now;
        Some(&held.bytes)
    }

    /// Whether it is to be read now; room is made then.
    pub(super) fn may_load(&mut self, digest: Digest, length: u32, now: Millis) -> bool {
        if self.loading.is_some() {
            return false;
        }
        while self.bytes() + u64::from(length) > IMAGES_BYTES_MAX {
            let may_go = |(_, held): &(&Digest, &Held)| held.read_at + IMAGE_KEPT <= now;
            let oldest = self.held.iter().filter(may_go).min_by_key(|(_, held)| held.wanted_at);
            let Some(digest) = oldest.map(|(digest, _)| *digest) else { return false };
            self.held.remove(&digest);
        }
        self.loading = Some(digest);
        true
    }

    /// It was read, or could not be; whether it is in memory now.
    pub(super) fn loaded(&mut self, digest: Digest, bytes: Option<Bytes>, now: Millis) -> bool {
        if self.loading.take_if(|loading| *loading == digest).is_none() {
            return false;
        }
        let Some(bytes) = bytes else { return false };
        self.held.insert(digest, Held { bytes, read_at: now, wanted_at: now });
        true
    }

    /// When the first of them goes because nobody asks for it.
    pub(super) fn idle_at(&self) -> Option<Millis> {
        self.held.values().map(|held| held.wanted_at + IMAGE_IDLE).min()
    }

    pub(super) fn drop_idle(&mut self, now: Millis) {
        self.held.retain(|_, held| now < held.wanted_at + IMAGE_IDLE);
    }

    fn bytes(&self) -> u64 {
        self.held.values().map(|held| held.bytes.len() as u64).sum()
    }
}
