//! `cargo xtask packages`: what users install, the same bytes whoever makes it.

mod deb;
mod oci;
mod release;
mod sbom;
mod stage;
mod sums;
#[cfg(test)]
mod tests;
mod trial;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use sync_protocol::SigningKey;

use self::release::{Content, Release};
use self::stage::Stage;
use crate::command::project_root;
use crate::setup::{self, Part};
use crate::targets::build;
use crate::targets::list::{self, GLIBC_FLOOR, TARGETS, Target};

const EXAMPLES: &str = "\
Makes, of agents built in the profile `dist`:

  edge-agent_VERSION_ARCH.deb       Debian, Raspberry Pi OS: program, systemd unit, /etc/holm/agent.toml, user holm
  edge-agent-VERSION-TARGET.tar.gz  for install.sh, with the unit and a script for OpenRC
  edge-agent-VERSION.oci.tar        container image (OCI layout), of targets with musl
  edge-agent-VERSION-TARGET.cdx.json  what the program is made of (CycloneDX 1.5)
  install.sh, SHA256SUMS, SHA256SUMS.sig

All files are from SOURCE_DATE_EPOCH, or else from the last commit. The signature is Ed25519, by a key of
`holm keys new`; install.sh believes the key that it was made with.

Examples:
  cargo xtask packages                                   amd64, arm64, armhf
  cargo xtask packages --only aarch64-unknown-linux-musl --no-build
  cargo xtask packages --key ~/.config/holm/keys/release.pem
  cargo xtask packages --try                             the package of this machine, with the agent that tests use,
                                                         in a copy of this system that is thrown away (root)
";

/// What packing needs.
const PARTS: &[Part] = &[
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
    /// Make nothing: install, run, hang, upgrade, remove and purge, with systemd as process 1.
    #[arg(long = "try", conflicts_with_all = ["only", "no_build", "key"])]
    trial: bool,
    /// Install missing Debian packages (needs root; as root it is the default).
    #[arg(long)]
    install: bool,
    /// Where packages go; what was there is removed.
    #[arg(long, default_value = ".holm/packages")]
    dir: PathBuf,
}

/// Builds and packs.
///
/// # Errors
/// A program is over its budget, or cannot be packed.
pub(crate) fn run(args: &PackagesArgs) -> Result<()> {
    if args.trial {
        return trial::run(&setup::empty_dir(&args.dir)?, args.install);
    }
    let targets: Vec<&Target> = match &args.only {
        Some(triple) => vec![list::named(triple)?],
        None => TARGETS.iter().filter(|target| !target.deb.is_empty()).collect(),
    };
    let parts = targets.iter().flat_map(|target| target.build_parts()).chain(PARTS);
    let missing = setup::offer(parts, args.install)?;
    ensure!(missing.is_empty(), "missing: {}", setup::apt_line(&missing));
    let key = args.key.as_ref().map(|path| {
        let pem = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        SigningKey::from_pem(&pem).with_context(|| path.display().to_string())
    });
    let key = key.transpose()?;
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
    print(&release)
}

/// Packs everything, and sums it up.
fn make(release: &Release, contents: &[(&Target, Content)]) -> Result<()> {
    std::fs::create_dir_all(&release.scratch)?;
    for (target, content) in contents {
        if !target.deb.is_empty() {
            let (major, minor) = GLIBC_FLOOR;
            let libc = format!("libc6 (>= {major}.{minor})");
            let depends = if target.needs_glibc() { libc.as_str() } else { "" };
            deb::build(release, content, target.deb, depends)?;
        }
        tarball(release, target, content)?;
        let bill = format!("edge-agent-{}-{}.cdx.json", release.version, target.triple);
        std::fs::write(release.out.join(bill), &content.sbom)?;
    }
    let images: Vec<_> = contents.iter().filter(|(target, _)| !target.oci.is_empty()).collect();
    let images: Vec<_> = images.iter().map(|(target, content)| (target.oci, content)).collect();
    if !images.is_empty() {
        oci::build(release, &images)?;
    }
    sums::installer(release)?;
    sums::write_sums(release)?;
    std::fs::remove_dir_all(&release.scratch).context("what packages were made in")
}

fn tarball(release: &Release, target: &Target, content: &Content) -> Result<()> {
    let top = format!("edge-agent-{}", release.version);
    let stage = Stage::new(&release.work("tarball"), release.epoch)?;
    let put =
        |name: &str, mode, contents: &[u8]| stage.put(&format!("{top}/{name}"), mode, contents);
    put("edge-agent", 0o755, &content.agent)?;
    put("LICENSES", 0o644, &release.copyright()?)?;
    put("sbom.cdx.json", 0o644, &content.sbom)?;
    for name in
        ["agent.toml", "edge-agent.service", "edge-agent.openrc", "serial.conf", "launch.conf"]
    {
        put(name, 0o644, &release.file(name)?)?;
    }
    let name = format!("edge-agent-{}-{}.tar.gz", release.version, target.triple);
    stage.tar_gz(&release.out.join(name))
}

fn print(release: &Release) -> Result<()> {
    let mut names: Vec<_> = std::fs::read_dir(&release.out)?.collect::<Result<_, _>>()?;
    names.sort_by_key(std::fs::DirEntry::file_name);
    println!("\n{:>10}  {:<16}  file in {}", "bytes", "sha256", release.out.display());
    for entry in names {
        let (digest, bytes) = stage::digest(&entry.path())?;
        println!("{bytes:>10}  {}  {}", &digest[..16], entry.file_name().to_string_lossy());
    }
    if release.key.is_none() {
        println!("not signed: `--key FILE`; install.sh then asks for --unsigned");
    }
    Ok(())
}
