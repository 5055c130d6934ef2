//! Firmware updates: what is offered, asked for, sent and told.
//!
//! The gateway states which image a device should run ([`Offer`], retained). The device decides what to do: an image for
//! another board, with a wrong signature or below its floor it declines with a reason; else it asks for bytes
//! ([`Want`]) from where it stands until it has all, checks digest and signature over the whole, swaps, starts, and
//! confirms only after it has reached the gateway again. One that does not is taken back by the boot loader.

use serde::{Deserialize, Serialize};

use crate::limits::{CHUNK_MAX, IMAGE_MAX, TEXT_MAX, WORD_MAX};
use crate::{Error, codec};

/// Bytes of the SHA-256 of an image.
pub type Digest = [u8; 32];

/// An image that the device should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer<'a> {
    /// SHA-256 of the image.
    pub digest: Digest,
    /// Its length in bytes, 1 to 16 MiB.
    pub length: u32,
    /// Board that it is built for; a device declines any other.
    pub board: &'a str,
    /// Version: a device declines one below the floor that its last image set.
    pub version: u32,
    /// Versions below this one are declined from now on.
    pub floor: u32,
    /// Ed25519 signature of the author over [`Offer::signed`].
    pub signature: &'a [u8],
}

/// Asks for bytes of an image. A device has one request open at a time and repeats it after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Which image: the first bytes of its digest.
    pub image: [u8; 8],
    /// From which byte.
    pub offset: u32,
    /// How many bytes, 1 to 1,024.
    pub length: u16,
}

/// Bytes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk<'a> {
    /// Which image: the first bytes of its digest.
    pub image: [u8; 8],
    /// From which byte.
    pub offset: u32,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// How far an update has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress<'a> {
    /// Which image: the first bytes of its digest.
    pub image: [u8; 8],
    /// How far it is.
    pub stage: Stage,
    /// Bytes of it that are kept.
    pub offset: u32,
    /// Why it was declined or failed; empty otherwise.
    pub reason: &'a str,
}

/// Stage of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The device fetches it.
    Fetching,
    /// It is whole and verified, and will be started.
    Verified,
    /// It runs and has reached the gateway: it stays.
    Confirmed,
    /// The device will not take it.
    Declined,
    /// It was started and did not confirm; the former image runs again.
    TakenBack,
}

/// Length of [`Offer::signed`].
pub const SIGNED_BYTES: usize = 13 + 32 + 4 + 4 + 4 + 1 + WORD_MAX;

impl Offer<'_> {
    /// What the author signs: a fixed text, digest, length, version and floor (little endian), length and bytes of the
    /// board's name, padded with zeros.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a board with a name over 32 bytes.
    pub fn signed(&self) -> Result<[u8; SIGNED_BYTES], Error> {
        codec::bound(self.board.as_bytes(), WORD_MAX)?;
        let board_length = u8::try_from(self.board.len()).map_err(|_| Error::TooLong)?;
        let parts: [&[u8]; 7] = [
            b"holm-firmware",
            &self.digest,
            &self.length.to_le_bytes(),
            &self.version.to_le_bytes(),
            &self.floor.to_le_bytes(),
            &[board_length],
            self.board.as_bytes(),
        ];
        let mut signed = [0; SIGNED_BYTES];
        let mut at = 0;
        for part in parts {
            signed[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Ok(signed)
    }

    /// First bytes of the digest, as requests and chunks name the image.
    #[must_use]
    pub fn image(&self) -> [u8; 8] {
        let mut image = [0; 8];
        image.copy_from_slice(&self.digest[..8]);
        image
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        codec::bound(self.board.as_bytes(), WORD_MAX)?;
        let sound = (1..=IMAGE_MAX).contains(&self.length)
            && self.signature.len() == 64
            && !self.board.is_empty();
        if sound { Ok(()) } else { Err(Error::Malformed) }
    }
}

impl Want {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if (1..=CHUNK_MAX).contains(&usize::from(self.length)) {
            Ok(())
        } else {
            Err(Error::Malformed)
        }
    }
}

impl Chunk<'_> {
    pub(crate) fn check(&self) -> Result<(), Error> {
        codec::bound(self.bytes, CHUNK_MAX)
    }
}

impl Progress<'_> {
    pub(crate) fn check(&self) -> Result<(), Error> {
        codec::bound(self.reason.as_bytes(), TEXT_MAX)
    }
}
