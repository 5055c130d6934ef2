//! A gateway whose file system turns read-only under load, as ext4 does after an error of its disk.
//!
//! Nothing is acked meanwhile, and what needs no disk goes on. Such a file system cannot be made
//! writable again while it is mounted: the gateway loses power, the disk is checked, and after its
//! start everything that was acked is there.

use anyhow::Result;

use super::Options;
use super::bad_disk::{BadDisk, Report};

const DISK_BYTES: u64 = 160 << 20;

/// Runs it.
///
/// # Errors
/// A step does not come to its end; the message names it.
pub fn run(options: Options) -> Result<Report> {
    let mut disk = BadDisk::begin(options, DISK_BYTES, "the store cannot be used")?;
    disk.disk.turn_read_only()?;
    let degraded = disk.step("the disk is read-only", BadDisk::wait_bad)?;
    disk.step("no acks, but what needs no disk goes on", BadDisk::watch)?;
    disk.step("power cut, check of the disk, start", |disk| {
        disk.campaign.kill_while(|| disk.disk.repair())?;
        disk.wait_answer()
    })?;
    disk.step("acks again", BadDisk::wait_acks)?;
    disk.finish(degraded)
}
