//! `edge-agent doctor`, `backup`, `restore` and `reset`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use edge_agent::backup::{self, BackedUp, Options, Restored};
use edge_agent::doctor::{self, Finding, State};
use serde_json::json;
use time::OffsetDateTime;

use super::{Config, print, print_json, read_settings};

#[derive(Args)]
#[command(after_help = "\
It looks and changes nothing, beside a running agent and without one. Exit code 0: no fault; 1: a fault.

Examples:
  edge-agent doctor                                   a table of what is, and how to mend it
  edge-agent doctor --json | jq '.findings[] | select(.state != \"ok\")'
  edge-agent doctor --bundle help.tar.gz              for whoever helps: without keys, tokens and passwords")]
pub(super) struct Doctor {
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
    /// Write findings, settings, status and the end of the log to a new tar.gz, without secrets.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
#[command(after_help = "\
The agent must be stopped, and its store one that it can open. The file holds the gateway's private key, queues, state, records and apps: keep it
as you keep keys. Compiled code and half fetched artifacts are left out and made again.

Examples:
  systemctl stop edge-agent
  edge-agent backup /mnt/stick/barn-3.backup
  systemctl start edge-agent")]
pub(super) struct Backup {
    /// The file to make.
    file: PathBuf,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
#[command(after_help = "\
The whole backup is read and checked first; then the folder is there at once, or not at all. The gateway goes
on from the moment of the backup: events that waited then run again, and what came later is not in it. Records go
on under a new process run: the control plane takes none at the place of another.

The data go to `data_dir` of the configuration, or to --data, for which no configuration is needed.

Examples:
  edge-agent restore barn-3.backup
  edge-agent restore barn-3.backup --force                    in the place of other data
  edge-agent restore barn-3.backup --data /var/lib/holm       on a machine that has no configuration yet
  edge-agent restore barn-3.backup --as-replacement           on a new machine; then
    holm gateway add barn-3           where the control plane is operated
    edge-agent enroll TOKEN           here; from then on the old machine is not let in")]
pub(super) struct Restore {
    /// What `edge-agent backup` made.
    file: PathBuf,
    /// The data folder to make [default: `data_dir` of the configuration].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// For another machine that takes the place of the old one: without its identity.
    #[arg(long)]
    as_replacement: bool,
    /// In the place of a folder that has data; they are kept beside it.
    #[arg(long)]
    force: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: Config,
}

#[derive(Args)]
#[command(after_help = "\
The agent must be stopped. Queues, state, records, apps and the identity are deleted; the settings stay, and so
does what is in the data folder and is not the agent's. Cut off in between, the next start of the agent finishes
it, and so does a second reset: the identity goes if the first one said so, and the second one does too.

Examples:
  edge-agent reset                            what would be deleted
  edge-agent reset --yes                      as on the first day
  edge-agent reset --yes --keep-identity      it stays enrolled, and fetches its apps again")]
pub(super) struct Reset {
    /// Do it: without this it is only said what would be deleted.
    #[arg(long)]
    yes: bool,
    /// The gateway stays enrolled.
    #[arg(long)]
    keep_identity: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: Config,
}

/// A fault is a failure, so that programs see it too.
pub(super) fn examine(arguments: &Doctor) -> Result<(), String> {
    let Doctor { json, bundle, config: Config { config } } = arguments;
    if let Some(file) = bundle {
        doctor::bundle::room(file)?;
    }
    let facts = doctor::gather::gather(config);
    let findings = doctor::check::check(&facts);
    let worst = doctor::worst(&findings);
    if *json {
        print_json(&json!({ "state": worst.word(), "findings": findings }));
    } else {
        print(&table(&findings));
    }
    if let Some(file) = bundle {
        let shown = file.display();
        let written = doctor::bundle::write(file, &facts, &findings, config)?;
        eprintln!("{shown}: {}", written.names.join(", "));
        if let Some(why) = written.without_log {
            eprintln!("the log is not in it: {why}");
        }
    }
    match findings.iter().filter(|finding| finding.state == State::Fault).count() {
        0 => Ok(()),
        faults => Err(format!("{faults} fault(s)")),
    }
}

/// Worst last, where people look.
fn table(findings: &[Finding]) -> String {
    let mut sorted: Vec<_> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.state);
    let mut text = String::new();
    let wrote = "invariant: writing to a string succeeds";
    for finding in &sorted {
        let (state, check) = (finding.state.word(), finding.check);
        for (n, line) in finding.what.split('\n').enumerate() {
            let (state, check) = if n == 0 { (state, check) } else { ("", "") };
            writeln!(text, "{state:<8} {check:<14} {line}").expect(wrote);
        }
        if !finding.mend.is_empty() {
            writeln!(text, "{:<8} {:<14} -> {}", "", "", finding.mend).expect(wrote);
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (faults, warnings) = (count(State::Fault), count(State::Warning));
    writeln!(text, "\n{faults} fault(s), {warnings} warning(s)").expect(wrote);
    text
}

pub(super) fn back_up(arguments: &Backup) -> Result<(), String> {
    let Backup { file, json, config } = arguments;
    let settings = read_settings(&config.config)?;
    let (data, socket) = (&settings.data_dir, &settings.control_socket);
    let done =
        backup::back_up(&settings.name, data, socket, file).map_err(|err| err.to_string())?;
    if *json {
        print_json(&json!(done));
        return Ok(());
    }
    let BackedUp { gateway, files, bytes, backup_bytes, identity, left_over } = done;
    let file = file.display();
    print(&format!("{gateway}: {files} files, {bytes} bytes, to {file} ({backup_bytes} bytes)\n"));
    if identity {
        print("it holds the gateway's private key: keep it as you keep keys\n");
    }
    for half in left_over {
        let half = half.display();
        print(&format!(
            "{half} is left of a backup that was cut off: delete it, unless one is being made\n"
        ));
    }
    Ok(())
}

pub(super) fn restore(arguments: &Restore) -> Result<(), String> {
    let Restore { file, data, as_replacement, force, json, config } = arguments;
    let data = match data {
        Some(data) => data.clone(),
        None => configured(&config.config)?,
    };
    let options = Options { as_replacement: *as_replacement, force: *force };
    let done = backup::restore(file, &data, options).map_err(|err| err.to_string())?;
    if *json {
        print_json(&json!(done));
        return Ok(());
    }
    print(&restored(&done, &data));
    Ok(())
}

/// The data folder that a configuration names.
fn configured(config: &Path) -> Result<PathBuf, String> {
    let settings = read_settings(config).map_err(|error| {
        format!("{error}\n\nOr name the data folder with --data DIR: that needs no configuration")
    })?;
    Ok(settings.data_dir)
}

fn restored(done: &Restored, data: &Path) -> String {
    let Restored { gateway, agent, made_unix_s, files, bytes, identity, before, left_over } = done;
    let (data, made) = (data.display(), utc(*made_unix_s));
    let mut text = format!(
        "{gateway}: {files} files, {bytes} bytes, in {data} (made by agent {agent}, {made})\n"
    );
    if let Some(before) = before {
        let before = before.display();
        text +=
            &format!("the data that were there are in {before}: delete them when you are sure\n");
    }
    if let Some(left) = left_over {
        let left = left.display();
        text += &format!(
            "an earlier restore was cut off: what it had left is in {left}, either the data of before it \
             or its backup: look before you delete it\n"
        );
    }
    text += if *identity {
        "it is the same gateway: if its old machine runs as well, the control plane raises the alarm \
         two-gateways\n"
    } else {
        "it is not enrolled: `holm gateway add NAME`, then `edge-agent enroll TOKEN` here, before the \
         agent is started; that shuts the old machine out\n"
    };
    if rustix::process::geteuid().is_root() {
        text += "give the folder to the agent's user if it is not: `chown -R holm: DIR`\n";
    }
    text
}

/// As in RFC 3339. What no calendar has comes from a clock, or a hand, that was wrong.
fn utc(unix_s: u64) -> String {
    let time = i64::try_from(unix_s).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let Some(time) = time else { return format!("{unix_s} s after 1970") };
    let (hour, minute, second) = time.to_hms();
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", time.date())
}

pub(super) fn reset(arguments: &Reset) -> Result<(), String> {
    let Reset { yes, keep_identity, json, config } = arguments;
    let settings = read_settings(&config.config)?;
    let data = &settings.data_dir;
    if !yes {
        let who = if *keep_identity { "but" } else { "and" };
        return Err(format!(
            "this would delete queues, state, records and apps of {} in {}, {who} its identity{}: add \
             --yes",
            settings.name,
            data.display(),
            if *keep_identity { " stays" } else { "" },
        ));
    }
    let done = backup::reset(data, &settings.control_socket, *keep_identity);
    let done = done.map_err(|err| err.to_string())?;
    if *json {
        print_json(&json!(done));
        return Ok(());
    }
    let list = |names: &[String]| {
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    print(&format!("{}: deleted {}\n", settings.name, list(&done.deleted)));
    if done.finished {
        print("that was the rest of a reset that had been cut off\n");
    }
    if done.identity_stays && !keep_identity {
        print(
            "the identity stays, as that one said: `edge-agent reset --yes` deletes it as well\n",
        );
    }
    if !done.left.is_empty() {
        print(&format!("left, because it is not the agent's: {}\n", list(&done.left)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_by_people() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(1_795_846_155), "2026-11-28T06:09:15Z");
        assert_eq!(utc(u64::MAX), "18446744073709551615 s after 1970");
    }

    #[test]
    fn the_worst_stands_last() {
        let finding = |check, state, mend: &str| Finding {
            check,
            state,
            what: "it is so".to_owned(),
            mend: mend.to_owned(),
        };
        let mut log = finding("errors", State::Warning, "look");
        log.what = "two:\n1 s ago\n2 s ago".to_owned();
        let findings = [
            finding("disk", State::Fault, "make room"),
            finding("clock", State::Ok, ""),
            finding("tls", State::Warning, "wait"),
            log,
        ];
        let expected = "\
ok       clock          it is so
warning  tls            it is so
                        -> wait
warning  errors         two:
                        1 s ago
                        2 s ago
                        -> look
fault    disk           it is so
                        -> make room

1 fault(s), 2 warning(s)
";
        assert_eq!(table(&findings), expected);
    }
}
