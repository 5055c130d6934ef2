//! A7: the reported generation converges, and everything comes to rest within the bound.

use super::{Oracle, hold};
use crate::seen::Seen;

pub(super) struct A7;

impl Oracle for A7 {
    fn name(&self) -> &'static str {
        "a7"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Rest(rest) = seen else { return Ok(()) };
        let generation = rest.generation;
        let converged = rest
            .reported
            .as_ref()
            .is_some_and(|(reported, in_work)| *reported == generation && in_work.is_empty());
        hold(converged, || {
            format!("generation {generation} is desired, reported is {:?}", rest.reported)
        })?;
        hold(rest.restless.is_empty(), || format!("no rest: {}", rest.restless.join("; ")))
    }
}
