//! A large artifact on its way to a gateway, while one end or the other is killed.

use std::path::Path;

use anyhow::{Context, Result};
use system_tests::author::fixture;
use system_tests::gateway::Setup;
use system_tests::process::wait_for;

use crate::fleet::{Fleet, GATEWAY, PATIENCE};

/// What is added to a small component to make it a large one.
const BALLAST_BYTES: usize = 6 << 20;
/// Bytes that come through between two kills.
const STEP_BYTES: u64 = 2 << 20;
/// What may come twice: chunks on their way when the link broke, and everything that is no chunk.
const REPEATED_BYTES_MAX: u64 = 1 << 20;

/// An app whose only function is a component with a custom section that is never read. Its bytes
/// differ, so that nothing on the way makes it small.
fn large_app(fleet: &Fleet) -> Result<std::path::PathBuf> {
    let small = fixture("apps/counter");
    fleet.author.build(&small)?;
    let mut component = std::fs::read(small.join("target/holm/counter.wasm"))?;
    let mut section = vec![7];
    section.extend(b"ballast");
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    while section.len() < BALLAST_BYTES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        section.extend(random.to_le_bytes());
    }
    component.push(0);
    let mut length = section.len();
    while length >= 0x80 {
        component.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    component.push(length.to_le_bytes()[0]);
    component.extend(section);
    let dir = fleet.path("large");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("large.wasm"), component)?;
    let text = "[app]\nname = \"large\"\nversion = \"1.0.0\"\n[functions.large]\n\
                wasm = \"large.wasm\"\npublish = [\"count/+\"]\nrecord = [\"count\"]\n\
                [[triggers]]\nfunction = \"large\"\nmqtt = [\"sensors/+\"]\n";
    std::fs::write(dir.join("holm.toml"), text)?;
    Ok(dir)
}

/// Bytes of what is being fetched, on the gateway's disk.
fn partial_bytes(data: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(data.join("partial")).context("no folder of partial files")? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// Neither a killed agent nor a killed control plane makes the other bytes come again.
#[test]
fn a_large_artifact_resumes_after_sigkill_of_either_end() -> Result<()> {
    let mut fleet = Fleet::start(|setup| Ok(Setup { anonymous: true, ..setup }))?;
    let dir = large_app(&fleet)?;
    let before = fleet.cloud.link.down_bytes();
    fleet.cloud.link.cut_after(STEP_BYTES);
    fleet.author.holm(&["deploy", dir.to_str().expect("UTF-8"), "--to", GATEWAY])?;
    wait_for(PATIENCE, "the link to be cut", || Ok(fleet.cloud.link.is_cut().then_some(())))?;
    fleet.gateway.kill()?;
    let kept = partial_bytes(&fleet.gateway.data_dir())?;
    assert!(kept > STEP_BYTES / 2, "only {kept} bytes of the artifact are on disk");

    fleet.gateway.start()?;
    fleet.cloud.link.mend();
    fleet.cloud.link.cut_after(STEP_BYTES);
    wait_for(PATIENCE, "the link to be cut again", || Ok(fleet.cloud.link.is_cut().then_some(())))?;
    fleet.cloud.kill()?;
    let more = partial_bytes(&fleet.gateway.data_dir())?;
    assert!(more > kept, "{more} bytes after {kept}: it began anew");

    fleet.cloud.serve()?;
    fleet.cloud.link.mend();
    fleet.wait_running()?;
    let came = fleet.cloud.link.down_bytes() - before;
    let least = BALLAST_BYTES as u64;
    assert!(came > least, "{came} bytes came for an artifact of more than {least}");
    assert!(came < least + REPEATED_BYTES_MAX, "{came} bytes came for an artifact of {least}");
    Ok(())
}
