//! The other slot: a system that does not boot or that hangs is left again, one that is well is kept.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge_core::boot::Slot;
use edge_core::boot::card::{BootRecord, TRIES};

use super::machine::{Hardware, PATIENCE};
use crate::image::disk::{self, boot_record, set_boot_record};
use crate::image::layout::{PARTITIONS, check_fits};
use crate::image::{Board, Parts, Versions, hanging_root};
use crate::setup;

/// From a system that is well to the commit of its slot.
const COMMIT_MAX: Duration = Duration::from_secs(180);
/// Where a root is worn, from its beginning on: behind its super block, in the data of its first files.
const WORN_FROM: u64 = 4 << 10;
const WORN_BYTES: usize = 4 << 20;

/// Puts noise into the other slot: after both tries the good one must run, and the record must say so.
pub(crate) fn bad(hardware: &Hardware) -> Result<()> {
    let before = record(&hardware.image)?;
    write_root(&hardware.image, before.good.other(), &[0xa5; 4096])?;
    comes_back(hardware, before, Some("its root cannot be entered"))
}

/// Puts a system into the other slot that starts and does nothing: only the watchdog, which the initramfs
/// has armed, ends it. Both tries go that way.
pub(crate) fn hanging(hardware: &Hardware, parts: &Path, dir: &Path) -> Result<()> {
    let before = record(&hardware.image)?;
    let parts = Parts::fetch(parts, Board::Virt, Versions::AsBefore)?;
    let root = dir.join("hanging.squashfs");
    hanging_root(&parts, &setup::empty_dir(&dir.join("hanging"))?, &root)?;
    write_root(&hardware.image, before.good.other(), &std::fs::read(&root)?)?;
    comes_back(hardware, before, None)
}

/// The other slot goes on trial and must be left after both tries, each of which says `last_words`.
fn comes_back(hardware: &Hardware, before: BootRecord, last_words: Option<&str>) -> Result<()> {
    put_on_trial(&hardware.image, before)?;
    let mut machine = hardware.start()?;
    for left in (0..TRIES).rev() {
        machine.expect(&format!("trial 1, tries left {left}"), PATIENCE)?;
        if let Some(words) = last_words {
            machine.expect(words, PATIENCE)?;
        }
    }
    machine.expect("the trial failed; back to the good slot", PATIENCE)?;
    machine.expect("agent ready", PATIENCE)?;
    machine.cut_power()?;
    let after = record(&hardware.image)?;
    ensure!(
        after.good == before.good && after.trial.is_none(),
        "the boot record after the return: {after:?}"
    );
    Ok(())
}

/// Puts a copy of the good root into the other slot: it must run, and become the good one. An update of the
/// agent is on trial, too: the system must wait for it. Each of these lines is looked for behind the one before.
pub(crate) fn good(hardware: &Hardware) -> Result<()> {
    let before = record(&hardware.image)?;
    good_on_trial(&hardware.image)?;
    let mut machine = hardware.start()?;
    machine.expect(&format!("trial 1, tries left {}", TRIES - 1), PATIENCE)?;
    machine.expect("agent_state=trial uplink=up", PATIENCE)?;
    machine.expect("agent_state=confirmed", COMMIT_MAX)?;
    machine.expect("is kept", COMMIT_MAX)?;
    machine.cut_power()?;
    let after = record(&hardware.image)?;
    ensure!(
        after.good == before.good.other() && after.trial.is_none(),
        "the boot record after the commit: {after:?}"
    );
    let mut machine = hardware.start()?;
    machine.expect("trial 0", PATIENCE)?;
    machine.expect("agent ready", PATIENCE)?;
    machine.cut_power()
}

/// Puts a copy of the good root into the other slot, which is on trial then.
pub(crate) fn good_on_trial(image: &Path) -> Result<()> {
    let before = record(image)?;
    copy_root(image, before.good)?;
    put_on_trial(image, before)
}

/// The card wears out where the good slot has its initramfs: the boot loader takes the other slot, which is the good one
/// then.
pub(crate) fn worn_initramfs(hardware: &Hardware) -> Result<()> {
    let good = record(&hardware.image)?.good;
    let path = format!("{}/initramfs.gz", good.as_str());
    let mut bytes = disk::read_boot_file(&hardware.image, &path)?;
    let whole = bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xa5);
    disk::write_boot_file(&hardware.image, &path, &bytes)?;
    let said = format!("slot {} cannot be started", good.as_str());
    other_takes_over(hardware, good, &said)?;
    disk::write_boot_file(&hardware.image, &path, &whole)
}

/// ... and where it has its root, behind the super block, so that it can be mounted.
pub(crate) fn worn_root(hardware: &Hardware) -> Result<()> {
    let good = record(&hardware.image)?.good;
    let mut disk = File::options().write(true).open(&hardware.image)?;
    disk.seek(SeekFrom::Start(root(good).start + WORN_FROM))?;
    disk.write_all(&vec![0xa5; WORN_BYTES])?;
    other_takes_over(hardware, good, "trying that of the other slot")
}

fn other_takes_over(hardware: &Hardware, good: Slot, said: &str) -> Result<()> {
    let mut machine = hardware.start()?;
    machine.expect(said, PATIENCE)?;
    machine.expect("agent ready", PATIENCE)?;
    machine.expect(&format!("slot {} is kept", good.other().as_str()), COMMIT_MAX)?;
    machine.cut_power()?;
    let after = record(&hardware.image)?;
    ensure!(after.good == good.other(), "the boot record afterwards: {after:?}");
    Ok(())
}

fn root(slot: Slot) -> &'static crate::image::layout::Partition {
    match slot {
        Slot::A => &PARTITIONS[1],
        Slot::B => &PARTITIONS[2],
    }
}

fn record(image: &Path) -> Result<BootRecord> {
    let newest = BootRecord::newest(&boot_record(image)?);
    newest.map(|(record, _)| record).context("no copy of the boot record is whole")
}

/// As an update writes it: a newer record over the older copy. The other copy is torn here, so that
/// the boot loader has to tell them apart.
fn put_on_trial(image: &Path, before: BootRecord) -> Result<()> {
    let trial = before.with_trial(Some(TRIES));
    let mut torn = before.encode();
    torn[300..].fill(0x5a);
    set_boot_record(image, &[torn, trial.encode()])
}

fn copy_root(image: &Path, from: Slot) -> Result<()> {
    let mut disk = File::open(image)?;
    let mut bytes = vec![0; usize::try_from(root(from).bytes)?];
    disk.seek(SeekFrom::Start(root(from).start))?;
    disk.read_exact(&mut bytes)?;
    write_root(image, from.other(), &bytes)
}

fn write_root(image: &Path, slot: Slot, bytes: &[u8]) -> Result<()> {
    check_fits(root(slot), u64::try_from(bytes.len())?)?;
    let mut disk = File::options().write(true).open(image)?;
    disk.seek(SeekFrom::Start(root(slot).start))?;
    Ok(disk.write_all(bytes)?)
}
