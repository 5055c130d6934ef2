//! `cargo xtask fuzz`: every target of `tests/fuzz` under libFuzzer, each for some minutes.
//!
//! What the runs find new goes to `target/fuzz/corpus`; `--keep` minimises that into the small
//! corpora of the repository, which every test run replays (`tests/fuzz-targets/tests/smoke.rs`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use fuzz_targets::TARGETS;

use crate::command::{project_root, run as run_command, succeeds};

/// Longest input, in bytes: longer ones are slow and find nothing that shorter ones do not.
const INPUT_BYTES_MAX: u32 = 4_096;
/// Inputs kept of each target in the repository, at most.
const KEPT_MAX: usize = 150;

/// Options of `cargo xtask fuzz`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask fuzz --minutes 10 --ledger\n  \
    cargo xtask fuzz --target mqtt_session --minutes 60 --keep")]
pub(crate) struct FuzzArgs {
    /// Minutes for each target.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// Only this target.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(
        TARGETS.iter().map(|target| target.name)))]
    target: Option<String>,
    /// Append a line for each target to `docs/evidence/fuzz.jsonl`.
    #[arg(long)]
    ledger: bool,
    /// Minimise what was found into the corpora of the repository.
    #[arg(long)]
    keep: bool,
}

/// What libFuzzer said of one run.
#[derive(Default)]
struct Figures {
    executions: u64,
    edges: u64,
    crashed: bool,
}

/// Runs the targets one after the other.
pub(crate) fn run(args: &FuzzArgs) -> Result<()> {
    let fuzz = install()?;
    let mut crashed = Vec::new();
    for target in TARGETS {
        if args.target.as_ref().is_some_and(|only| only != target.name) {
            continue;
        }
        println!("{}: {} min", target.name, args.minutes);
        let figures = fuzz_one(&fuzz, target.name, args.minutes)?;
        println!(
            "{}: {} executions, {} edges{}",
            target.name,
            figures.executions,
            figures.edges,
            if figures.crashed { ", BROKEN" } else { "" }
        );
        if args.ledger {
            note(target.name, args.minutes, &figures)?;
        }
        if figures.crashed {
            crashed.push(target.name);
        } else if args.keep {
            keep(&fuzz, target.name)?;
        }
    }
    if crashed.is_empty() {
        return Ok(());
    }
    bail!(
        "broken: {}. The inputs lie in target/fuzz/artifacts; one that is mended belongs into \
         tests/fuzz/crashes/TARGET, where every test run replays it",
        crashed.join(", ")
    )
}

fn work_dir(kind: &str, target: &str) -> Result<PathBuf> {
    let dir = project_root().join("target/fuzz").join(kind).join(target);
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}

fn seeds(target: &str) -> PathBuf {
    project_root().join("tests/fuzz/corpus").join(target)
}

/// Installs cargo-fuzz below `target` where it is missing; returns its program.
fn install() -> Result<PathBuf> {
    let root = project_root().join("target/tools");
    let program = root.join("bin/cargo-fuzz");
    if !program.is_file() {
        let mut install = crate::command::cargo(&["install", "cargo-fuzz", "--locked", "--root"]);
        install.arg(&root);
        run_command(install)?;
    }
    Ok(program)
}

/// `cargo fuzz ACTION` with a compiler that takes the flags of libFuzzer: a nightly one, or the
/// pinned one told to act as one.
fn fuzz_command(fuzz: &Path, action: &str) -> Command {
    let mut command = Command::new(fuzz);
    command.arg("fuzz").arg(action).arg("--fuzz-dir").arg(project_root().join("tests/fuzz"));
    command.arg("--target-dir").arg(project_root().join("target/fuzz/build"));
    command.current_dir(project_root()).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    let mut nightly = Command::new("rustup");
    nightly.args(["run", "nightly", "rustc", "--version"]);
    if succeeds(nightly) {
        command.env("RUSTUP_TOOLCHAIN", "nightly");
    } else {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    command
}

fn fuzz_one(fuzz: &Path, target: &str, minutes: u32) -> Result<Figures> {
    let (corpus, artifacts) = (work_dir("corpus", target)?, work_dir("artifacts", target)?);
    let mut command = fuzz_command(fuzz, "run");
    command.arg(target).arg(corpus).arg(seeds(target)).arg("--");
    command.arg(format!("-max_total_time={}", minutes * 60));
    command.arg(format!("-max_len={INPUT_BYTES_MAX}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048"]);
    let mut child = command.stderr(Stdio::piped()).spawn().context("cargo-fuzz cannot start")?;
    let output = child.stderr.take().context("its output")?;
    let mut figures = Figures::default();
    let mut last = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("its output")?;
        figures.read(&line);
        if line.contains("pulse") {
            println!("{line}");
        }
        last.push(line);
        if last.len() > 40 {
            last.remove(0);
        }
    }
    let ended = child.wait().context("cargo-fuzz")?;
    if !ended.success() {
        eprintln!("{}", last.join("\n"));
        if figures.executions == 0 && !figures.crashed {
            bail!("cargo-fuzz did not run {target}: {ended}");
        }
        figures.crashed = true;
    }
    Ok(figures)
}

impl Figures {
    fn read(&mut self, line: &str) {
        let number_after = |mark: &str| {
            let rest = line.split_once(mark)?.1.trim_start();
            rest.split_whitespace().next()?.parse::<u64>().ok()
        };
        if let Some(executions) = number_after("stat::number_of_executed_units:") {
            self.executions = executions;
        }
        if let Some(edges) = number_after(" cov: ") {
            self.edges = self.edges.max(edges);
        }
        self.crashed |= line.contains("Test unit written to");
    }
}

fn note(target: &str, minutes: u32, figures: &Figures) -> Result<()> {
    let line = serde_json::json!({
        "commit": git(&["rev-parse", "HEAD"])?,
        "dirty": !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty(),
        "target": target,
        "minutes": minutes,
        "executions": figures.executions,
        "edges": figures.edges,
        "broken": figures.crashed,
    });
    let path = project_root().join("docs/evidence/fuzz.jsonl");
    std::fs::create_dir_all(project_root().join("docs/evidence")).context("docs/evidence")?;
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    let mut file = file.with_context(|| path.display().to_string())?;
    writeln!(file, "{line}").with_context(|| path.display().to_string())
}

fn git(args: &[&str]) -> Result<String> {
    let output = Command::new("git").args(args).current_dir(project_root()).output();
    let output = output.context("git is needed for the ledger")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Puts the smallest set of inputs that reaches the same code into the repository.
fn keep(fuzz: &Path, target: &str) -> Result<()> {
    let corpus = work_dir("corpus", target)?;
    for seed in std::fs::read_dir(seeds(target)).context("the corpus")? {
        let seed = seed.context("the corpus")?.path();
        let name = seed.file_name().context("a file has a name")?;
        std::fs::copy(&seed, corpus.join(name)).context("the corpus")?;
    }
    let mut command = fuzz_command(fuzz, "cmin");
    command.arg(target).arg(&corpus);
    run_command(command)?;
    let mut inputs: Vec<_> = std::fs::read_dir(&corpus)
        .context("the corpus")?
        .filter_map(|entry| Some((entry.as_ref().ok()?.metadata().ok()?.len(), entry.ok()?.path())))
        .collect();
    inputs.sort();
    for (_, input) in inputs.iter().take(KEPT_MAX) {
        let name = input.file_name().context("a file has a name")?;
        std::fs::copy(input, seeds(target).join(name)).context("the corpus")?;
    }
    Ok(())
}
