//! Verifying and compiling revisions, and carrying state over: all that takes long, off the loop.
//! One thing at a time; the loop asks for the next when it has the answer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use edge_core::boot::{Before, Offer, Source};
use edge_core::id::DeviceId;
use edge_core::op::StateKey;
use edge_core::release::Release;
use sync_protocol::bundle::Bundle;
use sync_protocol::id::Digest;
use sync_protocol::limits::BUNDLE_BYTES_MAX;
use sync_protocol::revision::{AuthorKeys, SignedManifest, VerifiedRevision};

use super::inbox::{Inbound, Outlet};
use super::library::Library;
use super::release;
use super::seams::Executor;
use super::state::State;
use crate::launch::Launched;
use crate::launch::install::{self, install};
use crate::runtime::{Runnable, Toolchain};
use crate::store;

/// What is asked.
pub(super) enum Prepare {
    /// Take a fetched file into the library.
    Import {
        /// What it should be.
        digest: Digest,
        /// Where it is; it is removed afterwards.
        path: PathBuf,
    },
    /// Take all files of a bundle into the library.
    ImportBundle {
        /// The bundle file.
        path: PathBuf,
    },
    /// Verify a manifest of the library.
    Verify {
        /// Which revision.
        revision: Digest,
    },
    /// Compile the functions of a verified revision.
    Compile {
        /// Which.
        revision: Arc<VerifiedRevision>,
    },
    /// Read an image that devices want.
    Load {
        /// Which.
        digest: Digest,
    },
    /// Write an update of the agent into its slot.
    Stage(Box<Staging>),
    /// Carry a function's state over to its new version.
    Migrate {
        /// The app.
        app: String,
        /// The function, prepared at its new version.
        prepared: Arc<dyn Runnable>,
        /// The version to start from.
        from: u32,
    },
}

/// An update of the agent.
pub(super) struct Staging {
    /// Where this agent runs from.
    pub launched: Launched,
    /// The update; its program is in the library.
    pub offer: Offer,
    /// Who brought it.
    pub by: Source,
    /// How things are before it.
    pub before: Before,
}

/// An app that can go live.
#[derive(Clone)]
pub(super) struct PreparedApp {
    /// For the core.
    pub release: Arc<Release>,
    /// For the workers.
    pub functions: Vec<Arc<dyn Runnable>>,
    /// What was verified.
    pub revision: Arc<VerifiedRevision>,
}

impl std::fmt::Debug for PreparedApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedApp").field("release", &self.release).finish_non_exhaustive()
    }
}

/// What a bundle holds.
#[derive(Debug)]
pub(super) struct Bundled {
    /// Its app.
    pub(super) app: String,
    /// What people call this version of it.
    pub(super) version: String,
    /// The same, exactly.
    pub(super) revision: Digest,
}

/// The answer.
#[derive(Debug)]
pub(super) enum PrepareDone {
    /// The file is in the library, or why not.
    Imported {
        /// Which.
        digest: Digest,
        /// Whether.
        result: Result<(), String>,
    },
    /// The bundle's files are in the library, or why not.
    BundleImported {
        /// What it holds.
        result: Result<Bundled, String>,
    },
    /// The manifest is good, or why not.
    Verified {
        /// Which revision.
        revision: Digest,
        /// The manifest.
        result: Result<Arc<VerifiedRevision>, String>,
    },
    /// The app can go live, or why not.
    Compiled {
        /// Which revision.
        revision: Digest,
        /// The app.
        result: Result<PreparedApp, String>,
    },
    /// The bytes of an image, or why there are none.
    Loaded {
        /// Which.
        digest: Digest,
        /// Its bytes.
        result: Result<Bytes, String>,
    },
    /// The next start tries the update of the agent, or why not.
    Staged {
        /// Whether.
        result: Result<(), String>,
    },
    /// The new copy of a function's state, or why there is none.
    Migrated {
        /// The app.
        app: String,
        /// Its entries.
        result: Result<Vec<(StateKey, Bytes)>, String>,
    },
}

/// A task for the executor.
pub struct Task {
    ask: Prepare,
    worker: Arc<Worker>,
    outlet: Outlet,
    is_heard: Arc<Mutex<bool>>,
}

impl Task {
    /// Executes it and tells the loop, unless the life that asked is over. May take minutes;
    /// functions run on the calling thread.
    pub fn run(self) {
        let done = self.worker.answer(self.ask);
        // Held while telling, so that what is told was told before the handle went.
        let is_heard = self.is_heard.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_heard {
            self.outlet.tell(Inbound::Prepared(Box::new(done)));
        }
    }
}

/// Makes tasks. Once it is dropped nothing more is told: an answer to the life before must not be
/// taken for one to the next.
pub(super) struct Preparer {
    executor: Box<dyn Executor>,
    worker: Arc<Worker>,
    outlet: Outlet,
    is_heard: Arc<Mutex<bool>>,
}

impl Drop for Preparer {
    fn drop(&mut self) {
        *self.is_heard.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Preparer {
    /// Nothing is asked yet.
    #[must_use]
    pub(super) fn new(executor: Box<dyn Executor>, worker: Worker, outlet: Outlet) -> Self {
        Self { executor, worker: Arc::new(worker), outlet, is_heard: Arc::new(Mutex::new(true)) }
    }

    /// Asks; the answer comes through the inbox.
    pub(super) fn ask(&self, ask: Prepare) {
        self.executor.submit(Task {
            ask,
            worker: Arc::clone(&self.worker),
            outlet: self.outlet.clone(),
            is_heard: Arc::clone(&self.is_heard),
        });
    }
}

/// What tasks work with.
pub(super) struct Worker {
    /// Compiles.
    pub toolchain: Arc<dyn Toolchain>,
    /// Files by digest.
    pub library: Library,
    /// Who may sign.
    pub authors: AuthorKeys,
    /// State to carry over.
    pub state: Arc<State>,
}

impl Worker {
    fn answer(&self, ask: Prepare) -> PrepareDone {
        match ask {
            Prepare::Import { digest, path } => {
                let result = self.import(digest, &path);
                PrepareDone::Imported { digest, result }
            }
            Prepare::ImportBundle { path } => {
                PrepareDone::BundleImported { result: self.import_bundle(&path) }
            }
            Prepare::Verify { revision } => {
                let result = self.verify(revision).map(Arc::new);
                PrepareDone::Verified { revision, result }
            }
            Prepare::Compile { revision } => {
                let digest = revision.digest();
                PrepareDone::Compiled { revision: digest, result: self.compile(&revision) }
            }
            Prepare::Load { digest } => {
                let read = self.library.read(digest, |bytes| Some(Digest::of(bytes)));
                let result = read.map(Bytes::from).map_err(|err| err.to_string());
                PrepareDone::Loaded { digest, result }
            }
            Prepare::Stage(staging) => PrepareDone::Staged { result: self.stage(&staging) },
            Prepare::Migrate { app, prepared, from } => {
                let result = self.migrate(&*prepared, from);
                PrepareDone::Migrated { app, result }
            }
        }
    }

    fn import(&self, digest: Digest, path: &Path) -> Result<(), String> {
        // Whatever it is, it must not be taken for a good beginning at the next try.
        let bytes = self.library.take_fetched(path).map_err(|err| err.to_string())?;
        let is_manifest =
            || SignedManifest::from_bytes(&bytes).is_ok_and(|manifest| manifest.digest() == digest);
        if Digest::of(&bytes) != digest && !is_manifest() {
            return Err(format!("what was fetched is not {digest}"));
        }
        self.library.add(digest, &bytes).map_err(|err| err.to_string())
    }

    fn import_bundle(&self, path: &Path) -> Result<Bundled, String> {
        let size = std::fs::metadata(path).map_err(|err| err.to_string())?.len();
        if size > BUNDLE_BYTES_MAX {
            return Err(format!(
                "the bundle has {size} bytes, at most {BUNDLE_BYTES_MAX} are taken"
            ));
        }
        let file = std::fs::read(path).map_err(|err| err.to_string())?;
        let bundle = Bundle::parse(&file).map_err(|err| err.to_string())?;
        let revision = bundle.verify(&self.authors).map_err(|err| err.to_string())?;
        for (digest, artifact) in &bundle.artifacts {
            let added = self.library.add(*digest, artifact);
            added.map_err(|err| err.to_string())?;
        }
        let manifest = bundle.signed.to_bytes();
        self.library.add(revision.digest(), &manifest).map_err(|err| err.to_string())?;
        let (app, version) = (revision.manifest().app.clone(), revision.manifest().version.clone());
        Ok(Bundled { app, version, revision: revision.digest() })
    }

    /// Verifies and compiles a revision that is in the library, on the calling thread.
    pub(super) fn ready(&self, revision: Digest) -> Result<PreparedApp, String> {
        self.compile(&Arc::new(self.verify(revision)?))
    }

    fn verify(&self, revision: Digest) -> Result<VerifiedRevision, String> {
        let digest_of = |bytes: &[u8]| SignedManifest::from_bytes(bytes).ok().map(|m| m.digest());
        let bytes = self.library.read(revision, digest_of).map_err(|err| err.to_string())?;
        let signed = SignedManifest::from_bytes(&bytes).map_err(|err| err.to_string())?;
        signed.verify_as(revision, &self.authors).map_err(|err| err.to_string())
    }

    fn compile(&self, revision: &Arc<VerifiedRevision>) -> Result<PreparedApp, String> {
        let release = Arc::new(release::resolve(revision)?);
        let manifest = revision.manifest();
        let mut functions = Vec::with_capacity(manifest.functions.len());
        for (name, function) in &manifest.functions {
            let in_function = |err: String| format!("functions.{name}: {err}");
            let digest_of = |bytes: &[u8]| Some(Digest::of(bytes));
            let component = self
                .library
                .read(function.artifact, digest_of)
                .map_err(|err| in_function(err.to_string()))?;
            let checked = revision.check_artifact(function.artifact, &component);
            checked.map_err(|err| in_function(err.to_string()))?;
            let profile = release::profile(revision, name, function).map_err(in_function)?;
            let prepared = self.toolchain.prepare(&component, profile);
            functions.push(prepared.map_err(|err| in_function(err.to_string()))?);
        }
        for (name, firmware) in &manifest.firmware {
            let digest_of = |bytes: &[u8]| Some(Digest::of(bytes));
            let image = self.library.read(firmware.artifact, digest_of);
            let image = image.map_err(|err| format!("firmware.{name}: {err}"))?;
            let checked = revision.check_artifact(firmware.artifact, &image);
            checked.map_err(|err| format!("firmware.{name}: {err}"))?;
        }
        Ok(PreparedApp { release, functions, revision: Arc::clone(revision) })
    }

    fn stage(&self, staging: &Staging) -> Result<(), String> {
        let Staging { launched, offer, by, before } = staging;
        let digest = Digest(offer.program.digest.0);
        let program = self.library.read(digest, |bytes| Some(Digest::of(bytes)));
        let program = program.map_err(|err| err.to_string())?;
        let (by, before, data) = (*by, *before, store::FORMAT);
        let running = launched.slot();
        let update = install::Update { offer, bytes: &program, running, by, before, data };
        install(launched.slots(), &update)
    }

    fn migrate(
        &self,
        prepared: &dyn Runnable,
        from: u32,
    ) -> Result<Vec<(StateKey, Bytes)>, String> {
        let profile = prepared.profile();
        if !prepared.can_migrate() {
            return Ok(Vec::new());
        }
        let lanes = self.state.lanes(&profile.function, from).map_err(|e| e.to_string())?;
        let mut copied = Vec::new();
        for (lane, entries) in lanes {
            let device = lane.name().map(DeviceId::new);
            let entries = prepared
                .migrate(from, device.as_ref(), entries)
                .map_err(|fault| format!("migrate: {}: {}", fault.kind, fault.message))?;
            copied.extend(entries.into_iter().map(|(key, value)| {
                let key = StateKey {
                    function: profile.function.clone(),
                    state_version: profile.state_version,
                    lane: lane.clone(),
                    key,
                };
                (key, value)
            }));
        }
        Ok(copied)
    }
}
