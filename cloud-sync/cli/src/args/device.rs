//! Commands for who installs devices, and for who talks with them ([`talk`]).

use std::path::PathBuf;

use clap::{Args, Subcommand};

mod talk;

pub use talk::{Body, OneDevice, SendCommand, SetDesired};

/// `holm device`
#[derive(Debug, Args)]
#[command(after_help = "\
Gateway and device prove themselves to each other by certificates of two authorities of your own, which
stand in one folder. One signs gateways' listeners, the other signs devices: no device can pass for a
gateway. Keep the folder where you keep other keys; neither gateways nor devices need it.

Examples:
  holm device ca                                        # once
  holm device listener barn-3 --host barn-3.local       # certificate, key and lines for agent.toml
  holm device add press-7 --gateway barn-3.local:8883   # press-7.provision, to be flashed
  holm device show press-7.provision
  holm device command press-7 set-rate --u32 5          # once it runs")]
pub struct Device {
    /// What to do.
    #[command(subcommand)]
    pub command: DeviceCommand,
}

/// What to do about devices.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Make the two authorities
    Ca(DeviceCa),
    /// Issue the certificate of a gateway's listener
    Listener(DeviceListener),
    /// Issue what a device needs, as an image for its flash
    Add(DeviceAdd),
    /// Show what such an image says, without its secrets
    Show(DeviceShow),
    /// Give a command, and wait for the device's answer
    Command(SendCommand),
    /// Set the desired document of the shadow
    Desired(SetDesired),
    /// Show the shadow: the desired document, and what the device reported
    Shadow(OneDevice),
}

/// Where the authorities are.
#[derive(Clone, Debug, Args)]
pub struct DeviceFolder {
    /// Folder of the authorities [default: ~/.config/holm/devices]
    #[arg(long, value_name = "DIR")]
    pub ca: Option<PathBuf>,
}

/// `holm device ca`
#[derive(Debug, Args)]
#[command(after_help = "\
Writes gateway-ca.pem, gateway-ca.key, device-ca.pem and device-ca.key. The keys are the root of all
trust between devices and gateways: who has one can make gateways, or devices.

Examples:
  holm device ca
  holm device ca --ca /media/vault/holm-devices")]
pub struct DeviceCa {
    /// Folder.
    #[command(flatten)]
    pub folder: DeviceFolder,
}

/// `holm device listener`
#[derive(Debug, Args)]
#[command(after_help = "\
Writes NAME.pem, NAME.key and device-ca.pem, and prints the lines of agent.toml for them. Devices accept
the gateway under each --host, and only until the certificate ends: renew it before, with --replace, and
start the agent again. Run by root, the files get the owner of their folder: let that be the agent's user.

Examples:
  holm device listener barn-3 --host barn-3.local --host 10.0.0.5
  holm device listener barn-3 --host barn-3.local --out /etc/holm --replace
  holm device listener barn-3 --host barn-3.local --out barn-3 --at /etc/holm --agent-toml barn-3/agent.toml
                                                       # a folder for `cargo xtask image --config barn-3/`")]
pub struct DeviceListener {
    /// Name of the gateway, for the files
    pub name: String,
    /// Host name or address that devices are provisioned with; may be given several times
    #[arg(long, value_name = "HOST", required = true)]
    pub host: Vec<String>,
    /// Folder for the files
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Folder where the gateway will have the files, for the lines of agent.toml [default: that of --out]
    #[arg(long, value_name = "DIR")]
    pub at: Option<PathBuf>,
    /// Append the lines to this file in place of printing them
    #[arg(long, value_name = "FILE", conflicts_with = "replace")]
    pub agent_toml: Option<PathBuf>,
    /// Days that the certificate is valid
    #[arg(long, value_name = "N", default_value_t = 730, value_parser = clap::value_parser!(u32).range(1..=7300))]
    pub days: u32,
    /// Write over files of an earlier certificate
    #[arg(long)]
    pub replace: bool,
    /// Folder.
    #[command(flatten)]
    pub folder: DeviceFolder,
}

/// `holm device add`
#[derive(Debug, Args)]
#[command(after_help = "\
Writes an image of 8 KiB with two copies of what the device needs, 4 KiB apart: flash it to the pages
that the firmware reads (its README says which), or give it to QEMU. It holds the device's secret; no
copy is kept here. Then give the printed lines to agent.toml of the gateway, and start the agent again.

Examples:
  holm device add press-7 --gateway barn-3.local:8883
  holm device add press-7 --gateway barn-3.local:8883 --agent-toml /etc/holm/agent.toml
  holm device add press-7 --gateway 10.0.0.5:8883 --server-name barn-3.local --token
  holm device add dev-1 --gateway 127.0.0.1:1883 --plain      # a simulated device, without TLS")]
pub struct DeviceAdd {
    /// Name of the device: 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.'
    pub name: String,
    /// Where it connects, HOST:PORT; up to 3, in the order in which it tries them
    #[arg(long, value_name = "HOST:PORT", required = true)]
    pub gateway: Vec<String>,
    /// Name in the gateway's certificate [default: the host of the first --gateway]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// A generated token in place of a certificate: shorter handshakes, and a secret on the gateway
    #[arg(long)]
    pub token: bool,
    /// No TLS: a generated token goes over the link as it is; for simulated devices and links that nobody else can reach
    #[arg(long, conflicts_with = "psk")]
    pub plain: bool,
    /// A generated pre-shared key, for other brokers than Holm's (writes the line for `psk_file` of Mosquitto to IMAGE.psk)
    #[arg(long, conflicts_with = "token")]
    pub psk: bool,
    /// Key of `holm keys` whose firmware the device takes [default: `default`, if it exists]
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// Filter that the device may publish to; may be given several times; {device} is its name
    #[arg(long, value_name = "FILTER", default_value = "sensors/{device}/#")]
    pub publish: Vec<String>,
    /// Filter that it may subscribe to; may be given several times
    #[arg(long, value_name = "FILTER", default_value = "commands/{device}/#")]
    pub subscribe: Vec<String>,
    /// Days that its certificate is valid: a device is not given another one by itself
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=7300))]
    pub days: u32,
    /// Image to write [default: NAME.provision]
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Append the gateway's lines to this file in place of printing them
    #[arg(long, value_name = "FILE")]
    pub agent_toml: Option<PathBuf>,
    /// Folder.
    #[command(flatten)]
    pub folder: DeviceFolder,
}

/// `holm device show`
#[derive(Debug, Args)]
#[command(after_help = "\
Reads an image of `holm device add`, or a dump of a device's pages, and shows the copy that counts.

Examples:
  holm device show press-7.provision
  holm device show press-7.provision --json")]
pub struct DeviceShow {
    /// The image
    pub file: PathBuf,
}
