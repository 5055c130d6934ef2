//! `holm simulate gateway`: card images of gateways in QEMU, with their consoles.
//!
//! # Invariants
//! - Nothing is started before everything that is needed is there.
//! - No QEMU outlives this command: each is killed when its [`Machine`] is dropped.
//! - A console that nobody reads in time waits: lines are never dropped, and at most [`LINES_MAX`] wait.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use gateway_machine::{Card, Forward, PACKAGE, PROGRAM, U_BOOT, U_BOOT_PACKAGE, Virt};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::TICK;
use super::qemu::free_mib;
use crate::args::SimulateGateway;
use crate::failure::{Done, Exit, Failure};
use crate::out::{Out, clean};

/// Port of the listener for devices.
const LISTENER: u16 = 8_883;
/// Memory that QEMU takes beside that of the machine, in MiB.
const BESIDE_MIB: u64 = 150;
/// Lines of all consoles that wait to be shown.
const LINES_MAX: usize = 1_000;
/// Longest line; a longer one is shown in parts.
const LINE_BYTES_MAX: u64 = 4 << 10;
/// Where an image of Holm has its signature (MBR, disk signature).
const SIGNATURE_AT: u64 = 440;
const SIGNATURE: &[u8; 4] = b"HOLM";

/// A gateway that is to be started.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    name: String,
    machine: Virt,
}

/// What a console has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Milliseconds from the start of the agent until it answered.
    ready_ms: Option<u64>,
    /// Name under which it enrolled.
    enrolled_as: Option<String>,
    /// `up`, `down`, or `none` where the agent does not answer.
    uplink: Option<String>,
}

struct Machine {
    name: String,
    port: u16,
    child: Child,
    seen: Seen,
    has_ended: bool,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Already gone is fine here.
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// A line of the console of the gateway at this place.
type Line = (usize, String);

/// `holm simulate gateway`
///
/// # Errors
/// Something that is needed is missing, or a machine ends by itself.
pub(super) fn run(args: &SimulateGateway, out: &Out) -> Done {
    let plans = plans(args)?;
    check_host(args, &plans)?;
    let interrupt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime does not start: {error}")))?;
    let asked = interrupt.spawn(async {
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
    });
    let (sender, lines) = sync_channel(LINES_MAX);
    let mut machines = Vec::new();
    for plan in &plans {
        machines.push(start(machines.len(), plan, &sender)?);
    }
    drop(sender);
    for machine in &machines {
        let at = format!("{}, devices at 127.0.0.1:{}; Ctrl-C ends it", machine.name, machine.port);
        out.progress("Booting", &at);
    }
    let end = args.for_s.map(|s| Instant::now() + Duration::from_secs(s));
    let is_over = || asked.is_finished() || end.is_some_and(|end| Instant::now() >= end);
    show(&mut machines, &lines, out, is_over)?;
    for machine in &machines {
        out.item(&machine.json(), |_| machine.line())?;
    }
    match machines.iter().find(|machine| machine.has_ended) {
        Some(ended) => Err(Failure::failed(format!("{}: QEMU ended by itself", ended.name))
            .next("its last lines above say why")),
        None => Ok(()),
    }
}

/// Shows the consoles until it is over, or no machine runs any more.
fn show(
    machines: &mut [Machine],
    lines: &Receiver<Line>,
    out: &Out,
    is_over: impl Fn() -> bool,
) -> Done {
    while !is_over() {
        match lines.recv_timeout(TICK) {
            Ok((place, line)) => {
                let machine = &mut machines[place];
                machine.seen.take(&line);
                let name = &machine.name;
                out.item(&json!({ "kind": "console", "gateway": name, "line": line }), |_| {
                    format!("{name} | {}", clean(&line))
                })?;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    for machine in machines {
        machine.has_ended = matches!(machine.child.try_wait(), Ok(Some(_)) | Err(_));
    }
    Ok(())
}

impl Machine {
    fn json(&self) -> serde_json::Value {
        let Seen { ready_ms, enrolled_as, uplink } = &self.seen;
        json!({
            "kind": "gateway", "gateway": self.name, "port": self.port, "ready_ms": ready_ms,
            "enrolled_as": enrolled_as, "uplink": uplink, "ended": self.has_ended,
        })
    }

    fn line(&self) -> String {
        let Seen { ready_ms, enrolled_as, uplink } = &self.seen;
        let ready = ready_ms.map_or("never ready".to_owned(), |ms| format!("ready in {ms} ms"));
        let enrolled =
            enrolled_as.as_deref().map_or(String::new(), |as_| format!(", enrolled as {as_}"));
        let uplink = uplink.as_deref().map_or(String::new(), |up| format!(", uplink {up}"));
        format!("{}: {ready}{enrolled}{uplink}", self.name)
    }
}

impl Seen {
    /// Takes a line of the console in.
    fn take(&mut self, line: &str) {
        let Some((_, said)) = line.split_once("holm: ") else { return };
        let words: Vec<&str> = said.split_whitespace().collect();
        match words[..] {
            ["agent", "ready", ms, "ms", ..] => self.ready_ms = ms.parse().ok(),
            ["enrolled", "as", name, ..] => self.enrolled_as = Some(clean(name).into_owned()),
            ["status", ..] => {
                let uplink = words.iter().find_map(|word| word.strip_prefix("uplink="));
                self.uplink = uplink.map(|word| clean(word).into_owned()).or(self.uplink.take());
            }
            _ => {}
        }
    }
}

/// What is to be started: an image each, or one so many times.
fn plans(args: &SimulateGateway) -> Done<Vec<Plan>> {
    if args.image.len() > 1 && args.count > 1 {
        let problem = "--count is for one image; each --image is a gateway already";
        return Err(Failure::usage(problem));
    }
    let images = args.image.iter().flat_map(|image| std::iter::repeat_n(image, args.count.into()));
    let images: Vec<&PathBuf> = images.collect();
    let mut plans = Vec::new();
    for (n, image) in images.iter().enumerate() {
        check_image(image)?;
        let stem = image.file_stem().unwrap_or_default().to_string_lossy();
        let is_only = images.len() == 1;
        let name = if is_only { stem.into_owned() } else { format!("{stem}-{}", n + 1) };
        let host = u16::try_from(n).ok().and_then(|n| args.forward.checked_add(n));
        let host = host.ok_or_else(|| {
            Failure::usage(format!("--forward {}: the ports behind it end at 65535", args.forward))
        })?;
        let card = (*image).clone();
        let machine = Virt {
            card: if args.keep { Card::Own(card) } else { Card::Borrowed(card) },
            u_boot: u_boot(args.u_boot.as_deref(), image, Path::new(U_BOOT))?,
            memory_mib: args.memory_mib,
            forwards: vec![Forward { host, guest: LISTENER }],
            is_at_1970: false,
        };
        machine.command().map_err(|error| Failure::input(error.to_string()))?;
        plans.push(Plan { name, machine });
    }
    Ok(plans)
}

/// That it is an image of a gateway.
fn check_image(image: &Path) -> Done {
    let mut signature = [0; SIGNATURE.len()];
    let file = File::open(image).map_err(|error| Failure::file("read", image, &error))?;
    match file.read_exact_at(&mut signature, SIGNATURE_AT) {
        Ok(()) if signature == *SIGNATURE => Ok(()),
        _ => Err(Failure::input(format!("{} is no card image of Holm", image.display())).next(
            "`cargo xtask image --board virt` makes one (docs/gateway-image.md); QEMU has no network for the others",
        )),
    }
}

/// The boot loader that is meant.
fn u_boot(given: Option<&Path>, image: &Path, of_debian: &Path) -> Done<PathBuf> {
    if let Some(given) = given {
        File::open(given).map_err(|error| Failure::file("read", given, &error))?;
        return Ok(given.to_owned());
    }
    let beside = image.with_extension("u-boot.bin");
    let found = [beside.as_path(), of_debian].into_iter().find(|path| path.is_file());
    found.map(Path::to_owned).ok_or_else(|| {
        let (beside, of_debian) = (beside.display(), of_debian.display());
        let problem = format!("there is no boot loader, neither {beside} nor {of_debian}");
        Failure::new(Exit::NotFound, problem).next(format!(
            "copy it from where the image was built, or on Debian: apt-get install {U_BOOT_PACKAGE}; \
             --u-boot FILE names another"
        ))
    })
}

/// That the machines can run here.
fn check_host(args: &SimulateGateway, plans: &[Plan]) -> Done {
    if Command::new(PROGRAM).arg("--version").output().is_err() {
        return Err(Failure::new(Exit::NotFound, format!("{PROGRAM} is missing"))
            .next(format!("on Debian: apt-get install {PACKAGE}")));
    }
    let wanted = plans.len() as u64 * (u64::from(args.memory_mib) + BESIDE_MIB);
    if let Some(free) = free_mib().filter(|free| *free < wanted) {
        let problem =
            format!("{} gateway(s) take {wanted} MiB, and {free} MiB are free", plans.len());
        return Err(Failure::failed(problem).next("--memory-mib and --count make it less"));
    }
    for forward in plans.iter().flat_map(|plan| &plan.machine.forwards) {
        let port = forward.host;
        if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
            return Err(Failure::failed(format!("port {port} of 127.0.0.1: {error}"))
                .next("--forward PORT takes others"));
        }
    }
    Ok(())
}

fn start(place: usize, plan: &Plan, sender: &SyncSender<Line>) -> Done<Machine> {
    let failed =
        |error: std::io::Error| Failure::failed(format!("{}: {PROGRAM}: {error}", plan.name));
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    let mut command = plan.machine.command().map_err(|error| Failure::input(error.to_string()))?;
    command.stdin(Stdio::null());
    command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    // A Ctrl-C is for this command, which then ends the machine.
    let child = command.process_group(0).spawn().map_err(failed)?;
    let sender = sender.clone();
    std::thread::spawn(move || read(reader, place, &sender));
    let port = plan.machine.forwards[0].host;
    Ok(Machine { name: plan.name.clone(), port, child, seen: Seen::default(), has_ended: false })
}

/// Reads a console to its end.
fn read(console: PipeReader, place: usize, sender: &SyncSender<Line>) {
    let mut console = BufReader::new(console);
    loop {
        let mut line = Vec::new();
        match console.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if !text.is_empty() && sender.send((place, text)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(name);
        let mut bytes = [0; 512];
        bytes[440..444].copy_from_slice(SIGNATURE);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn args(image: Vec<PathBuf>, count: u16) -> SimulateGateway {
        SimulateGateway {
            image,
            count,
            memory_mib: 256,
            forward: 9_000,
            keep: false,
            u_boot: None,
            for_s: None,
        }
    }

    #[test]
    fn gateways_of_one_image_leave_it_alone_and_have_ports_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let card = image(dir.path(), "barn.img");
        std::fs::write(dir.path().join("barn.u-boot.bin"), "boot").unwrap();
        let plans = plans(&args(vec![card.clone()], 3)).unwrap();
        let ports: Vec<u16> = plans.iter().map(|plan| plan.machine.forwards[0].host).collect();
        assert_eq!(ports, [9_000, 9_001, 9_002]);
        assert!(plans.iter().all(|plan| plan.machine.card == Card::Borrowed(card.clone())));
        let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(names, ["barn-1", "barn-2", "barn-3"]);
        let one = super::plans(&SimulateGateway { keep: true, ..args(vec![card.clone()], 1) });
        assert_eq!(one.unwrap()[0].machine.card, Card::Own(card));
    }

    #[test]
    fn what_is_missing_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let card = image(dir.path(), "barn.img");
        let nowhere = dir.path().join("none.bin");
        let why = u_boot(None, &card, &nowhere).unwrap_err();
        let next = why.next.unwrap_or_default();
        assert!(
            why.exit == Exit::NotFound && next.contains("apt-get install u-boot-qemu"),
            "{next}"
        );
        let other = dir.path().join("other.img");
        std::fs::write(&other, [0; 1024]).unwrap();
        let why = plans(&args(vec![other], 1)).unwrap_err();
        assert!(why.to_string().contains("no card image of Holm"), "{why}");
        assert!(plans(&args(vec![card.clone(), card], 2)).is_err());
    }

    #[test]
    fn the_console_tells_how_a_gateway_is() {
        let mut seen = Seen::default();
        for line in [
            "U-Boot 2025.01",
            "[    3.1] holm: agent ready 640 ms after its start, up 9120 ms",
            "holm: enrolled as barn-3 at cloud.example.org:8883",
            "holm: status up_ms=61200 slot=a agent=254 uplink=up pss_kib=7216 data_free_kib=2",
            "holm: status up_ms=",
        ] {
            seen.take(line);
        }
        let due = Seen {
            ready_ms: Some(640),
            enrolled_as: Some("barn-3".to_owned()),
            uplink: Some("up".to_owned()),
        };
        assert_eq!(seen, due);
    }
}
