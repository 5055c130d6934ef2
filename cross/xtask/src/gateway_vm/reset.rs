//! A factory reset as the owner of a board makes it: a file and a new token on the card's boot partition.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::gate::Gate;
use super::machine::{Hardware, PATIENCE};
use super::site::{GATEWAY, Site};
use crate::image::disk;

/// What asks for it.
const FILE: &str = "holm/factory-reset";

/// The gateway must forget what it had, and enrol as a new one of its name; how long that took.
pub(crate) fn factory(site: &Site, hardware: &Hardware) -> Result<Duration> {
    let token = site.token(&Gate::new(GATEWAY, ""))?;
    disk::write_boot_file(&hardware.image, "holm/enroll-token", token.as_bytes())?;
    disk::write_boot_file(&hardware.image, FILE, b"")?;
    let begun = Instant::now();
    let mut machine = hardware.start()?;
    machine.expect("factory reset: done", PATIENCE)?;
    machine.expect("enrolled as", PATIENCE)?;
    machine.expect("agent_slot=a agent_state=confirmed uplink=up", PATIENCE)?;
    let took = begun.elapsed();
    machine.cut_power()?;
    ensure!(disk::read_boot_file(&hardware.image, FILE).is_err(), "it would be reset again");
    Ok(took)
}
