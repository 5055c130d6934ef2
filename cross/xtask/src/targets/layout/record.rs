//! `cargo xtask layout`: which functions a gateway runs, from its launcher's start to messages that are in the
//! control plane, written down by QEMU, which tells each piece of code when it first comes to it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustc_demangle::demangle;
use serde_json::json;
use system_tests::author::{Author, fixture};
use system_tests::cloud::Cloud;
use system_tests::device::{self, Plan};
use system_tests::gateway::{Gateway, Setup};
use system_tests::ledger::{Ledger, wall_ms};
use system_tests::mqtt::Login;
use system_tests::process::wait_for;
use system_tests::{pki, readings};

use super::{LIST, folder, key, map};
use crate::command::project_root;
use crate::setup::{self, Agent};
use crate::targets::{build, guest, list};

/// The target that is looked at: static and at fixed addresses, so that those of the map are those of the run.
const TARGET: &str = "aarch64-unknown-linux-musl";
/// What compiles, in a process of its own that ends: that one is not looked at.
const COMPILER: &str = "<cranelift_codegen::context::Context>::compile";
const DEVICE: &str = "press";
const TOKEN: &str = "token-of-press";
const READINGS: usize = 50;
/// Longest wait for anything in the emulator.
const PATIENCE: Duration = Duration::from_secs(120);

const HEAD: &str = "\
# Functions that a gateway runs, in the order in which they lie in its program: a hash of each name.
# Made by `cargo xtask layout`; what for: cross/xtask/src/targets/layout.rs.
";

/// Options of `cargo xtask layout`.
#[derive(Args)]
#[command(after_help = "\
Builds the agent for arm64 and lets it live under QEMU: launcher, enrolment, TLS, a deployment, messages, a restart. What
ran goes into cross/layout.txt, in whose order programs for musl are linked from then on. Do it again when much has changed,
and look at memory before and after (`cargo xtask bench memory`): a list that is old costs memory, nothing else.

Examples:
  cargo xtask layout
  cargo xtask layout --no-build        of what was built last
  cargo xtask layout --json            how many functions ran, as data")]
pub(crate) struct LayoutArgs {
    /// Take the agent and all programs as they were built last.
    #[arg(long)]
    no_build: bool,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
    /// Where the gateway keeps its data, and QEMU its logs.
    #[arg(long, default_value = ".holm/layout")]
    dir: PathBuf,
}

/// Makes the list anew.
pub(crate) fn run(args: &LayoutArgs) -> Result<()> {
    let target = list::named(TARGET)?;
    let parts = || target.build_parts().iter().chain(target.run_parts());
    let missing = setup::offer(parts(), false)?;
    ensure!(missing.is_empty(), "missing: {}", setup::apt_line(&missing));
    let built = if args.no_build {
        build::judge(target)?
    } else {
        setup::programs(Agent::Shipped)?;
        build::build(target)?
    };
    let dir = setup::empty_dir(&args.dir)?;
    let logs = dir.join("logs");
    std::fs::create_dir_all(&logs)?;
    let emulated = guest::launcher(&target.guest, &built.program, &dir)?;
    let agent = dir.join("recorded-agent.sh");
    let (shown, logged) = (emulated.display(), logs.display());
    let script = format!(
        "#!/bin/sh\nexport QEMU_LOG=in_asm QEMU_LOG_FILENAME='{logged}/%d.log'\nexec '{shown}' \"$@\"\n"
    );
    std::fs::write(&agent, script)?;
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755))?;
    live(&agent, &dir)?;
    let map = Map::read(&map(&folder(TARGET)?))?;
    let ran = ran(&map, &logs)?;
    let mut known = HashSet::new();
    let keys = ran.iter().map(|name| key(name)).filter(|key| known.insert(key.clone()));
    let text: String = keys.map(|key| key + "\n").collect();
    std::fs::write(project_root().join(LIST), HEAD.to_owned() + &text)?;
    let (ran, of) = (ran.len(), map.functions.len());
    if args.json {
        println!("{}", json!({ "ran": ran, "functions": of, "list": LIST }));
    } else {
        println!("{ran} functions ran of {of}: {LIST}");
    }
    Ok(())
}

/// What a gateway lives through.
fn live(agent: &Path, dir: &Path) -> Result<()> {
    let author = Author::new(&dir.join("author"))?;
    let cloud = Cloud::start(&dir.join("cloud"), &author)?;
    let identity = pki::server_identity(&dir.join("pki"))?;
    let setup = Setup {
        agent: agent.to_str().context("the path is not UTF-8")?.to_owned(),
        launched: true,
        devices: vec![(DEVICE.to_owned(), TOKEN.to_owned())],
        ..Setup::open("layout").with_tls(&identity)
    };
    let mut gateway = Gateway::new(&dir.join("gateway"), &setup)?;
    gateway.enroll(author.holm(&["gateway", "add", "layout"])?.trim())?;
    gateway.start()?;
    let app = fixture("apps/cold-chain");
    author.holm(&["deploy", app.to_str().context("the path is not UTF-8")?, "--all"])?;
    wait_for(PATIENCE, "the app to work", || {
        let status = gateway.status()?;
        let phase = &status["deployments"]["apps"][0]["phase"];
        Ok((phase == "probation" || phase == "live").then_some(()))
    })?;
    send(&gateway, &identity.ca, &dir.join("device-1.jsonl"))?;
    gateway.stop()?;
    gateway.start()?;
    send(&gateway, &identity.ca, &dir.join("device-2.jsonl"))?;
    wait_for(PATIENCE, "records in the control plane", || {
        let rows = cloud.stream("layout", 1)?;
        Ok((gateway.status()?["outbox"]["records"] == 0 && !rows.is_empty()).then_some(()))
    })?;
    gateway.stop()
}

fn send(gateway: &Gateway, ca: &Path, path: &Path) -> Result<()> {
    let login = Login {
        ca: Some(ca.to_owned()),
        password: Some(TOKEN.to_owned()),
        ..Login::anonymous(gateway.address(), DEVICE)
    };
    let plan = Plan {
        login,
        topic: format!("sensors/{DEVICE}"),
        window: 8,
        rate_per_s: None,
        ids: true,
        patience: PATIENCE,
        stop: None,
    };
    let readings = readings::read(&readings::excerpt())?;
    device::run(&plan, &readings[..READINGS], wall_ms(), &mut Ledger::create(path)?)
}

/// Functions of the program by their addresses: where it begins and ends, and its name. Some share
/// their code.
struct Map {
    functions: Vec<(u64, u64, String)>,
}

impl Map {
    /// Reads what the linker wrote: address, load address, size, alignment, and what is there.
    fn read(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        let mut functions = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line?;
            let words: Vec<&str> = line.split_whitespace().collect();
            // A symbol stands deeper than the section that it is in.
            let [address, _, size, "1", name] = words[..] else { continue };
            let number = |digits| u64::from_str_radix(digits, 16);
            if let (Ok(from), Ok(size)) = (number(address), number(size)) {
                functions.push((from, from + size, name.to_owned()));
            }
        }
        functions.retain(|(from, to, _)| from < to);
        functions.sort();
        ensure!(!functions.is_empty(), "{}: no function in it", path.display());
        Ok(Self { functions })
    }

    /// The names of the function at an address.
    fn at(&self, address: u64) -> impl Iterator<Item = &str> {
        let end = self.functions.partition_point(|(from, _, _)| *from <= address);
        let before = self.functions[..end].iter().rev();
        let begins = before.clone().next().map(|(from, _, _)| *from);
        before
            .take_while(move |(from, _, _)| Some(*from) == begins)
            .filter(move |(_, to, _)| address < *to)
            .map(|(_, _, name)| name.as_str())
    }
}

/// Names of what ran: first what most processes have in common, and that in the order in which it was come to.
fn ran<'a>(map: &'a Map, logs: &Path) -> Result<Vec<&'a str>> {
    let mut processes: HashMap<&str, usize> = HashMap::new();
    let mut first: HashMap<&str, usize> = HashMap::new();
    let paths: BTreeSet<PathBuf> =
        std::fs::read_dir(logs)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    for path in paths {
        let functions = of_process(map, &path)?;
        if functions.iter().any(|name| format!("{:#}", demangle(name)) == COMPILER) {
            continue;
        }
        for name in functions {
            let seen = first.len();
            first.entry(name).or_insert(seen);
            *processes.entry(name).or_default() += 1;
        }
    }
    let mut names: Vec<&str> = first.keys().copied().collect();
    names.sort_by_key(|name| (std::cmp::Reverse(processes[name]), first[name]));
    Ok(names)
}

/// Functions of one process, each where it was first come to.
fn of_process<'a>(map: &'a Map, log: &Path) -> Result<Vec<&'a str>> {
    let file = std::fs::File::open(log).with_context(|| log.display().to_string())?;
    let (mut names, mut seen) = (Vec::new(), HashSet::new());
    for line in BufReader::new(file).split(b'\n') {
        // `0x00498100:  d503201f  nop`
        let line = line?;
        let Some(line) = line.strip_prefix(b"0x") else { continue };
        let digits = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        let Ok(address) = u64::from_str_radix(digits, 16) else { continue };
        names.extend(map.at(address).filter(|name| seen.insert(*name)));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "\
             VMA              LMA     Size Align Out     In      Symbol
          498100           498100   8d1eb8     4 .text
          498100           498100       40     4         a.o:(.text._ZN1a1bE)
          498100           498100        0     1                 $x
          498100           498100       40     1                 _ZN1a1bE
          498140           498140       10     1                 one
          498140           498140       10     1                 another
          498160           498160       10     1                 behind_a_gap
";

    #[test]
    fn functions_are_found_by_address() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map");
        std::fs::write(&path, MAP).unwrap();
        let map = Map::read(&path).unwrap();
        let at = |address| map.at(address).collect::<Vec<_>>();
        assert_eq!(at(0x49_8100), ["_ZN1a1bE"]);
        assert_eq!(at(0x49_813f), ["_ZN1a1bE"]);
        assert_eq!(at(0x49_8144), ["one", "another"]);
        assert!(at(0x49_8150).is_empty() && at(0x49_80ff).is_empty() && at(0x49_8170).is_empty());
        std::fs::write(&path, "").unwrap();
        assert!(Map::read(&path).is_err());
    }

    #[test]
    fn what_processes_share_comes_first_and_the_compiler_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let map = Map {
            functions: [
                "a",
                "b",
                "c",
                "_RNvMNtCsaAF5X7UICtb_17cranelift_codegen7contextNtB2_7Context7compile",
            ]
            .into_iter()
            .zip(0..)
            .map(|(name, n)| (n * 16, n * 16 + 16, name.to_owned()))
            .collect(),
        };
        let log = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        log("1.log", "IN: \n0x00000010:  nop\n0x00000000:  nop\n0x00000014:  nop\n\n");
        log("2.log", "0x00000020:  nop\n0x00000004:  nop\n");
        log("3.log", "0x00000030:  nop\n0x00000020:  nop\n");
        assert_eq!(ran(&map, dir.path()).unwrap(), ["a", "b", "c"]);
    }
}
