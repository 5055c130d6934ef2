//! What the reconciler must know after a restart. The shell keeps it in the store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::Digest;

/// Name of a control plane's store; generations of different instances are not comparable.
pub type Instance = [u8; 16];

/// Deployments of this gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Whose generation it is; `None` before the first.
    pub instance: Option<Instance>,
    /// Highest generation taken.
    pub generation: u64,
    /// Every app that is or was deployed here.
    pub apps: BTreeMap<String, AppLedger>,
}

/// One app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppLedger {
    /// What should run; `None`: nothing.
    pub desired: Option<Digest>,
    /// What attempts run under.
    pub live: Option<Revision>,
    /// Whether `live` has yet to prove itself.
    pub on_probation: bool,
    /// Where a take-back goes; equal to `live` once that has proved itself.
    pub good: Option<Revision>,
    /// Highest floor of the revisions that proved themselves.
    pub floor: u64,
    /// The revision that failed last, and why: not tried again for the same statement.
    pub failed: Option<Failure>,
}

/// A revision and the versions of state it works on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Its name.
    pub digest: Digest,
    /// Position in the app's history, set by the author.
    pub sequence: u64,
    /// Revisions below this sequence are refused once this one has proved itself.
    pub floor: u64,
    /// Per function of the app (its short name): version of its state.
    pub state_versions: BTreeMap<String, u32>,
}

/// A revision that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which.
    pub revision: Digest,
    /// Whether it had been live.
    pub taken_back: bool,
    /// For people.
    pub reason: String,
}

impl AppLedger {
    /// Whether there is something to do: what should run does not, and has not failed.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        let live = self.live.as_ref().map(|revision| revision.digest);
        let failed = self.failed.as_ref().map(|failure| failure.revision);
        self.desired != live && (self.desired.is_none() || self.desired != failed)
    }
}
