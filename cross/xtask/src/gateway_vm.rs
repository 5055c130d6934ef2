//! `cargo xtask gateway-vm`: the image as a gateway in QEMU, with a control plane on this machine.

mod cuts;
mod devices;
mod gate;
mod judge;
mod machine;
mod many;
mod memory;
mod offline;
mod programs;
mod reset;
mod sending;
mod site;
mod slots;
mod status;
mod story;
mod systems;
mod updates;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::image::{self, PARTS_DIR};
use crate::setup::{self, Agent};

const EXAMPLES: &str = "\
Builds the image of the board `virt`, boots it in QEMU with a clock that shows 1970, lets it enrol with a
control plane on this machine, deploys an app and sends messages over TLS. With --test there are
10,000 messages, and QEMU is killed in the midst of them and started again; in the end every message that
was acked has its record in the control plane, once.

After that the agent is updated by deployments, while another device sends: to a good one, which must stay, and
to three that must go by themselves, with their reason at the control plane: one that crashes, one that hangs,
one that works and does not reach the control plane. These are scripts around the agent itself.

Then whole systems are deployed, with --systems alone too: one that is well and must be kept, one whose root is noise and
one that hangs, which must be taken back by themselves, with a reason at the control plane.

Then systems are put into the other slot: one that is well while the agent is itself on trial, which must
be kept after the agent is; one that does not boot and one that hangs, from which the gateway must come back. Blocks of the
good slot go bad, of its initramfs and of its root: the other one must take over. A file on the boot partition asks for a
factory reset: the gateway must be empty, and enrol anew.

  host     from QEMU's start, on this machine
  guest    from the start of the kernel, by the clock of the guest
  PSS      memory of the agent in the guest, from smaps_rollup; over 10 MB at rest or 15 MB at work it fails,
           after all else

The kill is one of the gateway's software: what QEMU has written stays in the caches of this machine. Last, and with
--replay alone, the power of the card is cut: every block that the gateway writes is recorded, from its first boot on,
with the other slot on trial, while five devices send and a subscriber listens. Then the record is cut at 200 points, or
so many as --replay says. What was flushed is there, of the rest some is kept, dropped or torn, by the seed; the data
partition is mounted, and the agent's store is opened on it. What was acked must be there, once; so must configuration,
token or identity, and a whole copy of the boot record. In the end a card that did not do its last flushes must be found
out. Needs root, /dev/fuse, loop devices and qemu-storage-daemon; without them --test says so and passes it over (in CI
it fails).

With --gateways there are several, each with a card and a token of its own, at one control plane, and one deployment to
all. With --devices the messages are sent by firmware on emulated microcontrollers, so that nothing of the system is left
that is not in an emulator but the control plane; gateway and devices lose their power on the way.

Examples:
  cargo xtask gateway-vm                  200 messages, for a look
  cargo xtask gateway-vm --keep           ... and it goes on running, until Enter
  cargo xtask gateway-vm --test           the proof
  cargo xtask gateway-vm --systems        updates of the whole system, without the rest of the proof
  cargo xtask gateway-vm --board rpi3 --test
  cargo xtask gateway-vm --test --idle 15 --busy 15    ... and PSS over 10 minutes each, after 5 of warm-up
  cargo xtask gateway-vm --replay 200     200 power cuts of its card
  cargo xtask gateway-vm --replay 200 --again --seed 7 --point 31    one of them once more, of a record that was kept
  cargo xtask gateway-vm --gateways 3     three of them, 256 MiB each
  cargo xtask gateway-vm --devices 3      emulated devices at the emulated gateway
";

/// Power cuts at the end of --test.
const CUTS_OF_TEST: u32 = 200;
/// Messages of each of five devices while a card is recorded.
const MESSAGES_BEFORE_CUTS: u32 = 300;

/// What every run is made of.
#[derive(Clone, Debug)]
struct Basis {
    /// Where everything is written.
    dir: PathBuf,
    /// The agent for arm64.
    agent: PathBuf,
    /// Where packages are kept.
    parts: PathBuf,
    /// Memory of each machine.
    memory_mib: u32,
}

/// Options of `cargo xtask gateway-vm`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GatewayVmArgs {
    /// Run the whole test, and fail where something is not as it has to be.
    #[arg(long)]
    test: bool,
    /// The board that is emulated. `rpi3` has no network in QEMU: it boots, and returns from a bad slot.
    #[arg(long, default_value = "virt", value_parser = ["virt", "rpi3"])]
    board: String,
    /// Leave it running at the end, until Enter; with --replay the record stays.
    #[arg(long)]
    keep: bool,
    /// Deploy whole systems: a good one, one that does not boot, one that hangs. --test does so as well.
    #[arg(long)]
    systems: bool,
    /// Record the card and cut its power at so many points.
    #[arg(long, value_name = "POINTS", conflicts_with_all = ["test", "systems", "idle", "gateways", "devices"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    replay: Option<u32>,
    /// Chooses the points of --replay (default: by the clock; printed).
    #[arg(long, requires = "replay")]
    seed: Option<u64>,
    /// Cut the record that is there once more, and make none.
    #[arg(long, requires = "replay")]
    again: bool,
    /// Only the point with this number.
    #[arg(long, value_name = "N", requires_all = ["again", "seed"])]
    point: Option<usize>,
    /// Print the report of --replay as JSON.
    #[arg(long, requires = "replay")]
    json: bool,
    /// So many gateways at once.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with_all = ["test", "systems", "idle", "keep"])]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=8))]
    gateways: u8,
    /// So many emulated devices send, instead of a client on this machine.
    #[arg(long, value_name = "N", conflicts_with_all = ["test", "systems", "idle", "keep", "gateways", "messages"])]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=20))]
    devices: Option<u8>,
    /// How long emulated devices measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "devices")]
    #[arg(value_parser = clap::value_parser!(u64).range(10..=86_400))]
    seconds: u64,
    /// Messages that are sent [default: 200, with --test 10000]; with --replay those of each of five devices
    /// [default: 300], with --gateways those to each.
    #[arg(long, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    messages: Option<u32>,
    /// With --test: minutes without messages. A third is warm-up, the median of the rest is the idle PSS.
    #[arg(long, value_name = "MINUTES", default_value_t = 1, requires = "test")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=120))]
    idle: u64,
    /// With --test: minutes with 10 messages a second, for the PSS at work.
    #[arg(long, value_name = "MINUTES", default_value_t = 1, requires = "test")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=25))]
    busy: u64,
    /// MiB of memory of the machine [default: 512, with --gateways 256 each].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(128..=4_096))]
    memory: Option<u32>,
    /// The agent for 64-bit ARM [default: what `cargo xtask targets` built].
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// With --test: the agent that it is updated to [default: the same with a byte behind its end].
    #[arg(long, value_name = "FILE")]
    update: Option<PathBuf>,
    /// What `edge-agent --version` of that says [default: what the other one says].
    #[arg(long, value_name = "VERSION", requires = "update")]
    update_version: Option<String>,
    /// Take control plane and command line as they were built last.
    #[arg(long)]
    no_build: bool,
    /// Where packages for images are kept.
    #[arg(long, value_name = "FOLDER", default_value = PARTS_DIR, env = "HOLM_IMAGE_PARTS")]
    parts: PathBuf,
    /// Where image, ledgers and logs are written.
    #[arg(long, default_value = ".holm/gateway-vm")]
    dir: PathBuf,
}

/// Runs the gateway.
pub(crate) fn run(args: &GatewayVmArgs) -> Result<()> {
    let dir = crate::command::project_root().join(&args.dir);
    if args.again {
        cuts::check_host(&dir)?;
        return cuts::cut(&dir, &args.cuts());
    }
    prepare(args)?;
    let is_cut = args.is_cut_at_the_end() && can_cut(args, &dir)?;
    let agent = image::agent(args.agent.as_ref())?;
    let dir = setup::empty_dir(&args.dir)?;
    eprintln!("console, ledgers and logs in {}", dir.display());
    let parts = crate::command::project_root().join(&args.parts);
    let memory_mib = args.memory.unwrap_or(if args.gateways > 1 { 256 } else { 512 });
    let basis = Basis { dir, agent, parts, memory_mib };
    if args.replay.is_some() {
        return cut(args, basis, args.messages);
    }
    if let Some(devices) = args.devices {
        let length = std::time::Duration::from_secs(args.seconds);
        return devices::tell(&devices::Options { basis, devices, length });
    }
    if args.gateways > 1 {
        return many::tell(&many::Options {
            basis,
            gateways: args.gateways,
            messages: args.messages.unwrap_or(200),
        });
    }
    let basis_of_cuts = Basis { dir: basis.dir.join("cuts"), ..basis.clone() };
    let options = story::Options {
        basis,
        update: args.update.clone(),
        update_version: args.update_version.clone(),
        messages: args.messages.unwrap_or(if args.test { 10_000 } else { 200 }),
        idle: std::time::Duration::from_secs(args.idle * 60),
        busy: std::time::Duration::from_secs(args.busy * 60),
        is_test: args.test,
        with_systems: args.test || args.systems,
        keep: args.keep,
    };
    if !args.is_virt() {
        return offline::tell(&options);
    }
    story::tell(&options)?;
    if is_cut { cut(args, basis_of_cuts, None) } else { Ok(()) }
}

/// Power cuts of a card of its own.
fn cut(args: &GatewayVmArgs, basis: Basis, messages: Option<u32>) -> Result<()> {
    let (messages, cuts) = (messages.unwrap_or(MESSAGES_BEFORE_CUTS), args.cuts());
    eprintln!("power cuts, seed {}", cuts.seed);
    std::fs::create_dir_all(&basis.dir).context("the folder of the cuts")?;
    cuts::record_and_cut(&cuts::Options { basis, messages, cuts })
}

/// Whether the power of a card can be cut here. Where it was asked for, and in CI, it has to be.
fn can_cut(args: &GatewayVmArgs, dir: &Path) -> Result<bool> {
    let Err(why) = cuts::check_host(dir) else { return Ok(true) };
    if args.replay.is_some() || std::env::var_os("CI").is_some() {
        return Err(why);
    }
    eprintln!("SKIPPED at the end: {why:#}");
    Ok(false)
}

/// Installs, checks and builds what the run is made of.
fn prepare(args: &GatewayVmArgs) -> Result<()> {
    image::tools()?;
    let of_devices = args.devices.iter().flat_map(|_| setup::EMULATED);
    let needed = setup::GATEWAY_VM.iter().chain(of_devices);
    let of_cuts = args.is_cut_at_the_end().then_some(setup::REPLAY).into_iter().flatten();
    // In one question, so that what belongs together is installed together.
    setup::offer(needed.clone().chain(of_cuts), false)?;
    let missing: Vec<_> = needed.filter(|part| !part.is_here()).collect();
    ensure!(missing.is_empty(), "missing: {}", setup::apt_line(&missing));
    let is_plain = args.replay.is_none() && args.devices.is_none() && args.gateways == 1;
    ensure!(
        args.is_virt() || (is_plain && !args.systems),
        "rpi3 has no network in QEMU: --replay, --gateways, --devices and --systems are for the board virt"
    );
    if !args.is_virt() {
        // Neither control plane nor functions.
        return Ok(());
    }
    if args.no_build {
        setup::wasm_target()?;
        machine::check_programs()
    } else {
        setup::programs(Agent::Shipped)
    }
}

impl GatewayVmArgs {
    fn is_virt(&self) -> bool {
        self.board == "virt"
    }

    fn is_cut_at_the_end(&self) -> bool {
        self.replay.is_some() || (self.test && self.is_virt())
    }

    fn cuts(&self) -> cuts::Cuts {
        cuts::Cuts {
            points: self.replay.unwrap_or(CUTS_OF_TEST),
            seed: setup::seed(self.seed),
            only: self.point,
            keep: self.keep,
            json: self.json,
        }
    }
}
