//! Firmware updates over a serial line: the gateway's bridge, and an emulated device without a network.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use sync_protocol::AuthorKey;
use system_tests::author::Author;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::wait_for;
use system_tests::qemu::{Device, Options, firmware};
use system_tests::sensors::slot::{self, Drill, Image};
use system_tests::sensors::{PATIENCE, line_toml};

use crate::loader::provision;
use crate::skipped;
use crate::update::{app, told};

const FOLDER: &str = "qemu-mps2-an385-uart";
const NAME: &str = "press-1";
/// An image takes some four hundred questions, each with its way there and back over the line.
const FETCH: Duration = Duration::from_secs(240);

/// A gateway with one line, at this address.
fn gateway(dir: &Path, author: &Author, line: SocketAddr) -> Result<Gateway> {
    let more = line_toml(line, NAME);
    let author_keys = vec![author.key()?];
    let setup = Setup { name: "barn".to_owned(), author_keys, more, ..Setup::default() };
    let mut gateway = Gateway::new(&dir.join("gateway"), &setup)?;
    gateway.start()?;
    Ok(gateway)
}

#[test]
fn an_image_arrives_over_a_serial_line_and_a_bad_one_is_taken_back() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let author = Author::new(&dir.path().join("author"))?;
    let firmware = firmware(FOLDER, &["update"])?;
    let image = Image::of(&firmware)?.context("the firmware is linked for the slot")?;
    let flash = dir.path().join("press-1.flash");
    provision(&flash, Some(author.key()?.parse::<AuthorKey>()?.to_raw()))?;
    slot::write_first(&flash, &image)?;

    let line = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut gateway = gateway(dir.path(), &author, line)?;
    let mut options = Options::new(&slot::loader()?.path, &[]);
    options.arguments = vec![format!("name={NAME}"), "confirm_ms_max=20000".to_owned()];
    options.flash = Some(flash.clone());
    options.more = vec!["-serial".to_owned(), format!("tcp:{line},reconnect=1")];
    let mut device = Device::start(NAME, dir.path(), &options)?;
    device.console_line("image version 1 ", PATIENCE)?;
    device.console_line("Online", PATIENCE)?;

    let deploy = |version, drill| -> Result<Image> {
        let image = image.labelled(version, 0, drill);
        gateway.deploy(&author.build(&app(dir.path(), &image, version)?)?)?;
        Ok(image)
    };
    let second = deploy(2, Drill::None)?;
    let half = second.bytes.len() / 4096 / 2;
    wait_for(FETCH, "half of the image", || Ok((slot::pages_kept(&flash)? >= half).then_some(())))?;
    device.kill()?;
    let mut device = Device::start(NAME, dir.path(), &options)?;
    device.console_line("image version 2 ", FETCH).context("the new image")?;
    let wait_stage = |version: u32, stage: &str| {
        wait_for(FETCH, &format!("version {version} to be {stage}"), || {
            let told = told(&gateway, NAME)?;
            Ok((told["stage"] == stage && told["version"] == version).then_some(()))
        })
    };
    wait_stage(2, "confirmed")?;
    assert!(slot::is_active(&flash, &second)?, "what runs is what was signed");

    deploy(3, Drill::Fault)?;
    device.console_line("hard fault: undefined instruction", FETCH)?;
    device.console_line("boot: the former image, taken back", PATIENCE)?;
    device.console_line("image version 2 ", PATIENCE)?;
    wait_stage(3, "declined")?;
    assert!(slot::is_active(&flash, &second)?, "version 2 is whole");
    gateway.stop()
}
