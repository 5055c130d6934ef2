//! A gateway that never sees a control plane: its records are carried home in a backup.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use system_tests::author::{Author, fixture};
use system_tests::cloud::Cloud;
use system_tests::gateway::{Gateway, Setup};
use system_tests::process::program;

use crate::support::{PATIENCE, publish, wait_drained, wait_live};

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is not UTF-8")
}

/// A machine that reaches the control plane takes the gateway's name, gets the backup and sends what
/// waits in it. The gateway itself knows nothing of that, and its next backup holds all of it once more:
/// each record is stored once, at its position.
#[test]
fn records_of_an_island_are_carried_home() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(&dir.path().join("author"))?;
    let setup = Setup { author_keys: vec![author.key()?], ..Setup::open("island") };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    let bundle = author.build(&fixture("apps").join("counter"))?;
    gateway.hand_over(&bundle)?;
    wait_live(&gateway, "counter")?;
    let cloud = Cloud::start(&dir.path().join("cloud"), &author)?;
    let (mut boot, mut all) = (0, 0);
    for count in [8, 5] {
        (boot, all) = (boot + 1, all + count);
        publish(&gateway, boot, count)?;
        gateway.wait_idle(PATIENCE)?;
        gateway.stop()?;
        let backup = dir.path().join(format!("backup-{boot}"));
        ensure!(gateway.agent(&["backup", text(&backup)?])?.status()?.success());
        gateway.start()?;

        let office = dir.path().join(format!("office-{boot}"));
        let mut office = Gateway::new(&office, &Setup::open("island"))?;
        let mut restore = Command::new(program("edge-agent")?);
        restore.args(["restore", text(&backup)?, "--data", text(&office.data_dir())?]);
        ensure!(restore.arg("--as-replacement").status()?.success());
        office.enroll(author.holm(&["gateway", "add", "island"])?.trim())?;
        office.start()?;
        wait_drained(&office)?;
        office.stop()?;
        let rows = cloud.stream("island", 1)?;
        let seqs: Vec<_> = rows.iter().filter_map(|row| row["seq"].as_u64()).collect();
        assert_eq!(seqs, (1..=all as u64).collect::<Vec<_>>());
    }
    gateway.stop()
}
