//! Commands for simulated fleets.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::device::DeviceFolder;

/// `holm simulate`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Virtual devices are the client that runs on microcontrollers, in this process: thousands fit. Emulated ones are
firmware in QEMU: fifty fit into 2.3 GiB. A profile says what they measure and what happens to them: links that
break, power cuts, wrong clocks, attackers. It runs until Ctrl-C, lets the devices send what they kept, and then
judges by what devices, a subscriber, functions and the control plane say: nothing acknowledged is lost, nothing
comes twice, nothing hostile is taken. Exit code 0 only if that holds.

--with-gateway needs Rust with the target wasm32-unknown-unknown, to build the app that tells of every reading.

Examples:
  holm simulate --with-gateway                        # 20 devices; all parts in this process
  holm simulate --with-gateway --devices 1000 --for 60 --html day.html
  holm simulate --with-gateway --tls                  # mutual TLS, as with devices on a network
  holm simulate set sim-0001 temperature 42.5         # in another terminal; `auto` gives it back
  holm simulate profile > day.toml                    # to be changed
  holm simulate --with-gateway --profile day.toml --seed 7

  holm simulate prepare --devices 200 --agent-toml /etc/holm/agent.toml     # a gateway of your own
  holm simulate --devices 200                                               # once the agent was started again
  holm simulate --devices 10 --firmware qemu-mps2-an385                     # built with --features full,wrong-clock

  holm simulate gateway --image holm-virt.img --forward 18883   # a gateway's card in QEMU, at your control plane")]
pub struct Simulate {
    /// What else to do.
    #[command(subcommand)]
    pub command: Option<SimulateCommand>,
    /// The simulation.
    #[command(flatten)]
    pub run: SimulateRun,
}

/// Beside running a simulation.
#[derive(Debug, Subcommand)]
pub enum SimulateCommand {
    /// Set what a sensor of a running simulation measures
    Set(SimulateSet),
    /// Make credentials of many devices for a gateway of your own
    Prepare(SimulatePrepare),
    /// Boot a card image of a gateway in QEMU
    Gateway(SimulateGateway),
    /// Print the profile that is used without --profile
    Profile,
}

/// A simulation.
#[derive(Debug, Args)]
pub struct SimulateRun {
    /// How many devices: sim-0001, sim-0002, ...
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub devices: u32,
    /// Virtual devices; so it is without --firmware
    #[arg(long, conflicts_with = "firmware")]
    pub host: bool,
    /// Emulated devices that run this program (ELF)
    #[arg(long, value_name = "PATH")]
    pub firmware: Option<PathBuf>,
    /// What the fleet is like [default: that of `holm simulate profile`]
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// End after so many seconds [default: at Ctrl-C]
    #[arg(long = "for", value_name = "S")]
    pub for_s: Option<u64>,
    /// The same seed, the same day [default: a random one, which is printed]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Seconds that devices have at the end to send what they kept
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub settle: u64,
    /// Start a control plane and a gateway in this process that know the devices
    #[arg(long)]
    pub with_gateway: bool,
    /// Port of that gateway on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 1883, requires = "with_gateway")]
    pub port: u16,
    /// On that gateway devices use TLS, and prove themselves by certificates
    #[arg(long, requires = "with_gateway")]
    pub tls: bool,
    /// Port for devices with TLS on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 8883, requires = "tls")]
    pub tls_port: u16,
    /// App that runs on that gateway [default: one that tells of every reading]
    #[arg(long, value_name = "DIR", requires = "with_gateway")]
    pub app: Option<PathBuf>,
    /// Where devices connect [default: where the credentials say]
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "with_gateway")]
    pub gateway: Option<String>,
    /// Folder with an image NAME.provision of each device: of `holm simulate prepare`, or `holm device add`
    #[arg(long, value_name = "DIR", default_value = ".holm/simulate/devices")]
    pub credentials: PathBuf,
    /// Name of the gateway on the control plane of --context, to see what arrives there
    #[arg(long, value_name = "NAME", conflicts_with = "with_gateway")]
    pub cloud: Option<String>,
    /// Folder for what the simulation keeps: flash and consoles of emulated devices, the control socket
    #[arg(long, value_name = "DIR", default_value = ".holm/simulate")]
    pub run: PathBuf,
    /// Write a page with what happened over time
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `holm simulate set`
#[derive(Debug, Args)]
#[command(after_help = "\
Prints what the sensor measured before and measures now. The value stays, over power cuts too, until `auto`
gives the sensor back to its waveform.

Examples:
  holm simulate set sim-0001 temperature 42.5
  holm simulate set sim-0001 temperature auto")]
pub struct SimulateSet {
    /// Name of the device
    pub device: String,
    /// Name of the sensor
    pub sensor: String,
    /// The value, or `auto`
    #[arg(allow_negative_numbers = true)]
    pub value: String,
    /// Folder of the simulation
    #[arg(long, value_name = "DIR", default_value = ".holm/simulate")]
    pub run: PathBuf,
}

/// `holm simulate prepare`
#[derive(Debug, Args)]
#[command(after_help = "\
Writes an image for each device that has none yet, and the token of the account `sim-watch`, which may
subscribe to everything. Images are those of `holm device add --plain`, or with --tls of `holm device add`: then
`holm device ca` comes first, and `holm device listener` for the gateway. Links without TLS are for loopback and
for networks that nobody else can reach.

Examples:
  holm simulate prepare --devices 200 --agent-toml /etc/holm/agent.toml
  holm simulate prepare --devices 50 --gateway 10.0.0.5:1883 --credentials devices
  holm simulate prepare --devices 50 --tls --gateway barn-3.local:8883 --agent-toml agent.toml")]
pub struct SimulatePrepare {
    /// How many devices
    #[arg(long, short = 'n', value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub devices: u32,
    /// Where they connect [default: 127.0.0.1:1883, with --tls 127.0.0.1:8883]
    #[arg(long, value_name = "HOST:PORT")]
    pub gateway: Option<String>,
    /// TLS: each gets a certificate
    #[arg(long)]
    pub tls: bool,
    /// Name in the gateway's certificate [default: the host of --gateway]
    #[arg(long, value_name = "NAME", requires = "tls")]
    pub server_name: Option<String>,
    /// Filter that a device may publish to; may be given several times [default: sensors/{device}/#]
    #[arg(long, value_name = "FILTER")]
    pub publish: Vec<String>,
    /// Folder for the credentials
    #[arg(long, value_name = "DIR", default_value = ".holm/simulate/devices")]
    pub credentials: PathBuf,
    /// Append the gateway's lines to this file in place of printing them
    #[arg(long, value_name = "FILE")]
    pub agent_toml: Option<PathBuf>,
    /// Folder.
    #[command(flatten)]
    pub folder: DeviceFolder,
}

/// `holm simulate gateway`
#[derive(Debug, Args)]
#[command(after_help = "\
Boots an image of `cargo xtask image --board virt` as a gateway, until Ctrl-C, which pulls its plug. Its console is shown
line by line behind its name. The image stays as it is: what the gateway writes is gone with it, and a token of enrolment
in it works for the first start only. With --keep the image is the gateway's card, and it goes on from there the
next time. Of --count gateways from one image only one can enrol; give each an image of its own to have more.

The gateway finds this machine at 10.0.2.2, and all that this machine reaches. For a control plane that runs here:
`holm cloud init DIR --host localhost --host 10.0.2.2`, `cloud-sync serve --dir DIR --endpoint 10.0.2.2:8883`. Devices
find the gateway's listener on port 8883, if its agent.toml has one, at the port of --forward on 127.0.0.1; those of
further gateways follow.

Needs qemu-system-aarch64 (Debian: qemu-system-arm) and U-Boot: NAME.u-boot.bin beside the image, where the build of the
image puts it, or that of Debian's package u-boot-qemu.

Examples:
  holm simulate gateway --image holm-virt.img --forward 18883            # beside `cloud-sync serve`, which has 8883
  holm simulate gateway --image holm-virt.img --keep --forward 18883
  holm simulate gateway --image barn-1.img --image barn-2.img --forward 18883
  holm simulate gateway --image holm-virt.img --count 3 --memory-mib 256 # of an image that joins nothing")]
pub struct SimulateGateway {
    /// The image; may be given several times, a gateway each
    #[arg(long, value_name = "FILE", required = true)]
    pub image: Vec<PathBuf>,
    /// So many gateways from one image
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "keep")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=8))]
    pub count: u16,
    /// Memory of each
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    #[arg(value_parser = clap::value_parser!(u32).range(128..=4_096))]
    pub memory_mib: u32,
    /// Port of 127.0.0.1 that leads to the listener for devices of the first
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub forward: u16,
    /// The gateway writes to the image
    #[arg(long)]
    pub keep: bool,
    /// The boot loader [default: NAME.u-boot.bin beside the image, or Debian's]
    #[arg(long, value_name = "FILE")]
    pub u_boot: Option<PathBuf>,
    /// End after so many seconds [default: at Ctrl-C]
    #[arg(long = "for", value_name = "S")]
    pub for_s: Option<u64>,
}
