//! A8: nothing unverified runs.

use std::collections::BTreeSet;

use edge_core::id::Digest;

use super::{Oracle, hold};
use crate::seen::Seen;

/// Knows the revisions that a known author signed.
#[derive(Default)]
pub(super) struct A8 {
    signed: BTreeSet<Digest>,
}

impl Oracle for A8 {
    fn name(&self) -> &'static str {
        "a8"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Built { revision, is_signed: true } => {
                self.signed.insert(*revision);
                Ok(())
            }
            Seen::Run { jobs, revision, .. } => hold(self.signed.contains(revision), || {
                format!("{jobs:?} runs under {revision}, which no known author signed")
            }),
            _ => Ok(()),
        }
    }
}
