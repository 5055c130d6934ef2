//! Builds firmware: packages of their own, with their own target and lock.
//!
//! cargo gives a program the same path whatever its features are. Tests build several sets of them at the same time, so
//! each set gets a copy of its own, made before anybody else may build the package.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::elf::Sizes;

/// A built firmware.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// The ELF file.
    pub path: PathBuf,
    /// What it takes of flash and RAM.
    pub sizes: Sizes,
}

impl Firmware {
    /// What of it lies in flash, and the address where that begins.
    ///
    /// # Errors
    /// The ELF file cannot be read, or loads nothing.
    pub fn image(&self) -> Result<(u32, Vec<u8>)> {
        let shown = || self.path.display().to_string();
        super::elf::image(&std::fs::read(&self.path).with_context(shown)?).with_context(shown)
    }
}

/// Builds the package in `firmware-examples/FOLDER` with `features`; its target is installed where it
/// is missing.
///
/// # Errors
/// The build fails, or the target cannot be installed.
pub fn firmware(folder: &str, features: &[&str]) -> Result<Firmware> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("tests lie in a folder")?;
    let dir = root.join("firmware-examples").join(folder);
    install_target(&dir)?;
    let _alone = build_lock(&dir)?;
    let mut command = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    command.args(["build", "--release", "--locked", "--message-format=json-render-diagnostics"]);
    command.args(["--target-dir", "target", "--features", &features.join(",")]);
    // Flags of the workspace's build would take the place of those that link the firmware.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" || name.ends_with("RUSTFLAGS") {
            command.env_remove(&*name);
        }
    }
    let output = command
        .current_dir(&dir)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("building {folder}"))?;
    if !output.status.success() {
        bail!("building {folder} failed: see above");
    }
    let path = executable(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("{folder} has no program"))?;
    let path = own_copy(&path, &dir.join("target"), features)?;
    let sizes = Sizes::of(&std::fs::read(&path)?).with_context(|| path.display().to_string())?;
    Ok(Firmware { path, sizes })
}

/// Waits until nobody else builds the package here; ends when it is dropped.
fn build_lock(dir: &Path) -> Result<File> {
    let path = dir.join("target/holm.lock");
    let open = || -> std::io::Result<File> {
        std::fs::create_dir_all(dir.join("target"))?;
        let file = File::options().create(true).append(true).open(&path)?;
        file.lock()?;
        Ok(file)
    };
    open().with_context(|| path.display().to_string())
}

/// Copies a program to where only those with the same features lie. What runs from there keeps its file.
fn own_copy(program: &Path, target: &Path, features: &[&str]) -> Result<PathBuf> {
    let set = if features.is_empty() { "no-features".to_owned() } else { features.join("-") };
    let copy = target.join("by-features").join(set).join(program.file_name().unwrap_or_default());
    let fresh = copy.with_extension("fresh");
    let made = || -> std::io::Result<()> {
        std::fs::create_dir_all(copy.parent().unwrap_or(target))?;
        std::fs::copy(program, &fresh)?;
        std::fs::rename(&fresh, &copy)
    };
    made().with_context(|| copy.display().to_string())?;
    Ok(copy)
}

/// The program among cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back()
}

/// Installs the target that the package's configuration names.
fn install_target(dir: &Path) -> Result<()> {
    let path = dir.join(".cargo/config.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let config: toml::Table = text.parse().with_context(|| path.display().to_string())?;
    let target = config.get("build").and_then(|build| build.get("target")?.as_str());
    let target = target.with_context(|| format!("no build.target in {}", path.display()))?;
    let listed = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .output()
        .context("rustup is needed: see https://rustup.rs")?;
    if String::from_utf8_lossy(&listed.stdout).lines().any(|line| line == target) {
        return Ok(());
    }
    let added = Command::new("rustup").args(["target", "add", target]).status()?;
    if !added.success() {
        bail!("`rustup target add {target}` failed: {added}");
    }
    Ok(())
}
