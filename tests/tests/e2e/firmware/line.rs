//! A device on a serial line that is offered firmware and a function at once: both come over the line, one after the other,
//! and both come to run.
//!
//! Line, gateway, offers and bytes are real. The device is the SDK in this process; what boots is a number for each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use device_sdk::protocol::DeviceName;
use device_sdk::protocol::serial::{Device as Line, DeviceConfig, Timing};
use device_sdk::update::{Boot, Ended, Layout, Running, Slot, Trial, UpdateConfig};
use device_sdk::{Config, Device, Memory, Overflow, RamQueue};
use edge_agent::runtime::{DEVICE_TARGET, WASMTIME_VERSION};
use embedded_io_adapters::tokio_1::FromTokio;
use sync_protocol::AuthorKey;
use sync_protocol::device_image::offer_version;
use system_tests::author::{Author, fixture};
use system_tests::gateway::{Gateway, Setup};
use tokio::net::TcpStream;

use super::board::{Flash, Head, PAGE};
use super::{BOARD, FETCH};

const NAME: &str = "press-1";
const FIRMWARE_VERSION: u32 = 2;
const FIRMWARE_BYTES: usize = 20_000;
/// Pages for an image, with one more, and the page of its notes.
const IMAGE_PAGES: u32 = 64;
/// Device and gateway sit on one line that has no speed of its own.
const TIMING: Timing = Timing::for_baud(115_200);

/// An image of a kind: what runs, what is on trial, where the next one is gathered.
struct Place {
    version: u32,
    is_on_trial: bool,
    is_confirmed: bool,
    flash: Flash,
}

impl Place {
    fn new() -> Self {
        let flash = Flash::with(IMAGE_PAGES + 1, &[]);
        Self { version: 1, is_on_trial: false, is_confirmed: false, flash }
    }

    fn layout() -> Layout {
        let end = IMAGE_PAGES * PAGE;
        Layout { image: 0..end, notes: end..end + PAGE }
    }

    /// The loader's part of a start: what it was told to try is tried.
    fn start(&mut self, loader: &Loader, next: u32) {
        if loader.is_armed {
            (self.version, self.is_on_trial) = (next, true);
        } else if loader.is_confirmed {
            (self.is_on_trial, self.is_confirmed) = (false, self.is_on_trial);
        }
    }

    fn loader(&self) -> Loader {
        Loader { is_on_trial: self.is_on_trial, is_armed: false, is_confirmed: false }
    }
}

/// What a boot loader is told in one life.
struct Loader {
    is_on_trial: bool,
    is_armed: bool,
    is_confirmed: bool,
}

impl Boot for Loader {
    type Error = ();

    async fn trial(&mut self) -> Result<Trial, ()> {
        Ok(if self.is_on_trial { Trial::Running } else { Trial::None })
    }

    async fn confirm(&mut self) -> Result<(), ()> {
        self.is_confirmed = true;
        Ok(())
    }

    async fn arm(&mut self) -> Result<(), ()> {
        self.is_armed = true;
        Ok(())
    }
}

/// A life of the device, to its restart or until both images are confirmed.
async fn live(
    line: SocketAddr,
    author: &[u8; 32],
    boot: u64,
    firmware: &Place,
    function: &Place,
    loaders: [&mut Loader; 2],
) -> Result<Ended> {
    let platform = format!("{DEVICE_TARGET} wasmtime {WASMTIME_VERSION}");
    let mut memory = Box::new(Memory::<512, 128, 256, 512>::new());
    let name = DeviceName::new(NAME).expect("a name");
    let (device, link) = Device::new(Config::new(name), boot, &mut memory);
    let config =
        DeviceConfig { address: None, name: NAME, credential: b"", timing: TIMING, seed: boot };
    let mut end = Line::<1_024, 1_024>::new(config);
    let stream = TcpStream::connect(line).await?;
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let port = (FromTokio::new(reader), FromTokio::new(writer));
    let mut ring = [0; 1_024];
    let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
    let running = |board, version| Running { board, version, floor: 0, author };
    let of_firmware = running(BOARD, firmware.version);
    let of_function = running(&platform, function.version);
    let open = async |place: &Place| {
        Slot::open(place.flash.part(0..IMAGE_PAGES + 1), Place::layout()).await.expect("a slot")
    };
    let (mut slot, mut other) = (open(firmware).await, open(function).await);
    let [loader, other_loader] = loaders;
    let (config, mut app) = (UpdateConfig::default(), ());
    Ok(tokio::select! {
        biased;
        never = device.run_serial(link, &mut end, &mut queue, port, &mut app) => match never {},
        ended = device.update(config, &of_firmware, &mut slot, loader) => ended,
        ended = device.update_function(config, &of_function, &mut other, other_loader) => ended,
    })
}

fn app(dir: &Path) -> Result<PathBuf> {
    let app = dir.join("presses");
    std::fs::create_dir_all(&app)?;
    let head = Head { version: FIRMWARE_VERSION, floor: 0, is_mute: false };
    std::fs::write(app.join("press.bin"), head.image(FIRMWARE_BYTES))?;
    let text = format!(
        "[app]\nname = \"presses\"\nversion = \"1.0.0\"\n\
         [firmware.press]\nimage = \"press.bin\"\nboard = \"{BOARD}\"\nversion = {FIRMWARE_VERSION}\n\
         devices = [\"press-*\"]\n\
         [functions.rogue]\npath = {:?}\nexample = \"rogue\"\nstack = \"16 KiB\"\n\
         [device-function.press]\nfunction = \"rogue\"\ndevices = [\"press-*\"]\n",
        fixture("functions")
    );
    std::fs::write(app.join("holm.toml"), text)?;
    Ok(app)
}

#[test]
fn firmware_and_a_function_come_over_one_serial_line() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(&dir.path().join("author"))?;
    let line = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let more = format!(
        "[[buses]]\nname = \"line\"\ntcp_listen = \"{line}\"\ntrust = true\ndevices = [{NAME:?}]\n\
         [[devices]]\nname = {NAME:?}\nwire = true\n"
    );
    let author_keys = vec![author.key()?];
    let setup = Setup { name: "barn".to_owned(), author_keys, more, ..Setup::default() };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    gateway.deploy(&author.build(&app(dir.path())?)?)?;
    let key = author.key()?.parse::<AuthorKey>()?.to_raw();
    let function_version = offer_version(1 << 32).expect("small parts");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut firmware, mut function) = (Place::new(), Place::new());
    for boot in 1..=2 {
        let (mut loader, mut other) = (firmware.loader(), function.loader());
        let life = live(line, &key, boot, &firmware, &function, [&mut loader, &mut other]);
        let ended = runtime.block_on(async { tokio::time::timeout(FETCH, life).await })??;
        ensure!(ended == Ended::Restart, "life {boot}: {ended:?}");
        firmware.start(&loader, FIRMWARE_VERSION);
        function.start(&other, function_version);
    }
    // Firmware was confirmed in the life that fetched the function, which is confirmed in this one.
    ensure!(firmware.is_confirmed && firmware.version == FIRMWARE_VERSION, "firmware");
    ensure!(function.is_on_trial && function.version == function_version, "function");
    let said = |kind: &str, stage: &str| {
        let (kind, stage) = (format!("kind={kind} "), format!("stage={stage} "));
        let printed = gateway.printed().replace('"', "");
        printed.lines().any(|line| line.contains(&kind) && line.contains(&stage))
    };
    for (kind, stage) in [
        ("firmware", "Verified"),
        ("firmware", "Confirmed"),
        ("function", "Fetching"),
        ("function", "Verified"),
    ] {
        ensure!(said(kind, stage), "{kind} {stage}: {}", gateway.printed());
    }
    let (mut loader, mut other) = (firmware.loader(), function.loader());
    let life = live(line, &key, 3, &firmware, &function, [&mut loader, &mut other]);
    let confirmed = async {
        while !said("function", "Confirmed") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            ended = life => panic!("{ended:?}"),
            () = confirmed => Ok(()),
            () = tokio::time::sleep(FETCH) => bail!("not confirmed: {}", gateway.printed()),
        }
    })?;
    ensure!(other.is_confirmed && !other.is_armed && !loader.is_armed);
    gateway.stop()
}
