//! The gateway's half: lines for agent.toml.

use std::fmt::Write as _;
use std::path::Path;

use edge_agent::settings::Settings;

use crate::failure::{Done, Failure, read_file};
use crate::secret_file::Staged;

const BYTES_MAX: u64 = 4 << 20;

/// How the gateway knows the device.
pub(crate) enum Account {
    Certificate,
    TokenSha256(String),
}

/// The lines of a device.
pub(crate) fn device(
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
pub(crate) fn listener(bind: &str, certificate: &Path, key: &Path, client_ca: &Path) -> String {
    let path = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        quoted(&path.display().to_string())
    };
    format!(
        "[[listeners]]\nbind = \"{bind}\"\ncertificate = {}\nkey = {}\nclient_ca = {}\n",
        path(certificate),
        path(key),
        path(client_ca),
    )
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Checks that the file takes the lines; returns it with them.
pub(crate) fn appended(path: &Path, lines: &str) -> Done<String> {
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

/// The text beside the file, to be put in its place: with its owner, group and mode, and where a
/// link leads to, not in place of the link.
pub(crate) fn replacement(path: &Path, text: &str) -> Done<Staged> {
    let failed = |error: std::io::Error| Failure::file("write", path, &error);
    let path = std::fs::canonicalize(path).map_err(failed)?;
    let old = std::fs::metadata(&path).map_err(failed)?;
    Staged::new(&path, text.as_bytes())?.with_rights_of(&old)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn the_file_keeps_its_owner_its_mode_and_the_links_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real/agent.toml"), dir.path().join("agent.toml"));
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        // Only root can make the harder case.
        let is_given = chown(&file, Some(4711), Some(4712)).is_ok();
        let before = std::fs::metadata(&file).unwrap();
        symlink("real/agent.toml", &link).unwrap();
        replacement(&link, "new").unwrap().keep().unwrap();
        let after = std::fs::metadata(&file).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        let rights = |data: &std::fs::Metadata| (data.uid(), data.gid(), data.mode() & 0o7777);
        assert_eq!(rights(&after), rights(&before));
        assert!(!is_given || rights(&after) == (4711, 4712, 0o640));
    }
}
