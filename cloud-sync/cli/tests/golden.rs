//! What the command prints, as files: help, answers and mistakes.
//!
//! A file in `golden/` is a session in a fresh folder with a fresh home:
//! `+ FILE` and `| LINE` make a file, `$ holm ARGS` runs the command (quotes as in a shell, and
//! `< TEXT` for standard input), and what follows is its exit code (`? N`, if not 0) and its
//! output: standard output, then standard error. `HOLM_BLESS=1 cargo test -p holm` writes them anew:
//! read the difference.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn sessions_print_what_they_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "the sessions are gone");
    let mut different = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let played = play(&text);
        if std::env::var_os("HOLM_BLESS").is_some() {
            std::fs::write(&file, &played).unwrap();
        } else if played != text {
            different.push(format!("--- {}\n{played}", file.display()));
        }
    }
    assert!(
        different.is_empty(),
        "HOLM_BLESS=1 shows the difference in git\n{}",
        different.join("\n")
    );
}

/// The session with its commands run anew.
fn play(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut played = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("+ ") {
            let mut content = String::new();
            writeln!(played, "{line}").unwrap();
            while let Some(line) = lines.next_if(|line| line.starts_with('|')) {
                writeln!(played, "{line}").unwrap();
                content.push_str(line[1..].strip_prefix(' ').unwrap_or(""));
                content.push('\n');
            }
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        } else if let Some(command) = line.strip_prefix("$ holm") {
            writeln!(played, "{line}").unwrap();
            played.push_str(&run(dir.path(), command));
        } else if line.starts_with('#') {
            writeln!(played, "{line}").unwrap();
        }
    }
    played
}

fn run(dir: &Path, command: &str) -> String {
    let (args, input) = match command.split_once(" < ") {
        Some((args, input)) => (args, input.replace("\\n", "\n")),
        None => (command, String::new()),
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_holm"))
        .args(words(args))
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails before it reads closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let mut text = String::new();
    match output.status.code() {
        Some(0) => {}
        code => writeln!(text, "? {}", code.expect("an exit code")).unwrap(),
    }
    for part in [output.stdout, output.stderr] {
        let part = String::from_utf8(part).unwrap();
        for line in part.lines() {
            writeln!(text, "{}", general(line, dir).trim_end()).unwrap();
        }
    }
    text + "\n"
}

/// What differs from run to run, named.
fn general(line: &str, dir: &Path) -> String {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../edge-agent/function-sdk");
    let line = line
        .replace(&dir.display().to_string(), "[DIR]")
        .replace(&sdk.canonicalize().unwrap().display().to_string(), "[SDK]");
    let word = |word: &'_ str| match word.trim() {
        plain if is_key(plain) => "[KEY]".to_owned(),
        plain if is_date(plain) => word.replace(plain.trim_matches([';']), "[DATE]"),
        _ => word.to_owned(),
    };
    line.split_inclusive(' ').map(word).collect()
}

/// `YYYY-MM-DD`
fn is_date(word: &str) -> bool {
    let word = word.trim_matches([';']);
    word.len() == 10
        && word.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

fn is_key(word: &str) -> bool {
    let word = word.trim_matches(['"', ',']);
    // A key, or an id or digest that is made from it.
    word.starts_with("ed25519:")
        || (matches!(word.len(), 32 | 64) && word.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Words as a shell splits them.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (None, ' ') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if open == c => quote = None,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Scripts read failures, too: with `--json` each is one object on standard error, whatever failed.
#[test]
fn every_failure_is_json_on_request() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        "new Bad",
        "build",
        "build --no-such-option",
        "invoke f",
        "dev nowhere",
        "keys show",
        "cloud init plane --key Bad",
        "gateway add gw-1",
        "login https://localhost:1 --ca missing.pem",
        "context use nowhere",
        "deploy",
        "rollback app",
        "undeploy app",
        "status",
        "logs gw-1",
        "pub t x -b mqtt://127.0.0.1:1",
        "pub t",
        "sub t -b mqtt://127.0.0.1:1",
        "state list a/f -g gw-1",
        "dead-letters list",
        "completions tcsh",
        "buid",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_holm"))
            .args(words(args))
            .arg("--json")
            .current_dir(dir.path())
            .env_clear()
            .env("HOME", dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let failure: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args}: {error}: {text}"));
        let problem = &failure["error"]["problems"][0];
        assert!(problem.as_str().is_some_and(|problem| !problem.is_empty()), "{args}: {text}");
        assert!(output.stdout.is_empty() && !output.status.success(), "{args}");
    }
}
