//! Builds firmware: packages of their own, with their own target and lock, or folders with a Makefile.
//!
//! cargo gives a program the same path whatever its features are, and make links it anew each time. Tests build at the same
//! time, so each set of features gets a copy of its own, made before anybody else may build the package.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
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

/// Builds what is in `firmware-examples/FOLDER`, a package with `features`; its target is installed where it is missing.
///
/// # Errors
/// The build fails, or the target cannot be installed.
pub fn firmware(folder: &str, features: &[&str]) -> Result<Firmware> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("tests lie in a folder")?;
    let dir = root.join("firmware-examples").join(folder);
    let _alone = build_lock(&dir)?;
    let path = if dir.join("Makefile").is_file() {
        ensure!(features.is_empty(), "{folder} has a Makefile, and no features");
        make(&dir)
    } else {
        build(&dir, features)
    };
    let path = path.with_context(|| format!("building {folder}"))?;
    let sizes = Sizes::of(&std::fs::read(&path)?).with_context(|| path.display().to_string())?;
    Ok(Firmware { path, sizes })
}

/// Builds a package; its program.
fn build(dir: &Path, features: &[&str]) -> Result<PathBuf> {
    let config = read(&dir.join(".cargo/config.toml"))?.parse::<toml::Table>()?;
    let target = config.get("build").and_then(|build| build.get("target")?.as_str());
    install_target(target.context("no build.target in .cargo/config.toml")?)?;
    let mut command = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    command.args(["build", "--release", "--locked", "--message-format=json-render-diagnostics"]);
    command.args(["--target-dir", "target", "--features", &features.join(",")]);
    let output = own_flags(&mut command, dir).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "cargo failed: see above");
    let program = executable(&String::from_utf8_lossy(&output.stdout));
    own_copy(&program.context("it has no program")?, &dir.join("target"), features)
}

/// Builds as the README of a folder with a Makefile says: `build/` holds the only ELF file then.
fn make(dir: &Path) -> Result<PathBuf> {
    let text = read(&dir.join("Makefile"))?;
    let target = text.lines().find_map(|line| line.strip_prefix("TARGET := "));
    install_target(target.context("no TARGET in the Makefile")?)?;
    let mut command = Command::new("make");
    // As arguments: what the caller's environment says of these names is of another build.
    let library = std::path::absolute(dir.join("../../device-sdk/c/target"))?;
    command.args(["--silent", "BUILD=build", &format!("TARGET_DIR={}", library.display())]);
    command.stdout(Stdio::null());
    let status = own_flags(&mut command, dir).status().context("make")?;
    ensure!(status.success(), "make failed: see above");
    let files = std::fs::read_dir(dir.join("build"))?.collect::<Result<Vec<_>, _>>()?;
    let mut elf = files
        .iter()
        .map(std::fs::DirEntry::path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "elf"));
    own_copy(&elf.next().context("build/ holds no ELF file")?, &dir.join("target"), &[])
}

/// A command in a folder, without the flags of the workspace's build: they would take the place of those that link the
/// firmware.
fn own_flags<'a>(command: &'a mut Command, dir: &Path) -> &'a mut Command {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" || name.ends_with("FLAGS") {
            command.env_remove(&*name);
        }
    }
    command.current_dir(dir)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Waits until nobody else builds here; ends when it is dropped.
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

/// Installs a target where it is missing.
fn install_target(target: &str) -> Result<()> {
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
