//! The boot record on the card itself.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use edge_core::boot::card::{BootRecord, COPIES_AT, COPY_BYTES};

/// The record that counts.
///
/// # Errors
/// No copy is whole, or the card cannot be read.
pub fn read(disk: &Path) -> io::Result<BootRecord> {
    newest(&File::open(disk)?).map(|(record, _)| record)
}

/// Writes a record over the older copy, durably.
///
/// # Errors
/// The card refuses, or no copy is whole: then there is none that could be left.
pub fn write(disk: &Path, record: BootRecord) -> io::Result<()> {
    let card = OpenOptions::new().read(true).write(true).open(disk)?;
    let (_, newest) = newest(&card)?;
    card.write_all_at(&record.encode(), COPIES_AT[1 - newest])?;
    card.sync_all()
}

fn newest(card: &File) -> io::Result<(BootRecord, usize)> {
    let mut copies = [[0; COPY_BYTES]; 2];
    for (copy, at) in copies.iter_mut().zip(COPIES_AT) {
        // A torn sector may be one that cannot be read: the other copy counts.
        if let Err(error) = card.read_exact_at(copy, at) {
            tracing::warn!(%error, at, "a copy of the boot record cannot be read");
        }
    }
    let newest = BootRecord::newest(&copies);
    newest.ok_or_else(|| io::Error::other("no copy of the boot record is whole"))
}
