//! What the end-to-end tests share: one author and one build of each app per run.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use system_tests::author::{Author, fixture};

/// The author of this run.
pub(crate) fn author() -> &'static Author {
    static AUTHOR: OnceLock<Author> = OnceLock::new();
    AUTHOR.get_or_init(|| {
        let home = tempfile::tempdir().expect("a folder").keep();
        Author::new(&home).expect("a key")
    })
}

/// The bundle of an app below `tests/apps`, signed by [`author`].
pub(crate) fn bundle(app: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_cargo = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    author().build(&fixture("apps").join(app)).expect("the app builds")
}
