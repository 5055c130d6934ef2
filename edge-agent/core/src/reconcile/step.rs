//! What the reconciler is told, and what it asks for.

use crate::id::Digest;

use super::ledger::{Instance, Revision};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A statement of what should run: the whole of it.
    Desired {
        /// Who says so.
        instance: Instance,
        /// A lower generation of the same instance is old news.
        generation: u64,
        /// App and revision; an app that is not named goes.
        apps: Vec<(String, Digest)>,
    },
    /// A local statement about one app.
    Local {
        /// The app.
        app: String,
        /// What should run; `None`: nothing.
        revision: Option<Digest>,
    },
    /// Answer to [`Step::Fetch`].
    Fetched {
        /// Which file.
        digest: Digest,
        /// It is in the library, or why not.
        result: Result<(), String>,
    },
    /// Answer to [`Step::Verify`].
    Verified {
        /// Which revision.
        revision: Digest,
        /// What it says, or why it is refused.
        result: Result<Facts, String>,
    },
    /// Answer to [`Step::Compile`].
    Compiled {
        /// Which revision.
        revision: Digest,
        /// It can run, or why not.
        result: Result<(), String>,
    },
    /// Answer to [`Step::Quiesce`].
    Quiesced {
        /// Which app.
        app: String,
    },
    /// Answer to [`Step::Migrate`].
    Migrated {
        /// Which app.
        app: String,
        /// The new copies are in the open batch, or why there are none.
        result: Result<(), String>,
    },
    /// A revision proved itself.
    Passed {
        /// The app.
        app: String,
        /// The revision.
        revision: Digest,
    },
    /// A revision failed on probation; its app starts nothing meanwhile.
    Failed {
        /// The app.
        app: String,
        /// The revision.
        revision: Digest,
        /// For people.
        reason: String,
    },
}

/// What a verified manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The app it is a revision of.
    pub app: String,
    /// What the ledger keeps of it.
    pub revision: Revision,
    /// Files it needs.
    pub artifacts: Vec<Digest>,
}

/// Something to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Get a file into the library (it may be there already).
    Fetch {
        /// Which.
        digest: Digest,
    },
    /// Verify a manifest of the library: author, signature, contents.
    Verify {
        /// Which revision.
        revision: Digest,
    },
    /// Verify the artifacts and compile.
    Compile {
        /// Which revision.
        revision: Digest,
    },
    /// Let the app come to rest.
    Quiesce {
        /// Which.
        app: String,
    },
    /// The app goes on as before: a swap was called off.
    Resume {
        /// Which.
        app: String,
    },
    /// Fill new copies of state: per function its short name, old and new version.
    Migrate {
        /// The app.
        app: String,
        /// The revision whose functions migrate.
        revision: Digest,
        /// Function, from, to.
        functions: Vec<(String, u32, u32)>,
    },
    /// The revision goes live now.
    Swap {
        /// The app.
        app: String,
        /// The revision.
        revision: Digest,
        /// Whether it has to prove itself.
        probation: bool,
    },
    /// The app goes.
    Remove {
        /// Which.
        app: String,
    },
    /// A copy of state goes.
    DropState {
        /// The app.
        app: String,
        /// Short name of the function.
        function: String,
        /// Which copy.
        state_version: u32,
    },
    /// The ledger has changed: into the same batch as the steps of this call.
    Save,
    /// Where the deployments stand has changed.
    Report,
}

/// How far the app in work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Files are being fetched.
    Fetching,
    /// The manifest is being verified.
    Verifying,
    /// It is being compiled, or waits for running attempts to end.
    Preparing,
}
