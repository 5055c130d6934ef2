//! Takes batches and nothing else; carries its state over.

use function_sdk::prelude::*;
use function_sdk::{NewState, OldState};

fn count(batch: Batch) -> Result<Failures> {
    state::json("n").update(|n: &mut usize| *n += batch.size())?;
    Ok(Failures::default())
}

fn migrate(old: OldState) -> Result<NewState> {
    Ok(NewState { entries: old.entries })
}

function_sdk::export!(batch: count, migrate: migrate);
