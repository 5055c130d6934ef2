//! What stands in a data folder: a closed list, so that a backup sweeps up nothing foreign and a
//! reset deletes nothing foreign.

/// One entry of a data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// A folder of files, or a file.
    pub is_folder: bool,
    /// Whether a backup holds it. The rest belongs to one machine, or is made or fetched again.
    pub is_saved: bool,
    /// Whether it says who the gateway is.
    pub is_identity: bool,
}

const FOLDER: Part = Part { name: "", is_folder: true, is_saved: false, is_identity: false };
const FILE: Part = Part { is_folder: false, ..FOLDER };

/// All of them.
pub const PARTS: [Part; 13] = [
    Part { name: "identity", is_saved: true, is_identity: true, ..FILE },
    Part { name: "identity.new", is_identity: true, ..FILE },
    Part { name: "enrolling.key", is_identity: true, ..FILE },
    Part { name: "enrolling.new", is_identity: true, ..FILE },
    Part { name: "store", is_saved: true, ..FOLDER },
    Part { name: "library", is_saved: true, ..FOLDER },
    // Attempts in work when the process died; the row of a boot that is over says nothing.
    Part { name: "breadcrumbs", is_saved: true, ..FILE },
    // How often the process died of late: of this machine.
    Part { name: "lives", ..FILE },
    // Native code, under a key that never leaves the machine: compiled again.
    Part { name: "compiled", ..FOLDER },
    // Fetched again.
    Part { name: "partial", ..FOLDER },
    Part { name: "identity.lock", ..FILE },
    // A reset that was cut off.
    Part { name: STORE_GONE, ..FOLDER },
    Part { name: STORE_GONE_ALL, ..FOLDER },
];

/// The store while a reset deletes it that leaves the identity.
pub const STORE_GONE: &str = "store.reset";
/// The store while a reset deletes it and the identity.
pub const STORE_GONE_ALL: &str = "store.reset-all";
/// The store.
pub const STORE: &str = "store";

/// Files within folders that are not worth keeping: locks, space held in reserve, halves.
const LEFT_OUT: [&str; 3] = ["lock", "ballast", "checkpoint.redb.new"];
const NAME_BYTES_MAX: usize = 128;

fn part(name: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.name == name)
}

/// Whether a file of a folder is kept in a backup.
#[must_use]
pub fn is_kept(name: &str) -> bool {
    is_plain(name)
        && !LEFT_OUT.contains(&name)
        && !name.ends_with(".new")
        && !name.ends_with(".tmp")
}

/// A name that cannot lead anywhere else.
fn is_plain(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The part that a path within an archive belongs to, if a backup makes such paths.
#[must_use]
pub fn of_path(path: &str) -> Option<&'static Part> {
    match path.split_once('/') {
        None => part(path).filter(|part| part.is_saved && !part.is_folder),
        Some((folder, name)) => {
            part(folder).filter(|part| part.is_saved && part.is_folder && is_kept(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_backup_holds_files_of_the_list_and_no_others() {
        let saved = ["identity", "breadcrumbs", "store/checkpoint.redb", "library/00ff"];
        assert!(saved.iter().all(|path| of_path(path).is_some()));
        let not = [
            "",
            "store",
            "store/",
            "lives",
            "compiled/artifact.key",
            "store/lock",
            "store/ballast",
            "library/00ff.new",
            "store/a/b",
            "/identity",
            "./identity",
            "store/../identity",
            "../identity",
            "store/..",
            "store/.x",
            "identity/x",
            "agent.toml",
            "store//lock",
        ];
        for path in not {
            assert_eq!(of_path(path), None, "{path:?}");
        }
        assert_eq!(of_path(&format!("library/{}", "a".repeat(NAME_BYTES_MAX + 1))), None);
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_folder(
            path in "(store|library|identity|\\.\\.|/|\\.|[a-z]{1,3}|\u{0}|\\\\){1,6}",
        ) {
            if of_path(&path).is_some() {
                let parts: Vec<_> = Path::new(&path).components().collect();
                prop_assert!(parts.len() <= 2);
                prop_assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
