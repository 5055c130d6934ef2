//! The app that agents under trial are given.

use std::path::{Path, PathBuf};

use anyhow::Result;
use system_tests::author::{Author, fixture};

use crate::setup::{self, Agent};

/// `tests/apps/counter`, signed by an author of its own.
#[derive(Debug)]
pub(crate) struct App {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// The author's public key, as configurations take it.
    pub(crate) author: String,
}

impl App {
    /// Builds it, with the command line of this build, which is built first unless that is here
    /// already; the author's home is made in `dir`.
    pub(crate) fn build(dir: &Path, is_built: bool) -> Result<Self> {
        if !is_built {
            setup::programs(Agent::Shipped)?;
        }
        let author = Author::new(&dir.join("author"))?;
        let bundle = author.build(&fixture("apps/counter"))?;
        Ok(Self { bundle, author: author.key()? })
    }
}
