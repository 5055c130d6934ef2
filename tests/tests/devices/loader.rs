//! The boot loader on the emulated machine, without a gateway: images that the test has written into flash.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use device_protocol::provision::{
    Credential, GATEWAYS_MAX, Gateway, IMAGE_BYTES, Provision, encode_image,
};
use system_tests::qemu::{Device, Options, firmware};
use system_tests::random::Random;
use system_tests::sensors::slot::{self, Drill, Image, SWAP_STEPS};
use system_tests::sensors::{FOLDER, PATIENCE, write_flash};

use crate::skipped;

/// Features of the images.
pub(crate) const FEATURES: &[&str] = &["full", "tls", "update"];
/// Power cuts while pages are moved, in each direction.
const CUTS: usize = 4;
const SEED: u64 = 16;

/// A board with the boot loader, whose device nobody answers.
struct Board {
    dir: PathBuf,
    flash: PathBuf,
    loader: PathBuf,
    /// Version 1, which runs at first.
    image: Image,
}

impl Board {
    fn new(dir: &Path) -> Result<Self> {
        let loader = slot::loader()?.path;
        let firmware = firmware(FOLDER, FEATURES)?;
        let image = Image::of(&firmware)?.context("the firmware is linked for the slot")?;
        let flash = dir.join("press-1.flash");
        provision(&flash, None)?;
        slot::write_first(&flash, &image)?;
        Ok(Self { dir: dir.to_owned(), flash, loader, image })
    }

    fn power_on(&self) -> Result<Device> {
        self.start(false)
    }

    fn start(&self, stopped: bool) -> Result<Device> {
        let mut options = Options::new(&self.loader, &[]);
        options.flash = Some(self.flash.clone());
        options.stopped = stopped;
        Device::start("press-1", &self.dir, &options)
    }

    /// Cuts power as soon as the boot loader has noted so many steps.
    fn cut_at(&self, steps: usize) -> Result<()> {
        let mut device = self.start(true)?;
        device.run_until(PATIENCE, || Ok(slot::steps_done(&self.flash)? >= steps))?;
        device.kill()
    }

    /// Cuts power at moments of the seed while `steps` are done; how many cuts fell into them.
    fn cut_often(&self, random: &mut Random, steps: std::ops::Range<usize>) -> Result<usize> {
        let share = (steps.end - steps.start) / CUTS;
        let mut inside = 0;
        for cut in 0..CUTS {
            let at = steps.start + cut * share + 1 + random.below(share / 2);
            self.cut_at(at)?;
            let done = slot::steps_done(&self.flash)?;
            eprintln!("power cut wanted at step {at}, was at {done}");
            inside += usize::from(steps.contains(&done));
        }
        ensure!(inside >= 3, "{inside} cuts fell into the moving of pages");
        Ok(inside)
    }
}

/// What a device needs to start, and the author whose images it takes; its gateway is nowhere.
pub(crate) fn provision(flash: &Path, author_key: Option<[u8; 32]>) -> Result<()> {
    let mut gateways = heapless::Vec::<_, GATEWAYS_MAX>::new();
    gateways.push(Gateway { host: "10.0.2.2", port: 9 }).ok().context("room for a gateway")?;
    let credential = Credential::Token { gateway_ca: &[0x30, 0], token: "token" };
    let provision = Provision {
        device: "press-1",
        issued_unix_s: 1,
        gateways,
        server_name: "barn.local",
        credential,
        author_key,
    };
    let mut image = [0; IMAGE_BYTES];
    encode_image(&provision, 1, &mut image)?;
    write_flash(flash, &image)
}

#[test]
fn pages_are_moved_and_moved_back_whatever_cuts_power() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let board = Board::new(dir.path())?;
    let mut random = Random::new(SEED);
    let mut device = board.power_on()?;
    device.console_line("image version 1 ", PATIENCE)?;
    device.kill()?;

    let next = board.image.labelled(2, 0, Drill::None);
    slot::arm(&board.flash, &next.bytes)?;
    let there = board.cut_often(&mut random, 0..SWAP_STEPS)?;
    let mut device = board.power_on()?;
    device.console_line("boot: a new image, on trial", PATIENCE)?;
    device.console_line("image version 2 ", PATIENCE)?;
    device.kill()?;
    ensure!(slot::is_active(&board.flash, &next)?, "the new image is whole");

    // It did not confirm itself: the next start takes it back, through cuts as well.
    let back = board.cut_often(&mut random, SWAP_STEPS..2 * SWAP_STEPS)?;
    let mut device = board.power_on()?;
    device.console_line("boot: the former image, taken back", PATIENCE)?;
    device.console_line("image version 1 ", PATIENCE)?;
    device.kill()?;
    ensure!(slot::is_active(&board.flash, &board.image)?, "the former image is whole");
    eprintln!("{there} cuts while swapping, {back} while taking back");
    Ok(())
}

#[test]
fn an_image_that_hangs_faults_or_is_none_is_taken_back_without_help() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let board = Board::new(dir.path())?;
    let drill = |drill| board.image.labelled(2, 0, drill).bytes;
    let zeros = vec![0; 4096];
    let noise: Vec<u8> = (0..4096_u32).flat_map(|n| (n * 77 + 5).to_le_bytes()).collect();
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("hangs", drill(Drill::Hang), "watchdog: not fed in time"),
        ("faults", drill(Drill::Fault), "hard fault: undefined instruction"),
        ("blank", zeros, "the new image cannot be started: nothing is there"),
        ("noise", noise, "the new image cannot be started: its stack"),
    ];
    for (what, bytes, said) in cases {
        slot::arm(&board.flash, &bytes)?;
        let mut device = board.power_on()?;
        let begun = Instant::now();
        for line in [said, "boot: the former image, taken back", "image version 1 "] {
            device.console_line(line, PATIENCE).context(what)?;
        }
        eprintln!("{what}: taken back after {:?}", begun.elapsed());
        device.kill()?;
        ensure!(slot::is_active(&board.flash, &board.image)?, "{what}: the former image is whole");
    }
    Ok(())
}

#[test]
fn without_an_image_the_loader_says_so_and_waits() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let flash = dir.path().join("press-1.flash");
    provision(&flash, None)?;
    let mut options = Options::new(&slot::loader()?.path, &[]);
    options.flash = Some(flash);
    let mut device = Device::start("press-1", dir.path(), &options)?;
    device.console_line("boot: no image", PATIENCE)?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(device.cpu_time()? < Duration::from_secs(5), "it waits asleep");
    device.kill()
}
