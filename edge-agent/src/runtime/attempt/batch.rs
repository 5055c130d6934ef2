//! One attempt at a batch: what the function says of its events is checked before it counts.

use std::collections::BTreeSet;

use edge_core::effect::Member;
use edge_core::outcome::{BatchOutputs, Fault, FaultKind, ItemFailure, ItemFailureKind, Outcome};
use wasmtime::Store;

use super::super::fault;
use super::super::host::AttemptHost;
use super::super::host::batching::exports::holm::function::batch_handler;
use super::super::host::function::holm::function::types as wit;
use super::super::prepared::Prepared;
use super::{failed, short, to_wit};

pub(super) fn handle(
    prepared: &Prepared,
    store: &mut Store<AttemptHost>,
    members: &[Member],
    in_order: bool,
) -> Result<Outcome, Fault> {
    let Some(pre) = prepared.batching() else {
        return Err(fault::of_host("the function takes no batch".to_owned()));
    };
    let instance =
        pre.instantiate(&mut *store).map_err(|error| fault::of_start(&error, store.data_mut()))?;
    let events: Vec<wit::Event> = members.iter().map(to_wit).collect();
    store.data_mut().begin_batch(events.len());
    let returned = instance
        .holm_function_batch_handler()
        .call_handle_batch(&mut *store, &events, in_order)
        .map_err(|error| fault::of_call(&error, store.data_mut()))?;
    let failures = match returned {
        Ok(failures) => checked(failures, members.len())?,
        Err(failure) => return Ok(failed(&failure)),
    };
    let host = store.data_mut();
    let outputs = BatchOutputs { segments: host.take_segments(), failures };
    host.check_kept(&outputs, in_order)?;
    Ok(Outcome::BatchDone(outputs))
}

/// Holds what the function says of its events to the contract: each at most once, and none that
/// the batch does not have. Otherwise it cannot be told what is done.
fn checked(
    failures: Vec<batch_handler::ItemFailure>,
    events: usize,
) -> Result<Vec<ItemFailure>, Fault> {
    let mut named = BTreeSet::new();
    let mut all = Vec::with_capacity(failures.len().min(events));
    for batch_handler::ItemFailure { index, failure } in failures {
        let known = usize::try_from(index).ok().filter(|index| *index < events);
        let Some(Ok(index)) = known.map(u16::try_from) else {
            return Err(wrong(format!(
                "`handle-batch` names the event at {index}, but the batch has {events}: the first \
                 is at 0"
            )));
        };
        if !named.insert(index) {
            return Err(wrong(format!("`handle-batch` names the event at {index} twice")));
        }
        let (kind, reason) = match &failure {
            wit::Failure::Retry(reason) => (ItemFailureKind::Retry, short(reason)),
            wit::Failure::Reject(reason) => (ItemFailureKind::Reject, short(reason)),
        };
        all.push(ItemFailure { index, kind, reason });
    }
    Ok(all)
}

fn wrong(message: String) -> Fault {
    Fault { kind: FaultKind::Outputs, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(index: u32) -> batch_handler::ItemFailure {
        batch_handler::ItemFailure { index, failure: wit::Failure::Retry("later".to_owned()) }
    }

    #[test]
    fn an_event_that_is_not_there_or_named_twice_is_a_fault() {
        let all = checked(vec![failure(2), failure(0)], 3).expect("both are there");
        assert_eq!(all.iter().map(|failure| failure.index).collect::<Vec<_>>(), [2, 0]);
        for (indexes, words) in [
            (vec![3], "names the event at 3, but the batch has 3"),
            (vec![u32::MAX], "names the event at 4294967295"),
            (vec![1, 0, 1], "names the event at 1 twice"),
        ] {
            let failures = indexes.into_iter().map(failure).collect();
            let fault = checked(failures, 3).expect_err(words);
            assert_eq!(fault.kind, FaultKind::Outputs);
            assert!(fault.message.contains(words), "{}", fault.message);
        }
    }
}
