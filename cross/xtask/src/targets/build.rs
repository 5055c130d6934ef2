//! Builds the agent for a target, and judges the program by its budget and by what it needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sync_protocol::Digest;

use super::elf::Needs;
use super::layout;
use super::list::{GLIBC_FLOOR, Route, Target};
use crate::command::{cargo, project_root, run, target_dir};
use crate::setup;

/// Profile of Cargo.toml: release, made small.
pub(crate) const PROFILE: &str = "dist";

/// A static program moves itself into place at its start, by a table of all its pointers. Packed, that table
/// is a fiftieth, and no megabyte of it is read into memory. (glibc reads packed ones from 2.36 on.)
const SMALL_RELOCATIONS: &str = "-Clink-arg=--pack-dyn-relocs=relr";

/// Functions with the same code are one.
const FOLDED: &str = "-Clink-arg=--icf=all";

/// Names of functions say which instance they are: the layout tells by them what runs.
const FULL_NAMES: &str = "-Csymbol-mangling-version=v0";

/// Versions of what links for glibc; zig has the stubs of every glibc in it.
const ZIG: &[&str] = &["ziglang==0.17.1", "cargo-zigbuild==0.24.0"];

/// A built agent.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// The program.
    pub(crate) program: PathBuf,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// SHA-256 of it.
    pub(crate) digest: String,
    /// What `file` says of it.
    pub(crate) kind: String,
}

/// Builds it: with an empty build folder about 10 minutes on 2 cores.
pub(crate) fn build(target: &Target) -> Result<Built> {
    setup::rust_target(target.triple)?;
    let mut command = match target.route {
        Route::Static { cc, .. } => with_cc(target.triple, cc),
        Route::Zig => with_zig(target.triple)?,
        Route::Untested(why) => anyhow::bail!("{}: {why}", target.triple),
    };
    command.args(["--locked", "--profile", PROFILE, "-p", "edge-agent", "--bin", "edge-agent"]);
    // Paths of this machine are nobody's business, and would make builds of two machines differ.
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let mut flags = format!(
        "--remap-path-prefix={home}=/cargo\u{1f}--remap-path-prefix={}=/holm",
        project_root().display()
    );
    if let Route::Static { .. } = target.route {
        let linker = layout::linker(target.triple)?;
        let upper = target.triple.replace('-', "_").to_uppercase();
        command.env(format!("CARGO_TARGET_{upper}_LINKER"), linker.program);
        flags += &format!("\u{1f}{FULL_NAMES}");
        command.args(["--", SMALL_RELOCATIONS, FOLDED, &linker.mark]);
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags);
    run(command)?;
    if let Route::Static { .. } = target.route {
        layout::look(target.triple)?;
    }
    judge(target)
}

/// Looks at what was built last.
pub(crate) fn judge(target: &Target) -> Result<Built> {
    let program = target_dir()?.join(target.triple).join(PROFILE).join("edge-agent");
    let bytes = std::fs::read(&program).with_context(|| {
        format!("{} is not built: cargo xtask targets --only {}", program.display(), target.triple)
    })?;
    let needs = Needs::of(&bytes)?;
    if target.needs_glibc() {
        needs.hold(GLIBC_FLOOR).with_context(|| target.triple.to_owned())?;
    } else {
        ensure!(
            needs.loader.is_none() && needs.glibc.is_none(),
            "{} has to be static, but needs {needs:?}",
            target.triple
        );
    }
    let size = bytes.len() as u64;
    ensure!(
        size <= target.budget,
        "{}: {size} bytes are over its budget of {} (cross/xtask/src/targets/list.rs): find out \
         what grew, with `cargo tree` or `cargo bloat`, before the budget does",
        target.triple,
        target.budget
    );
    let digest = Digest::of(&bytes).to_string();
    Ok(Built { kind: kind(&program)?, program, bytes: size, digest })
}

/// `file` without the name, and without the build id, which says nothing to a reader.
fn kind(program: &Path) -> Result<String> {
    let output = Command::new("file").arg("--brief").arg(program).output();
    let text = String::from_utf8(output.context("file")?.stdout)?;
    let parts = text.trim().split(", ").filter(|part| !part.starts_with("BuildID"));
    Ok(parts.collect::<Vec<_>>().join(", "))
}

fn with_cc(triple: &str, cc: &str) -> Command {
    // Not `build`: what is said to the linker is for the program alone, not for build scripts.
    let mut command = cargo(&["rustc", "--target", triple]);
    let lower = triple.replace('-', "_");
    command.env(format!("CC_{lower}"), cc);
    command.env(
        format!("AR_{lower}"),
        cc.strip_suffix("gcc").map_or("ar".into(), |cc| format!("{cc}ar")),
    );
    // Some distributions turn on checks that only their own libc has functions for.
    command.env(format!("CFLAGS_{lower}"), "-U_FORTIFY_SOURCE");
    command
}

fn with_zig(triple: &str) -> Result<Command> {
    let bin = zig()?;
    let mut command = cargo(&[]);
    let (major, minor) = GLIBC_FLOOR;
    command.arg("zigbuild").arg("--target").arg(format!("{triple}.{major}.{minor}"));
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", bin.display()));
    Ok(command)
}

/// Installs zig and cargo-zigbuild below `target` where they are missing; returns their folder.
fn zig() -> Result<PathBuf> {
    let root = project_root().join("target/tools/zig");
    let mark = root.join(ZIG.join(","));
    if !mark.is_file() {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--clear"]).arg(&root);
        run(venv).context("a folder for zig (Debian: python3-venv)")?;
        let mut install = Command::new(root.join("bin/python3"));
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(ZIG);
        run(install)?;
        std::fs::write(&mark, "").with_context(|| mark.display().to_string())?;
    }
    Ok(root.join("bin"))
}
