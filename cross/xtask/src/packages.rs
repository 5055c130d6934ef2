//! `cargo xtask packages`: what users install, the same bytes whoever makes it.

mod deb;
mod oci;
pub(crate) mod release;
pub(crate) mod sbom;
mod stage;
pub(crate) mod sums;
#[cfg(test)]
mod tests;
mod trial;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use self::release::{Content, Release};
use self::stage::Stage;
use crate::command::project_root;
use crate::setup::{self, Part};
use crate::steps::Steps;
use crate::targets::build;
use crate::targets::list::{self, GLIBC_FLOOR, TARGETS, Target};

const EXAMPLES: &str = "\
Makes, of agents built in the profile `dist`:

  edge-agent_VERSION_ARCH.deb       Debian, Raspberry Pi OS: program, systemd unit, /etc/holm/agent.toml, user holm
  edge-agent-VERSION-TARGET.tar.gz  for install.sh, with the unit and a script for OpenRC
  edge-agent-VERSION.oci.tar        container image (OCI layout), of targets with musl
  edge-agent-VERSION-TARGET.cdx.json  what the program is made of (CycloneDX 1.5)
  edge-agent-VERSION-TARGET.licences.txt  the same as a list: name, version, licence
  install.sh, SHA256SUMS, SHA256SUMS.sig

All files are from SOURCE_DATE_EPOCH, or else from the last commit. The signature is Ed25519, by a key of
`holm keys new`; install.sh believes the key that it was made with.

Examples:
  cargo xtask packages                                   amd64, arm64, armhf
  cargo xtask packages --only aarch64-unknown-linux-musl --no-build
  cargo xtask packages --key ~/.config/holm/keys/release.pem
  cargo xtask packages --json > packages.json            names, bytes and digests as data
  cargo xtask packages --test                            what a user does with each .deb and with install.sh (root):
                                                         amd64 in a copy of this system that is thrown away, arm64
                                                         and armhf in a Debian in QEMU, which is made first
  cargo xtask packages --test --only x86_64-unknown-linux-musl --no-build
";

/// What packing needs.
pub(crate) const PARTS: &[Part] = &[
    Part { program: "dpkg-deb", package: "dpkg", suite: "packages" },
    Part { program: "tar", package: "tar", suite: "packages" },
    Part { program: "gzip", package: "gzip", suite: "packages" },
    Part { program: "md5sum", package: "coreutils", suite: "packages" },
];

/// Options of `cargo xtask packages`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PackagesArgs {
    /// Only for this target.
    #[arg(long, value_name = "TARGET")]
    only: Option<String>,
    /// Take programs as they were built last.
    #[arg(long)]
    no_build: bool,
    /// Private key that signs the release (PEM); without it there is no signature.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Make no release: install, run, hang, update, upgrade, remove and purge, with systemd as process 1.
    #[arg(long, conflicts_with = "key")]
    test: bool,
    /// Where the machines of --test are kept from test to test; without the folder they are made anew.
    #[arg(long, value_name = "FOLDER", default_value = ".holm/guests")]
    guests: PathBuf,
    /// Install missing Debian packages (needs root; as root it is the default).
    #[arg(long)]
    install: bool,
    /// Print the list of files as JSON.
    #[arg(long, conflicts_with = "test")]
    json: bool,
    /// Where packages go; what was there is removed.
    #[arg(long, default_value = ".holm/packages")]
    dir: PathBuf,
}

/// Builds and packs.
///
/// # Errors
/// A program is over its budget, or cannot be packed.
pub(crate) fn run(args: &PackagesArgs) -> Result<()> {
    let targets: Vec<&Target> = match &args.only {
        Some(triple) => vec![list::named(triple)?],
        None => TARGETS.iter().filter(|target| !target.deb.is_empty()).collect(),
    };
    if args.test {
        return trial::run(&trial::Plan {
            targets,
            no_build: args.no_build,
            dir: &setup::empty_dir(&args.dir)?,
            guests: project_root().join(&args.guests),
            install: args.install,
        });
    }
    let parts = targets.iter().flat_map(|target| target.build_parts()).chain(PARTS);
    let missing = setup::offer(parts, args.install)?;
    ensure!(missing.is_empty(), "missing: {}", setup::apt_line(&missing));
    let key = args.key.as_deref().map(release::key).transpose()?;
    let mut contents = Vec::new();
    for target in targets {
        let built = if args.no_build { build::judge(target)? } else { build::build(target)? };
        let agent = std::fs::read(&built.program)?;
        let sbom = sbom::of_agent(target.triple, &agent)?;
        contents.push((target, Content { agent, sbom }));
    }
    let dir = setup::empty_dir(&args.dir)?;
    let release = Release {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: release::epoch()?,
        out: dir,
        scratch: project_root().join(".holm/packages.work"),
        key,
    };
    make(&release, &contents)?;
    sums::write_sums(&release)?;
    print(&release, args.json)
}

/// Packs everything but the checksums; returns the files, and what each took.
pub(crate) fn make(
    release: &Release,
    contents: &[(&Target, Content)],
) -> Result<Vec<(String, Duration)>> {
    std::fs::create_dir_all(&release.scratch)?;
    let mut steps = Steps::default();
    let version = &release.version;
    for (target, content) in contents {
        if !target.deb.is_empty() {
            let name = format!("edge-agent_{version}_{}.deb", target.deb);
            let depends = depends(target);
            steps.work(&name, || deb::build(release, content, target.deb, &depends))?;
        }
        let name = format!("edge-agent-{version}-{}", target.triple);
        steps.work(&format!("{name}.tar.gz"), || tarball(release, target, content))?;
        for (end, contents) in
            [("cdx.json", &content.sbom), ("licences.txt", &sbom::licences(&content.sbom)?)]
        {
            let name = format!("{name}.{end}");
            steps.work(&name, || Ok(std::fs::write(release.out.join(&name), contents)?))?;
        }
    }
    let images: Vec<_> = contents.iter().filter(|(target, _)| !target.oci.is_empty()).collect();
    let images: Vec<_> = images.iter().map(|(target, content)| (target.oci, content)).collect();
    if !images.is_empty() {
        let name = format!("edge-agent-{version}.oci.tar");
        steps.work(&name, || oci::build(release, &images))?;
    }
    steps.work("install.sh", || sums::installer(release))?;
    std::fs::remove_dir_all(&release.scratch).context("what packages were made in")?;
    Ok(steps.into_inner())
}

/// What the .deb of a target needs, beside what all need.
fn depends(target: &Target) -> String {
    let (major, minor) = GLIBC_FLOOR;
    if target.needs_glibc() { format!("libc6 (>= {major}.{minor})") } else { String::new() }
}

fn tarball(release: &Release, target: &Target, content: &Content) -> Result<()> {
    let top = format!("edge-agent-{}", release.version);
    let stage = Stage::new(&release.work("tarball"), release.epoch)?;
    let put =
        |name: &str, mode, contents: &[u8]| stage.put(&format!("{top}/{name}"), mode, contents);
    put("edge-agent", 0o755, &content.agent)?;
    put("LICENSES", 0o644, &release.copyright()?)?;
    put("sbom.cdx.json", 0o644, &content.sbom)?;
    for name in ["agent.toml", "edge-agent.service", "edge-agent.openrc", "serial.conf"] {
        put(name, 0o644, &release.file(name)?)?;
    }
    let name = format!("edge-agent-{}-{}.tar.gz", release.version, target.triple);
    stage.tar_gz(&release.out.join(name))
}

fn print(release: &Release, as_json: bool) -> Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(&release.out)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries {
        let (digest, bytes) = stage::digest(&entry.path())?;
        files.push((entry.file_name().to_string_lossy().into_owned(), bytes, digest));
    }
    let is_signed = release.key.is_some();
    if as_json {
        let row = |(file, bytes, sha256)| json!({ "file": file, "bytes": bytes, "sha256": sha256 });
        let rows: Vec<_> = files.into_iter().map(row).collect();
        println!("{:#}", json!({ "dir": release.out, "signed": is_signed, "files": rows }));
        return Ok(());
    }
    println!("\n{:>10}  {:<16}  file in {}", "bytes", "sha256", release.out.display());
    for (file, bytes, digest) in files {
        println!("{bytes:>10}  {}  {file}", &digest[..16]);
    }
    if !is_signed {
        println!("not signed: `--key FILE`; install.sh then asks for --unsigned");
    }
    Ok(())
}
