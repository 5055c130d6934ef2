//! What goes to whoever helps: findings, settings, status and the end of the log, in one tar.gz.
//!
//! The list is closed, every document passes [`redact`], and no file of the data folder is read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::facts::{Agent, Facts};
use super::{Finding, redact};

/// Bytes of the end of the log.
const LOG_BYTES_MAX: u64 = 256 << 10;
/// Bytes of a configuration file.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// Writes the bundle to a new file that only its owner can read. Returns what is in it.
///
/// # Errors
/// The file is there already, or the system refuses.
pub fn write(
    to: &Path,
    facts: &Facts,
    findings: &[Finding],
    config: &Path,
) -> io::Result<Vec<String>> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut archive = Builder::new(GzEncoder::new(file, Compression::default()));
    let mut names = Vec::new();
    for (name, text) in documents(facts, findings, config) {
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

fn documents(facts: &Facts, findings: &[Finding], config: &Path) -> Vec<(&'static str, String)> {
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
    let log = facts.settings.log.as_deref().and_then(|log| tail(log).ok());
    documents.extend(log.map(|text| ("log.txt", redact::text(&text))));
    documents
}

fn head(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(SETTINGS_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The last whole lines of a file.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(LOG_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
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
        });
        let letter = Letter { function: "a/b".to_owned(), error: format!("{ENROL} refused") };
        let facts = Facts {
            settings: SettingsFile {
                name: Some("barn-3".to_owned()),
                log: Some(log),
                ..SettingsFile::default()
            },
            agent: Agent::Up { status: Box::new(status), letter: Some(letter) },
            ..Facts::default()
        };
        let findings = check(&facts);
        let to = dir.path().join("bundle.tar.gz");
        let names = write(&to, &facts, &findings, &config).unwrap();
        let all = ["about.json", "findings.json", "settings.json", "status.json", "log.txt"];
        assert_eq!(names, all);
        let found = unpacked(&to);
        for (name, text) in &found {
            for secret in [HEX, ENROL, ARGON, PEM, PASSWORD] {
                assert!(!text.contains(secret), "{name}: {secret}");
            }
        }
        assert!(found["log.txt"].ends_with("INFO the last line\n"), "{}", found["log.txt"]);
        assert!(found["settings.json"].contains("barn-3"));
        assert!(found["status.json"].contains("the function said"));
        assert!(found["findings.json"].contains("dead-letters"));
        let mode = std::fs::metadata(&to).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        write(&to, &facts, &findings, &config).expect_err("it is there already");
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
