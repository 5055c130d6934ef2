//! What goes to whoever helps: findings, settings, status and the end of the log, in one tar.gz.
//!
//! The list is closed, every document passes [`redact`], and no file of the data folder is read. A log
//! that goes to no file is not in it, but for the last warnings and errors in the status; who makes the
//! bundle is told.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::facts::{Agent, Facts, LogPlace};
use super::{Finding, redact};
use crate::log_file;

/// Bytes of the end of the log.
const LOG_BYTES_MAX: u64 = 256 << 10;
/// Bytes of a configuration file.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// What is in a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its files.
    pub names: Vec<String>,
    /// Why the log is not in it, and what to do; `None`: it is.
    pub without_log: Option<String>,
}

/// Whether a bundle can go to this file. To be asked before the checks, which take their time.
///
/// # Errors
/// Why not, and what to do.
pub fn room(to: &Path) -> Result<(), String> {
    let shown = to.display();
    if to.symlink_metadata().is_ok() {
        return Err(taken(to));
    }
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => Err(format!("{shown}: make the folder {} first", folder.display())),
        None => Ok(()),
    }
}

fn taken(to: &Path) -> String {
    format!("{} is there already: name another file", to.display())
}

/// Writes the bundle to a new file that only its owner can read.
///
/// # Errors
/// The file is there already, or the system refuses.
pub fn write(
    to: &Path,
    facts: &Facts,
    findings: &[Finding],
    config: &Path,
) -> Result<Written, String> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => taken(to),
        _ => format!("{}: {error}", to.display()),
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let log = log(&facts.log);
    let documents = documents(facts, findings, config, log.as_ref().ok());
    let names = pack(file.map_err(failed)?, documents).inspect_err(|_| {
        // Half a bundle helps nobody, and would keep the next one from its name.
        let _ = std::fs::remove_file(to);
    });
    Ok(Written { names: names.map_err(failed)?, without_log: log.err() })
}

fn pack(file: File, documents: Vec<(&'static str, String)>) -> io::Result<Vec<String>> {
    let mut archive = Builder::new(GzEncoder::new(file, Compression::default()));
    let mut names = Vec::new();
    for (name, text) in documents {
        let mut header = Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(text.len() as u64);
        header.set_cksum();
        archive.append(&header, text.as_bytes())?;
        names.push(name.to_owned());
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()?;
    Ok(names)
}

fn documents(
    facts: &Facts,
    findings: &[Finding],
    config: &Path,
    log: Option<&String>,
) -> Vec<(&'static str, String)> {
    let shown = |document: Value| format!("{:#}\n", redact::value(document));
    let about = json!({
        "agent": env!("CARGO_PKG_VERSION"),
        "unix_s": facts.clock.unix_s,
        "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    });
    let mut documents = vec![("about.json", shown(about))];
    documents.push(("findings.json", shown(json!(findings))));
    let settings = head(config).ok().and_then(|text| redact::settings(&text));
    documents.extend(settings.map(|settings| ("settings.json", format!("{settings:#}\n"))));
    if let Agent::Up { status, .. } = &facts.agent {
        documents.push(("status.json", shown((**status).clone())));
    }
    documents.extend(log.map(|text| ("log.txt", redact::text(text))));
    documents
}

/// The end of the log, or why there is none.
fn log(place: &LogPlace) -> Result<String, String> {
    match place {
        LogPlace::File(file) => tail(file).map_err(|error| {
            format!("{}: {error}; run the doctor as the agent's user, or as root", file.display())
        }),
        LogPlace::Printed | LogPlace::Journal | LogPlace::Memory => Err(format!(
            "it goes to no file. Send it too: {}. Look it through first: nothing takes secrets out of it",
            place.shown()
        )),
    }
}

fn head(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SETTINGS_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last whole lines of a log, and of its files of before where the newest is short.
fn tail(path: &Path) -> io::Result<String> {
    let mut text = end_of(path, LOG_BYTES_MAX)?;
    for n in 1.. {
        let room = LOG_BYTES_MAX.saturating_sub(text.len() as u64);
        let older = log_file::name(path, n);
        let Ok(end) = end_of(&older, room) else { break };
        text.insert_str(0, &end);
        // Of a file that is not in it as a whole the next one does not go on.
        if !older.metadata().is_ok_and(|file| file.len() <= room) {
            break;
        }
    }
    Ok(text)
}

/// The last whole lines of a file, of so many bytes.
fn end_of(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(bytes_max);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first one is cut: of a secret it may hold a half that nothing shows to be one.
    let whole = if from == 0 { &text } else { text.split_once('\n').map_or("", |(_, rest)| rest) };
    Ok(whole.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::doctor::check::check;
    use crate::doctor::facts::{Letter, SettingsFile};

    const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    const ENROL: &str = "holm1-AgABbG9jYWxob3N0OjEyMzQFYmFybi0zAAECAwQFBgcICQoLDA0ODw";
    const ARGON: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo";
    const PEM: &str = "MC4CAQAwBQYDK2VwBCIEIK6dQa5Zc0vD3p1aqqLr27hJ3kq9Zx1b2c";
    const PASSWORD: &str = "correct-horse";

    fn unpacked(file: &Path) -> BTreeMap<String, String> {
        let mut archive = tar::Archive::new(GzDecoder::new(File::open(file).unwrap()));
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        });
        entries.collect()
    }

    #[test]
    fn a_log_that_was_just_begun_brings_the_ones_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("agent.log");
        let line = |n: u32| format!("{n:0>99}\n");
        std::fs::write(&log, line(4)).unwrap();
        std::fs::write(log_file::name(&log, 1), line(2) + &line(3)).unwrap();
        let long: String = (0..3_000).map(|_| line(1)).collect();
        std::fs::write(log_file::name(&log, 2), long).unwrap();
        std::fs::write(log_file::name(&log, 3), "too old\n").unwrap();
        let text = tail(&log).unwrap();
        assert!(text.ends_with(&(line(1) + &line(2) + &line(3) + &line(4))), "{}", text.len());
        let room = usize::try_from(LOG_BYTES_MAX).unwrap();
        assert!((room - 200..=room).contains(&text.len()) && !text.contains("too old"));
    }

    #[test]
    fn no_secret_that_was_planted_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let (config, log) = (dir.path().join("agent.toml"), dir.path().join("agent.log"));
        let settings = format!(
            "# {PASSWORD}\nname = \"barn-3\"\n[[devices]]\nname = \"a\"\ntoken_sha256 = \"{HEX}\"\n\
             [[devices]]\nname = \"b\"\npassword_argon2 = \"{ARGON}\"\n"
        );
        std::fs::write(&config, settings).unwrap();
        let lines = format!(
            "INFO enrolled with {ENROL}\nINFO password={PASSWORD}\nINFO hash {ARGON}\n\
             -----BEGIN PRIVATE KEY-----\n{PEM}\n-----END PRIVATE KEY-----\nINFO the last line\n"
        );
        std::fs::write(&log, lines).unwrap();
        let status = json!({
            "gateway": "barn-3", "core": { "dead_letters": 1 },
            "degraded": [format!("the function said token {HEX}")],
            "api_token": PASSWORD,
            "errors": [{ "level": "error", "text": format!("no login: password={PASSWORD}") }],
        });
        let letter = Letter { function: "a/b".to_owned(), error: format!("{ENROL} refused") };
        let facts = Facts {
            settings: SettingsFile { name: Some("barn-3".to_owned()), ..SettingsFile::default() },
            log: LogPlace::File(log),
            agent: Agent::Up { status: Box::new(status), letter: Some(letter) },
            ..Facts::default()
        };
        let findings = check(&facts);
        let to = dir.path().join("bundle.tar.gz");
        room(&to).unwrap();
        let Written { names, without_log } = write(&to, &facts, &findings, &config).unwrap();
        let all = ["about.json", "findings.json", "settings.json", "status.json", "log.txt"];
        assert_eq!((names.as_slice(), without_log), (all.map(str::to_owned).as_slice(), None));
        let found = unpacked(&to);
        for (name, text) in &found {
            for secret in [HEX, ENROL, ARGON, PEM, PASSWORD] {
                assert!(!text.contains(secret), "{name}: {secret}");
            }
        }
        assert!(found["log.txt"].ends_with("INFO the last line\n"), "{}", found["log.txt"]);
        assert!(found["settings.json"].contains("barn-3"));
        assert!(found["status.json"].contains("the function said"));
        assert!(found["status.json"].contains("no login: password=<redacted>"));
        assert!(found["findings.json"].contains("dead-letters"));
        let mode = std::fs::metadata(&to).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        for refused in [room(&to), write(&to, &facts, &findings, &config).map(drop)] {
            let refused = refused.expect_err("it is there already");
            assert!(refused.ends_with("is there already: name another file"), "{refused}");
        }
    }

    #[test]
    fn a_log_that_is_not_in_it_is_told_with_what_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = |name: &str, log| {
            let facts = Facts { log, ..Facts::default() };
            write(&dir.path().join(name), &facts, &[], &dir.path().join("agent.toml")).unwrap()
        };
        let journal = bundle("journal", LogPlace::Journal);
        assert_eq!(journal.names, ["about.json", "findings.json"]);
        let told = journal.without_log.unwrap();
        assert!(told.contains("`journalctl -u edge-agent -n 2000`"), "{told}");
        let told = bundle("image", LogPlace::Memory).without_log.unwrap();
        assert!(told.contains("`logread`"), "{told}");
        let gone = dir.path().join("gone.log");
        let told = bundle("file", LogPlace::File(gone.clone())).without_log.unwrap();
        assert!(told.starts_with(gone.to_str().unwrap()), "{told}");
    }

    #[test]
    fn there_is_no_room_in_a_folder_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let refused = room(&dir.path().join("gone/help.tar.gz")).expect_err("no folder");
        assert!(refused.contains("make the folder"), "{refused}");
        room(Path::new("certainly-not-there-yet.tar.gz")).unwrap();
    }

    #[test]
    fn a_long_log_is_cut_at_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let lines: String = (0..20_000).map(|n| format!("line {n:>30}\n")).collect();
        std::fs::write(&log, &lines).unwrap();
        let end = tail(&log).unwrap();
        assert!(end.len() as u64 <= LOG_BYTES_MAX && lines.ends_with(&end));
        assert!(end.starts_with("line "));
    }
}
