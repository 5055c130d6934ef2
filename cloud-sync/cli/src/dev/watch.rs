//! Whether files of an app have changed, by asking: no dependency, no missed event.

use std::path::Path;
use std::time::SystemTime;

/// Folders that builds and version control write.
const IGNORED: [&str; 3] = ["target", ".git", "node_modules"];
/// Files looked at, at most; larger trees are watched in part.
const FILES_MAX: usize = 5_000;

/// What a folder looks like: number of files and newest change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    files: usize,
    newest: Option<SystemTime>,
}

impl Stamp {
    pub(super) fn of(dir: &Path) -> Self {
        let mut stamp = Self::default();
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() && !IGNORED.iter().any(|ignored| name == *ignored) {
                    folders.push(entry.path());
                } else if kind.is_file() && stamp.files < FILES_MAX && matters(&entry.path()) {
                    stamp.files += 1;
                    let changed = entry.metadata().and_then(|data| data.modified()).ok();
                    stamp.newest = stamp.newest.max(changed);
                }
            }
        }
        stamp
    }
}

fn matters(path: &Path) -> bool {
    path.extension().is_some_and(|kind| ["rs", "toml", "wasm"].iter().any(|known| kind == *known))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn changes_of_sources_are_seen_and_builds_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        write("src/lib.rs");
        let first = Stamp::of(dir.path());
        write("target/debug/x.rs");
        write("notes.txt");
        assert_eq!(Stamp::of(dir.path()), first);
        write("holm.toml");
        assert_ne!(Stamp::of(dir.path()), first);
    }
}
