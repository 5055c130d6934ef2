//! The image for a Raspberry Pi 3 in QEMU's `raspi3b`: it boots, counts tries and takes itself back. There is
//! no network, so that it joins nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use system_tests::interrupt::Interrupt;

use super::machine::{Hardware, PATIENCE};
use super::slots;
use super::story::{Options, boot, print_lines};
use crate::image::system::own_version;
use crate::image::{Board, Request, Seed, Sources, Versions, build};

/// QEMU takes only a power of two for the size of a card.
const CARD_BYTES: u64 = 512 << 20;

/// A boot, and a system in the other slot that does not boot.
pub(crate) fn tell(options: &Options) -> Result<()> {
    // QEMU 7.2 resets this board at once when its watchdog is armed.
    let settings = vec!["STATUS_EVERY_S=5".to_owned(), "WATCHDOG=off".to_owned()];
    let built = build(&Request {
        board: Board::Rpi3,
        agent: options.basis.agent.clone(),
        seed: Seed::read(&Sources { settings, ..Sources::default() })?,
        out: options.basis.dir.join("gateway.img"),
        parts: options.basis.parts.clone(),
        versions: Versions::AsBefore,
        version: own_version(),
        built_at: None,
    })?;
    std::fs::File::options().write(true).open(&built.image)?.set_len(CARD_BYTES)?;
    let hardware = Hardware {
        image: built.image,
        u_boot: built.u_boot.context("QEMU has this board")?,
        device_tree: built.device_tree,
        mqtt_port: 0,
        forwards: Vec::new(),
        is_recorded: false,
        memory_mib: 1_024,
        log: options.basis.dir.join("console.log"),
        interrupt: Interrupt::watch()?,
    };
    println!("first boot, at 1970, without network");
    let mut machine = hardware.start()?;
    let lines = boot(&mut machine, "first boot")?;
    print_lines(&lines);
    machine.expect("status up_ms", PATIENCE)?;
    machine.pause(Duration::from_secs(1))?;
    machine.cut_power()?;
    if options.is_test {
        println!("a system that does not boot, in the other slot");
        slots::bad(&hardware)?;
        println!("  the gateway came back from it by itself");
    }
    println!("OK: it boots in QEMU's raspi3b; it was never on hardware");
    Ok(())
}
