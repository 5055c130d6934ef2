//! The Debian package: program, unit, configuration, user.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::release::{Content, Release};
use super::stage::Stage;

/// Who answers for it, and where it is: as the workspace has it.
const MAINTAINER: &str = env!("CARGO_PKG_AUTHORS");
const HOMEPAGE: &str = env!("CARGO_PKG_REPOSITORY");

/// Packages the agent for Debian's architecture `arch`; returns the package.
pub(crate) fn build(
    release: &Release,
    content: &Content,
    arch: &str,
    depends: &str,
) -> Result<PathBuf> {
    let stage = Stage::new(&release.work(&format!("deb-{arch}")), release.epoch)?;
    let doc = "usr/share/doc/edge-agent";
    let files: Vec<(String, u32, Vec<u8>)> = vec![
        ("usr/bin/edge-agent".into(), 0o755, content.agent.clone()),
        (
            "lib/systemd/system/edge-agent.service".into(),
            0o644,
            release.file("edge-agent.service")?,
        ),
        ("usr/share/edge-agent/agent.toml".into(), 0o644, release.file("agent.toml")?),
        (format!("{doc}/examples/serial.conf"), 0o644, release.file("serial.conf")?),
        (format!("{doc}/copyright"), 0o644, release.copyright()?),
        (format!("{doc}/sbom.cdx.json"), 0o644, content.sbom.clone()),
    ];
    let mut bytes = 0;
    for (path, mode, contents) in &files {
        stage.put(path, *mode, contents)?;
        bytes += contents.len();
    }
    // What `dpkg --verify` compares.
    let sums = md5sums(stage.root(), files.iter().map(|(path, ..)| path.as_str()))?;
    control(&stage, release, arch, depends, bytes.div_ceil(1024))?;
    stage.put("DEBIAN/md5sums", 0o644, &sums)?;
    let name = format!("edge-agent_{}_{arch}.deb", release.version);
    let to = release.out.join(name);
    stage.deb(&to)?;
    Ok(to)
}

fn md5sums<'a>(root: &Path, paths: impl Iterator<Item = &'a str>) -> Result<Vec<u8>> {
    let output = Command::new("md5sum").args(paths).current_dir(root).output();
    let output = output.context("md5sum")?;
    ensure!(output.status.success(), "md5sum: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

fn control(
    stage: &Stage,
    release: &Release,
    arch: &str,
    depends: &str,
    installed_kib: usize,
) -> Result<()> {
    let version = &release.version;
    let depends = ["passwd", depends].into_iter().filter(|word| !word.is_empty());
    let depends = depends.collect::<Vec<_>>().join(", ");
    let text = format!(
        "Package: edge-agent\n\
         Version: {version}\n\
         Architecture: {arch}\n\
         Maintainer: {MAINTAINER}\n\
         Section: net\n\
         Priority: optional\n\
         Installed-Size: {installed_kib}\n\
         Depends: {depends}\n\
         Homepage: {HOMEPAGE}\n\
         Description: gateway that runs WebAssembly functions and loses no message\n\
         \x20Holm runs WebAssembly functions when devices send MQTT messages, keeps their\n\
         \x20state, work and results safe through power cuts and weeks without a link, and\n\
         \x20syncs deployments and telemetry with a control plane.\n"
    );
    stage.put("DEBIAN/control", 0o644, text.as_bytes())?;
    for script in ["preinst", "postinst", "prerm", "postrm"] {
        let path = Path::new("DEBIAN").join(script);
        let path = path.to_str().context("UTF-8")?;
        stage.put(path, 0o755, &release.file(script)?)?;
    }
    Ok(())
}
