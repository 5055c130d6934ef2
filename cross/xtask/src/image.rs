//! `cargo xtask image`: a card image that a board boots from.

pub(crate) mod apt;
mod board;
mod boot;
mod build;
pub(crate) mod cpio;
pub(crate) mod disk;
pub(crate) mod layout;
pub(crate) mod modules;
mod parts;
mod root;
mod seed;
pub(crate) mod system;
pub(crate) mod tool;
mod uboot;
mod wifi;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
pub(crate) use board::Board;
pub(crate) use build::{Built, Request, build};
use clap::Args;
use edge_core::boot::Version;
pub(crate) use parts::{Parts, Versions};
pub(crate) use root::hanging_root;
pub(crate) use seed::{Seed, Sources};
use serde_json::json;

use wifi::Network;

use crate::command::{project_root, target_dir};
use crate::setup;
use crate::targets::build::PROFILE;

/// Where packages and what is made of them are kept from build to build.
pub(crate) const PARTS_DIR: &str = ".holm/image/parts";

const EXAMPLES: &str = "\
An image has a boot partition (U-Boot, kernel, firmware), two read-only roots of which one runs, and a
data partition that grows to the end of the card at the first boot. Kernel, busybox, file system
tools and firmware come from Debian's packages; apt's own state on this machine is left alone.
docs/gateway-image.md tells how to flash it and what the first boot does.

The first build fetches about 110 MB. Later ones take the same packages again, until --refresh.
With SOURCE_DATE_EPOCH set two builds from the same packages give the same bytes.

Examples:
  cargo xtask image --board rpi4                      a gateway that joins nothing yet
  cargo xtask image --board rpi3 --enroll TOKEN       TOKEN: what `holm gateway add NAME` printed
  cargo xtask image --board rpi4 --config barn-3/     agent.toml, and the certificates that it names
  cargo xtask image --board rpi4 --ssh-key ~/.ssh/id_ed25519.pub
  HOLM_WIFI_PASSPHRASE=... cargo xtask image --board zero2w --wifi barn --wifi-country DE
  cargo xtask image --board virt --agent target/aarch64-unknown-linux-musl/dist/edge-agent --json
";

/// Options of `cargo xtask image`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImageArgs {
    /// The board that is to boot it.
    #[arg(long, value_enum)]
    board: Board,
    /// The agent for 64-bit ARM, linked statically [default: what `cargo xtask targets` built last, profile `dist`].
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Token of enrolment; it names the control plane and its authority.
    #[arg(long, value_name = "TOKEN", env = "HOLM_ENROLL_TOKEN", hide_env_values = true)]
    enroll: Option<String>,
    /// Folder whose files become /etc/holm; `agent.toml` is one of them.
    #[arg(long, value_name = "FOLDER")]
    config: Option<PathBuf>,
    /// Public SSH keys that may log in as root; without this SSH is off.
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    #[command(flatten)]
    wifi: WifiArgs,
    /// Seconds from status line to status line on the console [default: 60].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    status_every: Option<u32>,
    /// What the system calls itself, for deployments of it [default: that of this checkout].
    #[arg(long, value_name = "VERSION", value_parser = system::version)]
    system_version: Option<Version>,
    /// Where the image is written [default: .holm/image/holm-BOARD.img]; beside it the same system as an update
    /// for gateways that have an image (`.system`).
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Look for newer packages.
    #[arg(long)]
    refresh: bool,
    /// Where packages are kept.
    #[arg(long, value_name = "FOLDER", default_value = PARTS_DIR, env = "HOLM_IMAGE_PARTS")]
    parts: PathBuf,
    /// Print what was built as JSON.
    #[arg(long)]
    json: bool,
}

/// The network to join without a cable.
#[derive(Args)]
struct WifiArgs {
    /// Name of the Wi-Fi network to join.
    #[arg(long = "wifi", value_name = "NAME", requires = "wifi_country")]
    name: Option<String>,
    /// Two letters of the country, whose rules the radio obeys: DE.
    #[arg(id = "wifi_country", long = "wifi-country", value_name = "CC", requires = "name")]
    country: Option<String>,
    /// File with the passphrase [default: $HOLM_WIFI_PASSPHRASE].
    #[arg(long = "wifi-passphrase", value_name = "FILE", requires = "name")]
    passphrase: Option<PathBuf>,
}

impl WifiArgs {
    fn network(&self) -> Result<Option<Network>> {
        let (Some(name), Some(country)) = (&self.name, &self.country) else { return Ok(None) };
        let passphrase = match &self.passphrase {
            Some(file) => Network::passphrase(file)?,
            // Not an argument: others see those.
            None => std::env::var("HOLM_WIFI_PASSPHRASE").context(
                "--wifi needs a passphrase: `--wifi-passphrase FILE`, or HOLM_WIFI_PASSPHRASE in the environment",
            )?,
        };
        Network::new(name, &passphrase, country).map(Some)
    }
}

/// Builds an image and says what is in it.
pub(crate) fn run(args: &ImageArgs) -> Result<()> {
    let seed = Seed::read(&Sources {
        config: args.config.as_deref(),
        token: args.enroll.as_deref(),
        ssh_key: args.ssh_key.as_deref(),
        wifi: args.wifi.network()?,
        settings: args.status_every.iter().map(|s| format!("STATUS_EVERY_S={s}")).collect(),
    })?;
    let name = format!(".holm/image/holm-{}.img", args.board.name());
    let request = Request {
        board: args.board,
        agent: agent(args.agent.as_ref())?,
        seed,
        out: match &args.out {
            Some(out) => std::path::absolute(out)?,
            None => project_root().join(name),
        },
        parts: project_root().join(&args.parts),
        versions: if args.refresh { Versions::Newest } else { Versions::AsBefore },
        version: args.system_version.unwrap_or_else(system::own_version),
        built_at: None,
    };
    let built = build(&request)?;
    if args.json {
        println!("{}", json(&built));
    } else {
        print(&built, args);
    }
    Ok(())
}

/// Installs what an image is made with, as root; elsewhere says how.
pub(crate) fn tools() -> Result<()> {
    apt::check_host()?;
    let missing = setup::offer(tool::TOOLS, false)?;
    ensure!(missing.is_empty(), "missing: {}", setup::apt_line(&missing));
    Ok(())
}

/// The agent that was named, or the one of profile `dist` that was built last.
pub(crate) fn agent(named: Option<&PathBuf>) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.clone());
    }
    let built = target_dir()?.join("aarch64-unknown-linux-musl").join(PROFILE).join("edge-agent");
    ensure!(
        built.is_file(),
        "no agent for 64-bit ARM at {}: build it with `cargo xtask targets --only aarch64-unknown-linux-musl`, or \
         name one with --agent",
        built.display()
    );
    Ok(built)
}

fn print(built: &Built, args: &ImageArgs) {
    println!("\n{}", built.table());
    println!("{}: gateway {:?}", built.image.display(), built.gateway);
    println!("  {}: {}", built.board.name(), built.board.tested());
    println!("  as an update, for [system] in holm.toml: {}", built.system.display());
    println!("licences of its parts: {}", built.licences.display());
    if let Some(u_boot) = &built.u_boot {
        println!("its boot loader, for QEMU: {}", u_boot.display());
    }
    if args.enroll.is_some() {
        println!("the image holds a secret, the token of enrolment: it works once");
    }
}

fn json(built: &Built) -> serde_json::Value {
    let steps =
        built.steps.iter().map(|(name, took)| json!({ "step": name, "ms": took.as_millis() }));
    json!({
        "image": built.image, "board": built.board.name(), "gateway": built.gateway, "bytes": layout::IMAGE_BYTES,
        "tested": built.board.tested(), "kernel": built.kernel, "u_boot": built.u_boot,
        "device_tree": built.device_tree,
        "system": built.system,
        "licences": built.licences, "packages": built.packages, "sha256": built.sha256,
        "sizes": built.sizes.iter().map(|(name, bytes)| json!({ "part": name, "bytes": bytes }))
            .collect::<Vec<_>>(),
        "steps": steps.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_nobody_named_is_one_that_is_shipped() {
        let told =
            agent(None).map_or_else(|error| error.to_string(), |path| path.display().to_string());
        assert!(told.contains("aarch64-unknown-linux-musl/dist/edge-agent"), "{told}");
        let named = PathBuf::from("a/debug/edge-agent");
        assert_eq!(agent(Some(&named)).expect("it was named"), named);
    }
}
