//! `holm simulate`: a fleet of simulated devices at a gateway, on a day as its profile says; judged at the end.
//!
//! Decisions are in pure parts: [`profile`], [`waveform`], [`plan`], [`ledger`], [`judge`]. Around them are the effects:
//! [`host`] and [`qemu`] run devices, [`link`] is their network, [`hostile`] attacks, [`watch`] and [`cloud`] look,
//! [`own`] is a gateway for a first try, [`gateway`] one from a card image in QEMU, [`control`] takes commands while it runs, [`table`] shows.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Runtime;

use crate::args::{Global, Simulate, SimulateCommand, SimulateRun};
use crate::failure::{Done, Exit, Failure, read_file};
use crate::out::{Out, Paint};

mod chart;
mod client;
mod cloud;
mod control;
mod credentials;
#[cfg(test)]
pub(crate) mod fake;
mod fleet;
mod gateway;
mod host;
mod hostile;
mod judge;
mod ledger;
mod link;
mod own;
mod plan;
mod prepare;
mod profile;
mod qemu;
mod queue;
mod random;
mod replay;
mod shared;
mod table;
mod watch;
mod waveform;

use cloud::Telemetry;
use credentials::Credentials;
use fleet::Fleet;
use judge::{Expected, Rules, Verdict, judge};
use ledger::{Ledger, Role};
use own::Own;
use plan::DevicePlan;
use profile::{MessageKind, Profile};
use shared::{Handle, Phase, Shared};
use table::Moment;

/// Between two pages, and two samples for the chart.
const PAGE: Duration = Duration::from_secs(1);
/// Between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(5);
/// Between two looks at what ends the simulation.
const TICK: Duration = Duration::from_millis(100);
/// After everything is there, so long is waited for what should not come.
const GRACE: Duration = Duration::from_secs(2);
/// Between two judgements while devices send what they kept.
const JUDGED_EVERY: Duration = Duration::from_millis(500);
const ADDRESS: &str = "127.0.0.1:1883";
/// Gateways remember so many devices without having been told of more.
const REMEMBERED_MIN: u32 = 1_000;

/// `holm simulate`
///
/// # Errors
/// What was given does not fit, something does not start, or at the end something does not hold that must.
pub fn run(args: &Simulate, global: &Global, out: &Out) -> Done {
    match &args.command {
        Some(SimulateCommand::Set(args)) => control::ask(args, out),
        Some(SimulateCommand::Gateway(args)) => gateway::run(args, out),
        Some(SimulateCommand::Prepare(args)) => prepare::run(args, global, out),
        Some(SimulateCommand::Profile) => out.raw(profile::WORKSHOP.as_bytes()),
        None => simulate(&args.run, global, out),
    }
}

/// The profile that is meant.
fn read_profile(path: Option<&Path>) -> Done<Profile> {
    let text = match path {
        None => profile::WORKSHOP.to_owned(),
        Some(path) => crate::input::text(path, profile::BYTES_MAX)?,
    };
    let csv = |file: &Path| {
        let file = profile::beside(path, file);
        let bytes = read_file(&file, profile::CSV_BYTES_MAX).map_err(|it| it.to_string())?;
        String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())
    };
    Profile::parse(&text, &csv).map_err(|problems| {
        let name = path.map_or("the profile".into(), |path| path.display().to_string());
        let problems = problems.iter().map(|it| format!("{name}:{}: {}", it.line, it.message));
        let next =
            "`holm simulate profile` prints one that is good; docs/simulate.md explains the keys";
        Failure { exit: Exit::Input, problems: problems.collect(), next: Some(next.to_owned()) }
    })
}

fn simulate(args: &SimulateRun, global: &Global, out: &Out) -> Done {
    let mut profile = read_profile(args.profile.as_deref())?;
    if args.with_gateway && args.app.is_none() {
        profile.functions = Some(own::OUTPUTS.to_owned());
    }
    let names: Vec<String> = (1..=args.devices).map(credentials::name_of).collect();
    let _alone = alone(&args.run)?;
    let tls = args.tls.then(|| own::Tls::new(&args.run, args.tls_port)).transpose()?;
    let credentials = if args.with_gateway {
        Credentials::fresh(&names, tls.as_ref().map(|tls| tls.authorities.as_path()))?
    } else {
        Credentials::load(&args.credentials, &names)?
    };
    let seed = args.seed.unwrap_or_else(|| credentials::fresh_seed() >> 32);
    let plans = plan::of(&profile, &names, seed, credentials::unix_s() * 1_000);
    let bench = bench(args, &plans)?;
    let is_emulated = bench.is_some();
    raise_open_files(names.len(), if profile.message == MessageKind::Plain { 5 } else { 3 })?;
    let io = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let own = if args.with_gateway {
        let (dir, port, tls) = (args.run.as_path(), args.port, tls.as_ref());
        let (profile, credentials, app) = (&profile, &credentials, args.app.as_deref());
        let setup = own::Setup { dir, port, tls, profile, credentials, app };
        Some(Own::start(&setup, global, &io, out)?)
    } else {
        None
    };
    let gateway = gateway(args, tls.as_ref(), &credentials)?;
    let role = |is_hostile| match (is_hostile, is_emulated) {
        (true, _) => Role::Hostile,
        (false, true) => Role::Emulated,
        (false, false) => Role::Virtual,
    };
    let ledger = Ledger::new(plans.iter().map(|plan| (plan.name.clone(), role(plan.is_hostile))));
    let (handles, sets): (Vec<_>, Vec<_>) = plans.into_iter().map(Handle::new).unzip();
    let shared = Arc::new(Shared::new(profile, seed, gateway, credentials, handles, ledger));
    let mut day = Day { args, shared, io, own, out, samples: Vec::new() };
    let begun = day.begin(bench, sets, global);
    let ended = begun.and_then(|begun| day.run(begun));
    if let Some(own) = day.own.take() {
        own.stop(&day.io);
    }
    day.io.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// The folder is this simulation's as long as what is returned lives: what is in it is begun anew.
fn alone(run: &Path) -> Done<File> {
    std::fs::create_dir_all(run).map_err(|error| Failure::file("make", run, &error))?;
    let path = run.join("lock");
    let lock = File::create(&path).map_err(|error| Failure::file("make", &path, &error))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            let problem = format!("another simulation runs in {}", run.display());
            Failure::failed(problem).next("`--run DIR` gives this one a folder of its own")
        }
        TryLockError::Error(error) => Failure::file("lock", &path, &error),
    })?;
    Ok(lock)
}

/// What emulated devices need, if there are any.
fn bench(args: &SimulateRun, plans: &[DevicePlan]) -> Done<Option<qemu::Bench>> {
    let Some(elf) = &args.firmware else { return Ok(None) };
    let emulated = plans.iter().filter(|plan| !plan.is_hostile).count();
    qemu::Bench::new(elf, &args.run.join("emulated"), emulated).map(Some)
}

/// A device is a file, with --with-gateway another one of the gateway, and an emulated one two of its proxy; one without
/// the SDK has both ends of its link in this process.
fn raise_open_files(devices: usize, each: usize) -> Done {
    let wanted = devices * each;
    if edge_agent::open_files::raise(wanted) < wanted {
        let problem =
            format!("{devices} devices need {wanted} open files, and the system allows fewer");
        return Err(
            Failure::failed(problem).next("`ulimit -Hn` shows and raises how many there may be")
        );
    }
    Ok(())
}

/// HOST:PORT.
fn gateway(args: &SimulateRun, tls: Option<&own::Tls>, credentials: &Credentials) -> Done<String> {
    if args.with_gateway {
        return Ok(tls.map_or_else(|| format!("127.0.0.1:{}", args.port), own::Tls::address));
    }
    match &args.gateway {
        Some(given) => crate::device::gateway(given).map(|_| given.clone()),
        None => Ok(credentials.gateway().unwrap_or(ADDRESS).to_owned()),
    }
}

/// A running simulation.
struct Day<'a> {
    args: &'a SimulateRun,
    shared: Arc<Shared>,
    io: Runtime,
    own: Option<Own>,
    out: &'a Out,
    /// One a second.
    samples: Vec<Moment>,
}

/// What has begun.
struct Begun {
    fleet: Fleet,
    rules: Rules,
    _socket: control::Socket,
}

impl Day<'_> {
    /// Whoever looks looks before anything can be seen.
    fn begin(
        &self,
        bench: Option<qemu::Bench>,
        sets: Vec<tokio::sync::mpsc::Receiver<shared::Set>>,
        global: &Global,
    ) -> Done<Begun> {
        let Self { args, shared, io, own, .. } = self;
        let telemetry = match (own, &args.cloud) {
            (Some(own), _) => Some(Telemetry::from_now(own.api(), crate::dev::GATEWAY)?),
            (None, Some(name)) => Some(Telemetry::from_now(crate::fleet::api(global)?, name)?),
            (None, None) => None,
        };
        let tells_all = own.is_some() && args.app.is_none();
        let functions = match (tells_all, &shared.profile.functions) {
            (_, None) => Expected::No,
            (true, Some(_)) => Expected::Yes,
            (false, Some(_)) => Expected::IfAny,
        };
        let cloud = match (tells_all, &telemetry) {
            (_, None) => Expected::No,
            (true, Some(_)) => Expected::Yes,
            (false, Some(_)) => Expected::IfAny,
        };
        let expected = [Expected::Yes, functions, cloud];
        // How long the day is, is known at its end.
        let rules = Rules { expected, attacks: Expected::IfAny, is_settled: true };
        io.block_on(watch::start(shared))?;
        let socket = io.block_on(async { control::listen(&args.run, shared) })?;
        if let Some(telemetry) = telemetry {
            telemetry.follow(Arc::clone(shared));
        }
        let wants_clock = bench.as_ref().is_some_and(|bench| !bench.has_wrong_clock);
        let fleet = Fleet::start(shared, bench, sets, io)?;
        if own.is_none() && args.devices > REMEMBERED_MIN {
            self.out.note(&format!(
                "if agent.toml of the gateway says `devices` in [limits], it must be {} at least: a gateway forgets \
                 repeats of more devices than that, and a reading that is sent again then comes twice",
                args.devices
            ));
        }
        if wants_clock && shared.profile.clock.is_some() {
            self.out.note(
                "[clock] of the profile is passed over: this firmware was built without the feature `wrong-clock`",
            );
        }
        self.out.progress(
            "Simulating",
            &format!(
                "{} devices at {} {} with seed {}; Ctrl-C ends it",
                args.devices,
                shared.gateway,
                shared.credentials.trust().map_or("without TLS", |_| "over TLS"),
                shared.seed
            ),
        );
        Ok(Begun { fleet, rules, _socket: socket })
    }

    /// Until it is over; then the judgement.
    fn run(&mut self, begun: Begun) -> Done {
        let Begun { fleet, mut rules, _socket } = begun;
        let end = self.args.for_s.map(Duration::from_secs);
        let interrupt = self.io.spawn(tokio::signal::ctrl_c());
        let (mut paged, mut told) = (Duration::ZERO, Duration::ZERO);
        while !interrupt.is_finished() && end.is_none_or(|end| self.shared.begun.elapsed() < end) {
            std::thread::sleep(TICK);
            self.show(&mut paged, &mut told)?;
        }
        self.shared.ledger().close();
        rules.attacks = hostile::expected(&self.shared);
        self.shared.phase.send_replace(Phase::Settling);
        self.out.progress(
            "Settling",
            "links are mended, and devices send what they kept; Ctrl-C cuts it short",
        );
        rules.is_settled = self.settle(&rules, &mut paged, &mut told)?;
        self.shared.phase.send_replace(Phase::Stopped);
        fleet.join(&self.shared);
        let moment = Moment::of(&self.shared);
        self.samples.push(moment);
        let verdict = judge(&self.shared.ledger(), &rules);
        if let Some(path) = &self.args.html {
            let page = chart::page(&self.samples, &verdict, self.shared.seed);
            std::fs::write(path, page).map_err(|error| Failure::file("write", path, &error))?;
        }
        self.tell(&moment, &verdict)
    }

    /// Shows where it stands, as often as that is of use.
    fn show(&mut self, paged: &mut Duration, told: &mut Duration) -> Done {
        let now = self.shared.begun.elapsed();
        if now < *paged + PAGE {
            return Ok(());
        }
        *paged = now;
        let moment = Moment::of(&self.shared);
        chart::keep(&mut self.samples, moment);
        let out = self.out;
        if out.is_terminal() && !out.is_json() {
            out.clear();
            return out.raw(table::page(&self.shared, &moment, out).as_bytes());
        }
        if now < *told + LINE {
            return Ok(());
        }
        *told = now;
        out.item(&json!({ "kind": "progress", "at": moment }), |_| moment.line())
    }

    /// Waits until everything is where it should be, and a while longer; whether there was the time.
    fn settle(&mut self, rules: &Rules, paged: &mut Duration, told: &mut Duration) -> Done<bool> {
        let interrupt = self.io.spawn(tokio::signal::ctrl_c());
        let end = Instant::now() + Duration::from_secs(self.args.settle);
        let (mut good_since, mut judged) = (None, None::<Instant>);
        while Instant::now() < end && !interrupt.is_finished() {
            std::thread::sleep(TICK);
            self.show(paged, told)?;
            if judged.is_some_and(|at| at.elapsed() < JUDGED_EVERY) {
                continue;
            }
            judged = Some(Instant::now());
            let is_final = judge(&self.shared.ledger(), rules).is_final();
            good_since = good_since.filter(|_| is_final).or(is_final.then(Instant::now));
            if good_since.is_some_and(|at: Instant| at.elapsed() >= GRACE) {
                return Ok(true);
            }
        }
        Ok(!interrupt.is_finished())
    }

    /// The judgement, for people or as JSON; a failure if something does not hold.
    fn tell(&self, moment: &Moment, verdict: &Verdict) -> Done {
        let summary = json!({
            "kind": "summary", "holds": verdict.holds(), "seed": self.shared.seed,
            "at": moment, "checks": verdict.checks, "not_judged": verdict.not_judged,
        });
        self.out.item(&summary, |out| {
            let mut text = format!("\n{}\n\n", moment.line().trim());
            for check in &verdict.checks {
                let mark = match check.offenders {
                    0 => out.paint("holds", Paint::Green),
                    _ => out.paint("FAILS", Paint::Red),
                };
                text.push_str(&format!("  {mark}  {}\n", check.rule));
            }
            for why in &verdict.not_judged {
                text.push_str(&format!("  {}  {why}\n", out.paint("-    ", Paint::Dim)));
            }
            text
        })?;
        if verdict.holds() {
            return Ok(());
        }
        let bad = verdict.checks.iter().filter(|check| check.offenders > 0);
        let problems = bad.map(|check| {
            let more = if check.offenders > check.first.len() { ", ..." } else { "" };
            let first = check.first.join(", ");
            format!("not so: {} ({} offend: {first}{more})", check.rule, check.offenders)
        });
        let next = format!(
            "the same day again: --devices {} --seed {}; `edge-agent devices` and `edge-agent dead-letters` \
             tell the gateway's side",
            self.args.devices, self.shared.seed
        );
        Err(Failure { exit: Exit::Failed, problems: problems.collect(), next: Some(next) })
    }
}
