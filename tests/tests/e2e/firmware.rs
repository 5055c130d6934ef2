//! Firmware updates by an ordinary deployment: control plane, gateway, and boards with embassy-boot.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use device_sdk::update::Ended;
use serde_json::{Value, json};
use sync_protocol::AuthorKey;
use system_tests::author::Author;
use system_tests::cloud::Cloud;
use system_tests::gateway::{Gateway, Setup};
use system_tests::link::Link;
use system_tests::process::wait_for;

use crate::support::PATIENCE;

mod board;

use board::{Board, Head, Setup as BoardSetup};

const BOARD: &str = "demo-board";
const IMAGE_BYTES: usize = 100_000;
/// Fetching takes seconds, and a question whose answer was lost is asked again after a while.
const FETCH: Duration = Duration::from_secs(120);

/// A control plane, a gateway with devices by these names, and their author.
struct Site {
    author: Author,
    cloud: Cloud,
    gateway: Gateway,
}

impl Site {
    fn start(dir: &Path, devices: &[&str]) -> Result<Self> {
        let author = Author::new(&dir.join("author"))?;
        let cloud = Cloud::start(&dir.join("cloud"), &author)?;
        let devices = devices.iter().map(|&name| (name.to_owned(), token(name))).collect();
        let setup = Setup { name: "gw".to_owned(), devices, ..Setup::default() };
        let mut gateway = Gateway::new(&dir.join("gateway"), &setup)?;
        gateway.enroll(author.holm(&["gateway", "add", "gw"])?.trim())?;
        gateway.start()?;
        Ok(Self { author, cloud, gateway })
    }

    /// A board that trusts the site's author and runs an image.
    fn board(&self, name: &'static str) -> Result<BoardSetup> {
        let key: AuthorKey = self.author.key()?.parse()?;
        let gateway = self.gateway.address();
        Ok(BoardSetup { name, board: BOARD, token: token(name), gateway, author: key.to_raw() })
    }

    fn deploy(&self, app: &Path) -> Result<()> {
        self.author.holm(&["deploy", app.to_str().context("UTF-8")?, "--all"])?;
        Ok(())
    }

    /// What a device said last of its firmware, as the gateway shows it.
    fn told(&self, device: &str) -> Result<Value> {
        let page = self.gateway.ask(&["devices", "--json"])?;
        let rows = page.as_array().or_else(|| page["rows"].as_array());
        let row = rows.into_iter().flatten().find(|row| row["device"] == device);
        Ok(row.map_or(Value::Null, |row| row["firmware"].clone()))
    }

    /// The same, as the control plane shows it.
    fn told_cloud(&self, device: &str) -> Result<Value> {
        let page = self.cloud.get("/v1/gateways/gw")?;
        let mut rows = page["firmware"].as_array().into_iter().flatten();
        Ok(rows.find(|row| row["device"] == device).cloned().unwrap_or_default())
    }

    /// Stages that the control plane was told of a device, in order.
    fn stages(&self, device: &str) -> Result<Vec<String>> {
        let rows = self.cloud.stream("gw", 0)?;
        let rows = rows.iter().filter(|row| row["report"] == "firmware" && row["device"] == device);
        Ok(rows.map(|row| row["stage"].as_str().unwrap_or_default().to_owned()).collect())
    }

    fn wait_stage(&self, device: &str, stage: &str) -> Result<()> {
        wait_for(FETCH, &format!("{device} to be {stage}"), || {
            let is_told = self.told(device)?["stage"] == stage;
            Ok((is_told && self.told_cloud(device)?["stage"] == stage).then_some(()))
        })
    }
}

fn token(name: &str) -> String {
    format!("token-of-{name}")
}

/// An app with nothing but these images for devices: name, bytes, version, floor, pattern.
fn app(dir: &Path, images: &[(&str, &[u8], u32, u32, &str)]) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut text = "[app]\nname = \"presses\"\nversion = \"1.0.0\"\n".to_owned();
    for (name, bytes, version, floor, devices) in images {
        std::fs::write(dir.join(format!("{name}.bin")), bytes)?;
        text.push_str(&format!(
            "[firmware.{name}]\nimage = \"{name}.bin\"\nboard = \"{BOARD}\"\nversion = {version}\n\
             floor = {floor}\ndevices = [{devices}]\n"
        ));
    }
    Ok(std::fs::write(dir.join("holm.toml"), text)?)
}

#[test]
fn an_image_arrives_through_cuts_and_crashes_and_is_confirmed_in_the_cloud() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut site = Site::start(dir.path(), &["press-1", "saw-1"])?;
    let link = Link::to(site.gateway.address())?;
    let mut setup = site.board("press-1")?;
    setup.gateway = link.address();
    let former = Head { version: 1, floor: 0, is_mute: false };
    let board = Board::start(setup, &former.image(IMAGE_BYTES));
    let next = Head { version: 2, floor: 2, ..former };
    let image = next.image(IMAGE_BYTES);
    let pages = image.len().div_ceil(4_096);
    let folder = dir.path().join("app");
    app(&folder, &[("press", &image, 2, 2, "\"press-*\"")])?;
    let checked = site.author.holm(&["build", "--check", folder.to_str().context("UTF-8")?])?;
    ensure!(checked.contains("is good"), "{checked}");
    site.deploy(&folder)?;

    let until = |begun: usize| {
        wait_for(FETCH, &format!("{begun} pages"), || {
            Ok((board.pages_begun() >= begun).then_some(()))
        })
    };
    until(5)?;
    link.cut();
    std::thread::sleep(Duration::from_millis(300));
    link.mend();
    until(10)?;
    board.cut_power();
    until(15)?;
    site.gateway.kill()?;
    site.gateway.start()?;
    site.wait_stage("press-1", "confirmed")?;

    let lives = board.lives();
    let versions: Vec<u32> = lives.iter().map(|life| life.head.version).collect();
    assert_eq!(versions, [1, 1, 2], "{lives:?}");
    assert_eq!((lives[1].ended, lives[2].state.as_str()), (Some(Ended::Restart), "Swap"));
    // The page that was being written when power was cut is the only one that was fetched twice.
    let erased = &lives[1].erased;
    let twice = erased[..pages].iter().filter(|erased| **erased == 2).count();
    assert!(erased[..pages].iter().all(|n| (1..=2).contains(n)) && twice <= 1, "{erased:?}");
    ensure!(board.active(image.len()) == image, "what runs is what was signed");

    assert_eq!(site.stages("press-1")?.last().map(String::as_str), Some("confirmed"));
    let told = site.told_cloud("press-1")?;
    assert_eq!((&told["app"], &told["version"]), (&json!("presses"), &json!(2)));
    let shown = site.author.holm(&["status", "gw"])?;
    ensure!(shown.contains("press-1") && shown.contains("presses 2  confirmed"), "{shown}");
    let shown = site.gateway.ask(&["status", "--json"])?;
    ensure!(shown["devices"]["firmware_chunks"].as_u64() > Some(0), "{shown}");
    assert_eq!(site.told("saw-1")?, Value::Null);

    // After the app nothing is offered: a board that is set back stays as it is.
    site.author.holm(&["undeploy", "presses", "--all"])?;
    wait_for(PATIENCE, "the app to go", || {
        let apps = site.gateway.status()?["deployments"]["apps"].clone();
        let runs = apps.as_array().into_iter().flatten().any(|app| !app["running"].is_null());
        Ok((!runs).then_some(()))
    })?;
    drop(board);
    let setup = BoardSetup { gateway: site.gateway.address(), ..site.board("press-1")? };
    let board = Board::start(setup, &former.image(IMAGE_BYTES));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((board.lives().len(), board.pages_begun()), (1, 0));
    Ok(())
}

#[test]
fn what_must_not_run_does_not_and_the_reason_is_told() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let names = ["other-key", "other-board", "newer", "mute"];
    let mut site = Site::start(dir.path(), &names)?;
    let good = Head { version: 2, floor: 2, is_mute: false };
    let mute = Head { is_mute: true, ..good };
    let (image, mute) = (good.image(20_000), mute.image(20_000));
    let folder = dir.path().join("app");
    let (others, pattern) = ("\"other-*\", \"newer\"", "\"mute\"");
    app(&folder, &[("press", &image, 2, 2, others), ("mute", &mute, 2, 0, pattern)])?;

    let former = Head { version: 1, floor: 0, is_mute: false };
    let newer = Head { version: 9, floor: 8, is_mute: false };
    let start = |setup: BoardSetup, head: Head| Board::start(setup, &head.image(20_000));
    let other_key = BoardSetup { author: [7; 32], ..site.board("other-key")? };
    let other_board = BoardSetup { board: "another", ..site.board("other-board")? };
    let boards =
        [start(other_key, former), start(other_board, former), start(site.board("newer")?, newer)];
    let trial = start(site.board("mute")?, former);
    site.deploy(&folder)?;

    for (name, reason) in [
        ("other-key", "signature"),
        ("other-board", "built for another board"),
        ("newer", "older than what runs here allows"),
    ] {
        site.wait_stage(name, "declined")?;
        let (near, far) = (site.told(name)?, site.told_cloud(name)?);
        for told in [&near, &far] {
            ensure!(told["reason"].as_str().is_some_and(|it| it.contains(reason)), "{told}");
        }
    }
    for board in &boards {
        assert_eq!((board.lives().len(), board.pages_begun()), (1, 0));
    }

    // It is started once, taken back, and not taken again, whatever restarts.
    site.wait_stage("mute", "declined")?;
    assert_eq!(site.stages("mute")?, ["fetching", "verified", "taken-back", "declined"],);
    site.gateway.stop()?;
    site.gateway.start()?;
    trial.cut_power();
    site.wait_stage("mute", "declined")?;
    std::thread::sleep(Duration::from_secs(2));
    let lives = trial.lives();
    let versions: Vec<u32> = lives.iter().map(|life| life.head.version).collect();
    assert_eq!(versions, [1, 2, 1, 1], "{lives:?}");
    assert_eq!(lives[1].ended, Some(Ended::TakeBack));
    ensure!(trial.active(20_000) == former.image(20_000), "the former image is whole");
    Ok(())
}
