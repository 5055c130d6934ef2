//! A system into the slot that does not run, and on trial.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use edge_core::boot::Slot;
use edge_core::boot::card::TRIES;
use edge_core::boot::system::System;
use edge_core::id::Digest;
use sync_protocol::system_file::Part;

use super::card;
use super::helper::{Places, save};
use super::source::{Source, digest_of};

/// Called before each thing that is done to the card, with its name: a test cuts the power there.
pub(super) type Step<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;

/// Does all of it; afterwards the next start is the first try. One that is on trial already is left as it is.
///
/// # Errors
/// Why not; the slot that runs is as it was, and nothing is on trial.
pub(super) fn install(
    places: &Places,
    system: &System,
    source: &Source,
    by: Digest,
    step: Step<'_>,
) -> Result<System, String> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("{what}: {error}")
    };
    if system.tried() == Some(&source.offer.program) {
        return Ok(system.clone());
    }
    system.admit(&source.offer).map_err(|refusal| refusal.to_string())?;
    let mut record = card::read(&places.disk).map_err(io("the boot record"))?;
    if record.good != places.slot {
        return Err("the system that runs has yet to prove itself".to_owned());
    }
    let free = places.slot.other();
    if record.trial.is_some() {
        // By hand: what is in the slot is about to go.
        record = record.with_trial(None);
        step("end the trial of before").map_err(io("the boot record"))?;
        card::write(&places.disk, record).map_err(io("the boot record"))?;
    }
    step("forget the slot").map_err(io("the state"))?;
    let is_whole = system.program(free).is_some();
    let system = system.writing(free);
    save(&places.state, &system).map_err(io("the state"))?;
    parts(places, free, is_whole, source, step).map_err(io("writing the system"))?;
    step("know the slot").map_err(io("the state"))?;
    let system = system.written(free, &source.offer, by, record);
    save(&places.state, &system).map_err(io("the state"))?;
    step("begin the trial").map_err(io("the boot record"))?;
    card::write(&places.disk, record.with_trial(Some(TRIES))).map_err(io("the boot record"))?;
    Ok(system)
}

/// Writes the parts, and reads them back. `is_whole`: what is there was written to its end.
fn parts(
    places: &Places,
    slot: Slot,
    is_whole: bool,
    source: &Source,
    step: Step<'_>,
) -> io::Result<()> {
    let boot =
        places.boot.as_ref().ok_or_else(|| io::Error::other("no boot partition is mounted"))?;
    let folder = boot.join(slot.as_str());
    fs::create_dir_all(&folder)?;
    let root = &places.roots[usize::from(slot == Slot::B)];
    let parts = source.header.parts();
    check_device(root, parts[0])?;
    let (kernel, initramfs) = (folder.join("kernel.gz"), folder.join("initramfs.gz"));
    for (n, path) in [root, &kernel, &initramfs].into_iter().enumerate() {
        // On FAT length and chain of a file are not changed at once: after a cut between them what is there cannot
        // be written or made longer any more, but it can be removed. In place is only written what is whole
        // and as long, so that nothing but its contents changes.
        let is_as_long = || fs::metadata(path).is_ok_and(|found| found.len() == parts[n].size);
        if n > 0 && path.exists() && !(is_whole && is_as_long()) {
            step("remove the file")?;
            fs::remove_file(path)?;
        }
        let file =
            OpenOptions::new().read(true).write(true).create(n > 0).truncate(false).open(path)?;
        source.copy(n, |at, chunk| {
            step("write a piece")?;
            file.write_all_at(chunk, at)
        })?;
        file.sync_all()?;
        // What is read back must come from the card.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        if digest_of(&file, parts[n].size)? != parts[n].sha256 {
            return Err(io::Error::other("the card gives back other bytes than were written"));
        }
    }
    for dir in [&folder, boot] {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// That the root has room; a file that stands for a device may grow.
fn check_device(root: &Path, part: Part) -> io::Result<()> {
    let mut device = File::open(root)?;
    let room = device.seek(SeekFrom::End(0))?;
    if device.metadata()?.is_file() || part.size <= room {
        return Ok(());
    }
    Err(io::Error::other(format!("the root has {} bytes, its partition {room}", part.size)))
}
