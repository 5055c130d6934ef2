//! The gateway's half: lines for agent.toml.

use std::fmt::Write as _;
use std::path::Path;

use edge_agent::settings::Settings;

use crate::failure::{Done, Failure, read_file};

const BYTES_MAX: u64 = 4 << 20;

/// How the gateway knows the device.
pub(super) enum Account {
    Certificate,
    TokenSha256(String),
}

/// The lines of a device.
pub(super) fn device(
    name: &str,
    account: &Account,
    publish: &[String],
    subscribe: &[String],
) -> String {
    let mut lines = format!("[[devices]]\nname = {}\n", quoted(name));
    let _ = match account {
        Account::Certificate => writeln!(lines, "certificate = true"),
        Account::TokenSha256(hash) => writeln!(lines, "token_sha256 = \"{hash}\""),
    };
    for (key, filters) in [("publish", publish), ("subscribe", subscribe)] {
        let filters: Vec<_> = filters.iter().map(|filter| quoted(filter)).collect();
        let _ = writeln!(lines, "{key} = [{}]", filters.join(", "));
    }
    lines
}

/// The lines of a listener.
pub(super) fn listener(certificate: &Path, key: &Path, client_ca: &Path) -> String {
    let path = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        quoted(&path.display().to_string())
    };
    format!(
        "[[listeners]]\nbind = \"0.0.0.0:8883\"\ncertificate = {}\nkey = {}\nclient_ca = {}\n",
        path(certificate),
        path(key),
        path(client_ca),
    )
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Checks that the file takes the lines; returns it with them.
pub(super) fn appended(path: &Path, lines: &str) -> Done<String> {
    let bytes = read_file(path, BYTES_MAX)?;
    let before = String::from_utf8(bytes)
        .map_err(|_| Failure::input(format!("{} is not UTF-8", path.display())))?;
    let gap = if before.ends_with('\n') || before.is_empty() { "" } else { "\n" };
    let after = format!("{before}{gap}\n{lines}");
    Settings::parse(&after).map_err(|problems| {
        let lines = problems.iter().map(|problem| format!("{}: {problem}", path.display()));
        let mut failure = Failure::input("");
        failure.problems = lines.collect();
        failure.next("nothing was written; `edge-agent check FILE` reports what is wrong")
    })?;
    Ok(after)
}

/// Puts the text in place of the file, with its mode.
pub(super) fn replace(path: &Path, text: &str) -> Done {
    let failed = |error: std::io::Error| Failure::file("write", path, &error);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = Path::new(&temporary);
    let mode = std::fs::metadata(path).map_err(failed)?.permissions();
    let written = std::fs::write(temporary, text)
        .and_then(|()| std::fs::set_permissions(temporary, mode))
        .and_then(|()| std::fs::File::open(temporary)?.sync_all())
        .and_then(|()| std::fs::rename(temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(temporary);
    }
    written.map_err(failed)
}
