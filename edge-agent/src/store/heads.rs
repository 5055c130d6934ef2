//! What the first bytes of a store's files say: a look for whoever must not open it.
//!
//! # Invariants
//! - Nothing is changed, and no lock is taken.
//! - What is read is bounded: a few bytes of each file, and all of a segment whose header is torn.
//! - What is refused here, a start would refuse too. Not the other way round: damage behind the first
//!   bytes is found by a start only.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::base;
use super::disk::{Disk, ReadOnlyDisk};
use super::error::OpenError;
use super::journal::{self, Slots};
use super::open::check_no_journal;
use super::replay::read_headers;
use super::segment::{self, Found, HEADER_BYTES};
use super::{SEGMENTS, Settings};

/// The largest segment that a journal can have.
pub(super) const SEGMENT_BYTES_MAX: u32 = 64 << 20;

/// Whether a directory holds the files of a store, or some of them.
///
/// # Errors
/// It cannot be listed.
pub fn is_made(dir: &Path) -> io::Result<bool> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| name == base::FILE || segment::is_file_name(name)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks at a store that nobody has open. A directory without one is well: a start makes it.
///
/// # Errors
/// Why a start would refuse it.
pub fn check_heads(dir: &Path) -> Result<(), OpenError> {
    let disk = ReadOnlyDisk(dir.to_owned());
    if !base::check_head(&disk)? {
        return check_no_journal(&disk, usize::from(Settings::default().segments));
    }
    let (count, segment_bytes) = measure(&disk)?;
    let mut slots = Slots {
        files: journal::open_files(&disk, count, segment_bytes)?,
        segment_bytes: segment_bytes as usize,
        store_id: 0,
        number: 0,
        in_use: Vec::new(),
    };
    slots.store_id = store_id(&slots)?;
    read_headers(&slots).map(drop)
}

/// How many segments there should be at least, and how long they should be: only the checkpoint knows.
fn measure(disk: &dyn Disk) -> Result<(usize, u32), OpenError> {
    let (mut count, mut longest) = (usize::from(*SEGMENTS.start()), 0);
    for slot in 0..usize::from(*SEGMENTS.end()) {
        let name = segment::file_name(slot);
        let file = disk.open(&name).map_err(OpenError::io(format!("opening {name}")))?;
        let Some(file) = file else { continue };
        let len = file.len().map_err(OpenError::io(format!("reading {name}")))?;
        let len = u32::try_from(len).ok().filter(|len| *len <= SEGMENT_BYTES_MAX);
        let len = len.ok_or_else(|| OpenError::Foreign {
            file: name,
            why: "it is longer than any segment of a journal",
        })?;
        (count, longest) = (count.max(slot + 1), longest.max(len));
    }
    Ok((count, longest))
}

/// The store that wrote the journal, by most of its segments: the odd one is to be told.
fn store_id(slots: &Slots) -> Result<u64, OpenError> {
    let mut found = BTreeMap::new();
    for (slot, file) in slots.files.iter().enumerate() {
        let name = segment::file_name(slot);
        let mut bytes = [0; HEADER_BYTES];
        file.read_at(0, &mut bytes).map_err(OpenError::io(format!("reading {name}")))?;
        if let Found::Life(header) = segment::read(&name, &bytes)? {
            *found.entry(header.store_id).or_insert(0_u32) += 1;
        }
    }
    Ok(found.into_iter().max_by_key(|(_, segments)| *segments).map_or(0, |(id, _)| id))
}
