//! A gateway whose disk fills up under load, twice.
//!
//! First it heals without anybody making room: the link to the control plane comes back, and
//! receipts free what the records took. Then somebody else's file takes the disk, the gateway is
//! killed and started on the full disk, and heals when the file goes, with the link still cut.

use std::time::Duration;

use anyhow::Result;

use super::Options;
use super::bad_disk::{BadDisk, Report};

/// Size of the disk: the journal, a checkpoint and a ballast fit, and little more.
const DISK_BYTES: u64 = 72 << 20;
/// What somebody else leaves of it.
const LEFT_BYTES: u64 = 1 << 20;

/// Runs it.
///
/// # Errors
/// A step does not come to its end; the message names it.
pub fn run(options: Options) -> Result<Report> {
    let mut full = BadDisk::begin(options, DISK_BYTES, "the store is full")?;
    full.campaign.cloud.link.cut();
    full.disk.fill(LEFT_BYTES)?;
    let degraded = full.step("the disk is full", BadDisk::wait_bad)?;
    full.step("no acks, but what needs no disk goes on", BadDisk::watch)?;
    full.campaign.cloud.link.mend();
    full.step("receipts made room: acks again", BadDisk::wait_acks)?;

    full.campaign.cloud.link.cut();
    full.disk.fill(LEFT_BYTES / 2)?;
    full.step("the disk is full again", BadDisk::wait_bad)?;
    full.step("SIGKILL, and up again on the full disk", |full| {
        full.campaign.kill_at_random(Duration::ZERO)?;
        full.wait_answer()
    })?;
    full.step("no acks there either", BadDisk::watch)?;
    full.disk.clear()?;
    full.step("space returned: acks again, the link still cut", BadDisk::wait_acks)?;
    full.campaign.cloud.link.mend();
    full.finish(degraded)
}
