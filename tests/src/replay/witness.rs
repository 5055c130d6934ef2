//! What clients saw, written by themselves to the recorded disk.
//!
//! A client that received an ack notes it in a page of its own, behind the file system, with
//! `O_DIRECT`: the write reaches the recorder before [`Pen::note`] returns. It is never synced: a
//! flush for the witness would also flush what the agent had left unsynced, and hide exactly the
//! bug that is looked for. Nor need it be: the log of the recorder keeps every version of a page,
//! and only the place of the note in the log counts.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

/// Bytes of a page; what direct writes are aligned to.
pub(super) const PAGE_BYTES: usize = 4096;
const MAGIC: [u8; 8] = *b"HOLMSEEN";
const MARK_BYTES: usize = 8;
const MARKS_MAX: usize = (PAGE_BYTES - MAGIC.len() - 2) / MARK_BYTES;

/// What a client saw. All of it comes in order, so a count tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Kind {
    /// A device has the PUBACK (QoS 1) or PUBREC (QoS 2) of so many of its messages.
    Acked,
    /// A device is about to send the PUBREL of so many of its messages.
    Releasing,
    /// A device has the PUBCOMP of so many of its messages.
    Completed,
    /// The subscriber has so many of the device's own messages, and has acked none of the last.
    HeardRaw,
    /// The subscriber has so many of what the function published for the device.
    HeardSmooth,
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::Acked, Self::Releasing, Self::Completed, Self::HeardRaw, Self::HeardSmooth];
}

/// A note: of this device's messages, those below `upto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) kind: Kind,
    /// Which device, by its place among the devices.
    pub(super) device: u8,
    pub(super) upto: u32,
}

/// Where clients note what they saw.
pub(super) trait Notes: Send {
    /// Notes it before the client does anything more.
    fn note(&mut self, marks: &[Mark]) -> Result<()>;
}

#[repr(align(4096))]
struct Page([u8; PAGE_BYTES]);

/// A client's own page on the recorded disk.
pub(super) struct Pen {
    disk: File,
    at: u64,
    page: Box<Page>,
}

impl Pen {
    /// Takes the page `place` of those that begin at `base` bytes.
    pub(super) fn open(disk: &Path, base: u64, place: usize) -> Result<Self> {
        let direct = i32::try_from(OFlags::DIRECT.bits())?;
        let disk = OpenOptions::new().write(true).custom_flags(direct).open(disk);
        let at = base + (place * PAGE_BYTES) as u64;
        Ok(Self {
            disk: disk.context("the recorded disk")?,
            at,
            page: Box::new(Page([0; PAGE_BYTES])),
        })
    }
}

impl Notes for Pen {
    fn note(&mut self, marks: &[Mark]) -> Result<()> {
        ensure!(marks.len() <= MARKS_MAX, "{} marks at once", marks.len());
        encode(marks, &mut self.page.0);
        self.disk.write_all_at(&self.page.0, self.at).context("noting on the recorded disk")
    }
}

fn encode(marks: &[Mark], page: &mut [u8; PAGE_BYTES]) {
    page.fill(0);
    page[..8].copy_from_slice(&MAGIC);
    let count = u16::try_from(marks.len()).unwrap_or(u16::MAX);
    page[8..10].copy_from_slice(&count.to_le_bytes());
    for (mark, bytes) in marks.iter().zip(page[10..].chunks_exact_mut(MARK_BYTES)) {
        bytes[0] = mark.kind as u8;
        bytes[1] = mark.device;
        bytes[4..].copy_from_slice(&mark.upto.to_le_bytes());
    }
}

/// Reads a page of the log; `None` where it is none.
pub(super) fn decode(page: &[u8]) -> Option<Vec<Mark>> {
    let rest = page.strip_prefix(&MAGIC)?;
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let mark = |bytes: &[u8]| {
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == bytes[0])?;
        let upto = u32::from_le_bytes(bytes[4..].try_into().ok()?);
        Some(Mark { kind, device: bytes[1], upto })
    };
    let marks = rest.chunks_exact(MARK_BYTES).take(usize::from(u16::from_le_bytes(*count)));
    marks.map(mark).collect()
}

/// What the clients had noted at some place of the log, for one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) acked: u32,
    pub(super) releasing: u32,
    pub(super) completed: u32,
    pub(super) heard_raw: u32,
    pub(super) heard_smooth: u32,
}

/// What the clients had noted, by device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Witness(pub(super) Vec<Seen>);

impl Witness {
    /// Nobody has seen anything.
    pub(super) fn of(devices: usize) -> Self {
        Self(vec![Seen::default(); devices])
    }

    /// Takes a note. Counts only grow.
    pub(super) fn take(&mut self, mark: Mark) -> Result<()> {
        let seen = self.0.get_mut(usize::from(mark.device)).context("a note of a stranger")?;
        let count = match mark.kind {
            Kind::Acked => &mut seen.acked,
            Kind::Releasing => &mut seen.releasing,
            Kind::Completed => &mut seen.completed,
            Kind::HeardRaw => &mut seen.heard_raw,
            Kind::HeardSmooth => &mut seen.heard_smooth,
        };
        ensure!(*count <= mark.upto, "a note goes back: {mark:?} after {count}");
        *count = mark.upto;
        Ok(())
    }

    /// Acks that clients had.
    pub(super) fn acks(&self) -> u64 {
        self.0.iter().map(|seen| u64::from(seen.acked)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_and_other_bytes_are_none() {
        let marks: Vec<Mark> = (0..MARKS_MAX)
            .map(|n| Mark {
                kind: Kind::ALL[n % Kind::ALL.len()],
                device: u8::try_from(n % 7).unwrap(),
                upto: u32::try_from(n * 1_000_003 % 70_000).unwrap(),
            })
            .collect();
        let mut page = [7; PAGE_BYTES];
        encode(&marks, &mut page);
        assert_eq!(decode(&page), Some(marks));
        page[0] ^= 1;
        assert_eq!(decode(&page), None);
        assert_eq!(decode(&[]), None);
    }

    #[test]
    fn a_count_never_goes_back() {
        let mut witness = Witness::of(2);
        let mark = |upto| Mark { kind: Kind::Acked, device: 1, upto };
        witness.take(mark(3)).unwrap();
        witness.take(mark(3)).unwrap();
        assert!(witness.take(mark(2)).is_err());
        assert!(witness.take(Mark { device: 2, ..mark(9) }).is_err());
        assert_eq!((witness.acks(), witness.0[1].acked), (3, 3));
    }
}
