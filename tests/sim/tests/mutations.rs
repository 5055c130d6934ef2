//! Goal: the proof proves something: bugs that are planted into the gateway are found.
//! Method: seeds from 1 on, with one bug each, until an oracle says no; each bug has a budget.
#![cfg(feature = "plant")]

use simulator::run;

/// Seeds within which each bug must be found.
const BUDGET: u64 = 25;

/// Returns the oracle that found it.
fn find(bug: &str) -> String {
    let found = (1..=BUDGET).find_map(|seed| run::run_with(seed, bug).failure);
    found.unwrap_or_else(|| panic!("{bug}: not found in {BUDGET} seeds")).oracle
}

#[test]
fn an_ack_before_its_commit_is_found() {
    assert_eq!(find("ack-before-commit"), "a1");
}

#[test]
fn a_delete_before_its_receipt_is_found() {
    assert_eq!(find("delete-before-receipt"), "a2");
}

#[test]
fn state_that_does_not_commit_with_its_outcome_is_found() {
    assert_eq!(find("late-state"), "a11");
}

#[test]
fn a_message_id_that_is_forgotten_is_found() {
    assert_eq!(find("dedupe-off-by-one"), "a3");
}

#[test]
fn a_batch_whose_failed_events_are_taken_for_done_is_found() {
    // Never done, or not done together: whichever a seed shows first.
    let oracle = find("batch-all-done");
    assert!(["a2", "a3"].contains(&&*oracle), "{oracle}");
}
