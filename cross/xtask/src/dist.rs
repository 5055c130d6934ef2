//! `cargo xtask dist`: everything that is released, from a clean clone, with one list of checksums.

mod rows;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum as _};

use self::rows::Rows;
use crate::command::project_root;
use crate::image::{self, Board, PARTS_DIR, Request, Seed, Sources, Versions, tool};
use crate::packages::release::{self, Content, Release};
use crate::packages::{self, sbom, sums};
use crate::setup;
use crate::steps::Steps;
use crate::targets::build;
use crate::targets::list::{Route, TARGETS, Target};

const EXAMPLES: &str = "\
Makes, into one folder:

  of each target    the agent (profile `dist`), a tarball, what it is made of (CycloneDX 1.5, and a list of licences)
  for Debian        .deb of amd64, arm64 and armhf
  for containers    an image in the OCI layout
  for cards         images of the boards, packed with xz, with the licences of their parts
  over all          install.sh, SHA256SUMS, with --key SHA256SUMS.sig

and prints file, bytes and seconds. What cannot be made here is named, and fails the command, after the rest was made;
what the list of targets declares untested does not. From a clean clone that is an hour on 2 cores: the agent is
compiled five times. Of the same programs, packages of Debian and tools two makes are the same bytes; times are
SOURCE_DATE_EPOCH, or else that of the last commit.

Examples:
  cargo xtask dist --key ~/.config/holm/keys/release.pem
  cargo xtask dist --no-build                                  agents as they were built last
  cargo xtask dist --only aarch64-unknown-linux-musl --only rpi4
";

/// The target whose agent is on the cards.
const CARD_TARGET: &str = "aarch64-unknown-linux-musl";

/// Options of `cargo xtask dist`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DistArgs {
    /// Private key that signs the release (PEM); without it there is no signature.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Only this target or board; may be given several times.
    #[arg(long, value_name = "TARGET|BOARD")]
    only: Vec<String>,
    /// Take agents as they were built last.
    #[arg(long)]
    no_build: bool,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
    /// Where the release goes; a release that is there is removed.
    #[arg(long, value_name = "DIR", default_value = ".holm/dist")]
    out: PathBuf,
    /// Where Debian's packages for card images are kept.
    #[arg(long, value_name = "FOLDER", default_value = PARTS_DIR, env = "HOLM_IMAGE_PARTS")]
    parts: PathBuf,
    /// Install missing Debian packages (needs root; as root it is the default).
    #[arg(long)]
    install: bool,
}

/// What is wanted.
struct Wanted<'a>(&'a [String]);

impl Wanted<'_> {
    fn check(&self) -> Result<()> {
        let boards = Board::value_variants().iter().map(|board| board.name());
        let all: Vec<_> = TARGETS.iter().map(|target| target.triple).chain(boards).collect();
        for name in self.0 {
            ensure!(all.contains(&name.as_str()), "--only {name}: there are {}", all.join(", "));
        }
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| wanted == name)
    }

    fn boards(&self) -> Vec<Board> {
        let all = Board::value_variants().iter().copied();
        all.filter(|board| self.has(board.name())).collect()
    }

    /// Whether an agent has to be there, for packages or for cards.
    fn needs(&self, target: &Target) -> bool {
        self.has(target.triple) || (target.triple == CARD_TARGET && !self.boards().is_empty())
    }
}

/// Makes the release.
///
/// # Errors
/// Something of it cannot be made here; the table says what.
pub(crate) fn run(args: &DistArgs) -> Result<()> {
    let wanted = Wanted(&args.only);
    wanted.check()?;
    let targets: Vec<_> = TARGETS.iter().filter(|target| wanted.needs(target)).collect();
    let parts = targets.iter().filter(|_| !args.no_build).flat_map(|it| it.build_parts());
    let tools = tool::TOOLS.iter().filter(|_| !wanted.boards().is_empty());
    setup::offer(parts.chain(packages::PARTS).chain(tools), args.install)?;
    let release = Release {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: release::epoch()?,
        out: fresh(&args.out)?,
        scratch: project_root().join(".holm/dist.work"),
        key: args.key.as_deref().map(release::key).transpose()?,
    };
    let mut rows = Rows::default();
    let agents = agents(&targets, args.no_build, &mut rows);
    pack(&release, &wanted, &agents, &mut rows)?;
    let card_agent = agents.iter().find(|(target, _)| target.triple == CARD_TARGET);
    for board in wanted.boards() {
        card(&release, board, card_agent.map(|(_, agent)| agent.as_path()), args, &mut rows)?;
    }
    sum_up(&release, &mut rows)?;
    if args.json {
        println!("{}", rows.json(&release.out));
    } else {
        println!("\n{}", rows.table(&release.out));
        if release.key.is_none() {
            println!("not signed: `--key FILE`; install.sh then asks for --unsigned");
        }
    }
    let failures = rows.failures();
    ensure!(failures.is_empty(), "not made: {}", failures.join(", "));
    Ok(())
}

/// An empty folder. What is there is removed if it is a release.
fn fresh(out: &Path) -> Result<PathBuf> {
    let out = project_root().join(out);
    let is_empty = || Ok::<_, std::io::Error>(out.read_dir()?.next().is_none());
    if out.exists() && !is_empty()? && !out.join("SHA256SUMS").is_file() {
        bail!("{} holds other things than a release: name another --out", out.display());
    }
    setup::empty_dir(&out)?;
    // So that a release that was broken off is known for one.
    std::fs::write(out.join("SHA256SUMS"), "").with_context(|| out.display().to_string())?;
    Ok(out)
}

/// Builds the agents; those that cannot be had are in the rows.
fn agents(
    targets: &[&'static Target],
    no_build: bool,
    rows: &mut Rows,
) -> Vec<(&'static Target, PathBuf)> {
    let mut agents = Vec::new();
    for (at, target) in targets.iter().enumerate() {
        let name = format!("(program) {}", target.triple);
        if let Route::Untested(why) = target.route {
            rows.untested(&name, why);
            continue;
        }
        eprintln!("{name}, {} of {} ...", at + 1, targets.len());
        let begun = Instant::now();
        match if no_build { build::judge(target) } else { build::build(target) } {
            Ok(built) => {
                rows.made(name, built.bytes, begun.elapsed());
                agents.push((*target, built.program));
            }
            Err(error) => rows.failed(&name, begun.elapsed(), &error),
        }
    }
    agents
}

/// Packs the agents that were asked for.
fn pack(
    release: &Release,
    wanted: &Wanted<'_>,
    agents: &[(&'static Target, PathBuf)],
    rows: &mut Rows,
) -> Result<()> {
    let mut contents = Vec::new();
    for (target, agent) in agents.iter().filter(|(target, _)| wanted.has(target.triple)) {
        let agent = std::fs::read(agent)?;
        let sbom = sbom::of_agent(target.triple, &agent)?;
        contents.push((*target, Content { agent, sbom }));
    }
    if contents.is_empty() {
        return Ok(());
    }
    for (name, took) in packages::make(release, &contents)? {
        rows.file(&release.out, &name, took)?;
    }
    Ok(())
}

/// Makes the image of a board, packed, and the list of licences.
fn card(
    release: &Release,
    board: Board,
    agent: Option<&Path>,
    args: &DistArgs,
    rows: &mut Rows,
) -> Result<()> {
    let name = format!("holm-{}-{}", release.version, board.name());
    let packed = format!("{name}.img.xz");
    let begun = Instant::now();
    let made = agent
        .with_context(|| format!("there is no agent for {CARD_TARGET}"))
        .and_then(|agent| pack_card(release, board, agent, &name, args));
    match made {
        Ok(files) => {
            rows.file(&release.out, &packed, begun.elapsed())?;
            for file in files {
                rows.file(&release.out, &file, std::time::Duration::ZERO)?;
            }
        }
        Err(error) => rows.failed(&packed, begun.elapsed(), &error),
    }
    Ok(())
}

/// Returns the names of the files beside the image.
fn pack_card(
    release: &Release,
    board: Board,
    agent: &Path,
    name: &str,
    args: &DistArgs,
) -> Result<Vec<String>> {
    eprintln!("{name}:");
    let work = release.work("cards");
    std::fs::create_dir_all(&work)?;
    let built = image::build(&Request {
        board,
        agent: agent.to_owned(),
        seed: Seed::read(&Sources::default())?,
        out: work.join(format!("{name}.img")),
        parts: project_root().join(&args.parts),
        versions: Versions::AsBefore,
        version: image::system::own_version(),
        built_at: Some(release.epoch),
    })?;
    let packed = format!("{name}.img.xz");
    // Only what is whole comes to where it is summed and signed.
    Steps::default().step("xz", || xz(&built.image, &work.join(&packed)))?;
    std::fs::rename(work.join(&packed), release.out.join(&packed)).context(packed)?;
    let mut beside = vec![
        (&built.licences, format!("{name}.licences.txt")),
        (&built.system, format!("{name}.system")),
    ];
    // QEMU starts with the boot loader in a file of its own.
    if let Some(u_boot) = built.u_boot.as_ref().filter(|_| board == Board::Virt) {
        beside.push((u_boot, format!("{name}.u-boot.bin")));
    }
    for (from, name) in &beside {
        std::fs::copy(from, release.out.join(name)).with_context(|| name.clone())?;
    }
    std::fs::remove_dir_all(&work)?;
    Ok(beside.into_iter().map(|(_, name)| name).collect())
}

/// Packs an image. With a dictionary that reaches over slot a, whose root and kernel slot b repeats; by
/// one thread, since several cut the file into blocks, which depend on their number.
fn xz(from: &Path, to: &Path) -> Result<()> {
    let file = std::fs::File::create(to).with_context(|| to.display().to_string())?;
    let mut xz = tool::tool("xz", 0);
    xz.args(["--lzma2=preset=6,dict=128MiB", "--threads=1", "--check=crc32", "--stdout"]).arg(from);
    let status = xz.stdout(file).status().context("xz")?;
    ensure!(status.success(), "xz: {status}");
    Ok(())
}

fn sum_up(release: &Release, rows: &mut Rows) -> Result<()> {
    let begun = Instant::now();
    std::fs::remove_file(release.out.join("SHA256SUMS"))?;
    sums::write_sums(release)?;
    rows.file(&release.out, "SHA256SUMS", begun.elapsed())?;
    if release.key.is_some() {
        rows.file(&release.out, "SHA256SUMS.sig", std::time::Duration::ZERO)?;
    }
    if release.scratch.exists() {
        std::fs::remove_dir_all(&release.scratch).context("what the release was made in")?;
    }
    Ok(())
}
