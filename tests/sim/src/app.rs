//! The revisions that the simulated control plane can ask for.

use std::collections::BTreeMap;

use serde::Deserialize;
use sync_protocol::id::Digest;
use sync_protocol::manifest::{
    Batch, Durability, FORMAT, Function, Grants, Limits, Manifest, MqttSource, Pause, Priority,
    Retry, ScheduleSource, Series, Source, StateScope, Trigger, WhenFull,
};
use sync_protocol::revision::{AuthorKeys, SignedManifest, SigningKey};

use crate::function::{ALARMS, Component, SERIES};

/// Name of the app.
pub const APP: &str = "sim";
/// Its trigger on wall time: it fires each minute. What it wakes has nothing to do.
pub const CRON: &str = "sim/minutely";
/// Its functions.
pub const FUNCTIONS: [&str; 4] = ["count", "note", "relay", "tally"];

/// An author's key: fixed, so that every run signs alike, and worth nothing outside.
const AUTHOR: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIAMKERgfJi00O0JJUFdeZWxzeoGIj5adpKuyucDHztXc\n\
    -----END PRIVATE KEY-----\n";
/// A key that no gateway knows.
const STRANGER: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIAQLEhkgJy41PENKUVhfZm10e4KJkJeepayzusHIz9bd\n\
    -----END PRIVATE KEY-----\n";

/// What kind of revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Works.
    Good,
    /// Works on a copy of the state.
    NewState,
    /// Traps at every event.
    Broken,
    /// Does not compile.
    Unusable,
    /// Signed by nobody this gateway knows.
    Forged,
}

/// All revisions and artifacts, by digest.
#[derive(Debug, Default)]
pub struct Apps {
    /// Policy of what is recorded, unless it is urgent.
    pub series: Series,
    /// Whether it has a trigger on wall time.
    pub has_cron: bool,
    files: BTreeMap<Digest, Vec<u8>>,
    kinds: BTreeMap<Digest, Kind>,
    sequence: u64,
    state_version: u32,
}

fn key(pem: &str) -> SigningKey {
    SigningKey::from_pem(pem).expect("invariant: a key written above")
}

/// Keys of the authors that the gateway knows.
#[must_use]
pub fn authors() -> AuthorKeys {
    std::iter::once(key(AUTHOR).public()).collect()
}

impl Apps {
    /// Builds a revision and keeps its files.
    pub fn build(&mut self, kind: Kind) -> Digest {
        self.sequence += 1;
        let state_version = self.state_version.max(1) + u32::from(kind == Kind::NewState);
        if kind == Kind::NewState {
            self.state_version = state_version;
        }
        let component = match kind {
            Kind::Good | Kind::NewState | Kind::Forged => Component::Good,
            Kind::Broken => Component::Broken,
            Kind::Unusable => Component::Unusable,
        };
        let mut functions = BTreeMap::new();
        for name in FUNCTIONS {
            let artifact = component.artifact(name, self.sequence);
            functions.insert(name.to_owned(), function(name, &artifact, state_version));
            self.files.insert(Digest::of(&artifact), artifact);
        }
        let manifest = Manifest {
            format: FORMAT,
            app: APP.to_owned(),
            version: self.sequence.to_string(),
            sequence: self.sequence,
            floor: self.sequence.saturating_sub(2),
            functions,
            records: self.records(),
            firmware: Default::default(),
            agent: None,
            system: None,
            triggers: triggers(self.has_cron),
        };
        let signer = key(if kind == Kind::Forged { STRANGER } else { AUTHOR });
        let signed = SignedManifest::sign(&manifest, &signer);
        let signed = signed.unwrap_or_else(|error| panic!("invariant: a good manifest: {error}"));
        let digest = signed.digest();
        self.files.insert(digest, signed.to_bytes());
        self.kinds.insert(digest, kind);
        digest
    }

    fn records(&self) -> BTreeMap<String, Series> {
        let urgent = Series { priority: Priority::Urgent, ..Series::default() };
        BTreeMap::from([(SERIES.to_owned(), self.series), (ALARMS.to_owned(), urgent)])
    }

    /// Bytes of a manifest or an artifact.
    #[must_use]
    pub fn file(&self, digest: Digest) -> Option<&[u8]> {
        self.files.get(&digest).map(Vec::as_slice)
    }

    /// What kind of revision it is.
    #[must_use]
    pub fn kind(&self, revision: Digest) -> Option<Kind> {
        self.kinds.get(&revision).copied()
    }
}

fn function(name: &str, artifact: &[u8], state_version: u32) -> Function {
    let (state, when_full, publish, concurrency) = match name {
        "count" => (StateScope::Device, WhenFull::Hold, vec!["echo/#".to_owned()], 3),
        "tally" => (StateScope::Device, WhenFull::Hold, Vec::new(), 2),
        "relay" => (StateScope::Function, WhenFull::Hold, Vec::new(), 1),
        _ => (StateScope::None, WhenFull::ShedNewest, Vec::new(), 2),
    };
    Function {
        artifact: Digest::of(artifact),
        size: artifact.len() as u64,
        limits: Limits { concurrency, ..Limits::default() },
        state,
        state_version: if name == "note" { 1 } else { state_version },
        when_full,
        grants: Grants { publish, record: vec![SERIES.to_owned(), ALARMS.to_owned()] },
        config: BTreeMap::new(),
        ordered: None,
        pause: Pause::default(),
    }
}

/// `tally` takes batches in order, `note` takes some without.
fn triggers(has_cron: bool) -> BTreeMap<String, Trigger> {
    let trigger = |function: &str, topic: &str, durability, batch| {
        let source = Source::Mqtt(MqttSource {
            topics: vec![topic.to_owned()],
            durability,
            allow_loop: false,
            filter: Vec::new(),
            batch,
        });
        let backoff_ms = vec![1_000, 2_000];
        // Ages count by the wall clock too: one that jumps must make nothing old.
        let retry = Retry { backoff_ms, age_by_wall: true, ..Retry::default() };
        let (on_success, on_failure) = (None, None);
        let function = function.to_owned();
        (function.clone(), Trigger { function, source, retry, on_success, on_failure })
    };
    let expression = "cron(* * * * ? *)".to_owned();
    let source = ScheduleSource { expression, missed: Default::default() };
    let minutely = Trigger {
        function: "note".to_owned(),
        source: Source::Schedule(source),
        retry: Retry::default(),
        on_success: None,
        on_failure: None,
    };
    let batch = |size_max, window_ms| {
        Some(Batch { size_max, window_ms, bytes_max: 4_096, ..Batch::default() })
    };
    let mut triggers = BTreeMap::from([
        trigger("count", "in/#", Durability::Prompt, None),
        trigger("note", "note/#", Durability::Thrifty, batch(5, 400)),
        trigger("relay", "echo/#", Durability::Prompt, None),
        trigger("tally", "in/#", Durability::Prompt, batch(4, 0)),
    ]);
    triggers.extend(has_cron.then(|| ("minutely".to_owned(), minutely)));
    triggers
}
