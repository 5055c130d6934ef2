//! What is held of a batch, without a sandbox: the host's side of the calls.

use std::sync::Arc;

use edge_core::id::{DeviceId, Digest, FunctionId, LaneKey};
use edge_core::outcome::{ItemFailure, ItemFailureKind};
use edge_core::release::StateScope;

use super::super::function::holm::function::state::Host as _;
use super::batch::Host as _;
use super::*;
use crate::runtime::limits::Limits;
use crate::runtime::session::StateSession;
use crate::runtime::{FunctionProfile, Grants, MemoryState, Needs, StateDomain};

/// A batch of two, of a function that may keep so many bytes and has `kept` in the key `old`.
fn host(state_bytes: u64, kept: usize) -> AttemptHost {
    let function = FunctionId::new("a/f");
    let profile = FunctionProfile {
        function: function.clone(),
        revision: Digest([1; 32]),
        state_version: 1,
        limits: Limits { state_bytes, ..Limits::default() },
        grants: Grants { state: StateScope::Device, ..Grants::default() },
        needs: Needs::default(),
    };
    let lane = LaneKey::Device(DeviceId::new("m"));
    let domain = StateDomain { function, state_version: 1, lane };
    let state = MemoryState::default();
    let old = edge_core::outcome::StateChange {
        key: "old".to_owned(),
        value: Some(vec![0; kept].into()),
    };
    state.apply(&domain, &[old]);
    let session = StateSession::new(Arc::new(state), domain);
    let mut host = AttemptHost::new(Arc::new(profile), Some(session));
    host.begin_batch(2);
    host
}

fn outputs(host: &mut AttemptHost, failed: Option<u16>) -> BatchOutputs {
    let failure =
        |index| ItemFailure { index, kind: ItemFailureKind::Retry, reason: "later".to_owned() };
    BatchOutputs {
        segments: host.take_segments(),
        failures: failed.map(failure).into_iter().collect(),
    }
}

#[test]
fn state_within_its_limit_stays_within_it_whatever_fails() {
    for (failed, in_order, fits) in
        [(None, true, true), (Some(0), false, false), (Some(0), true, true), (Some(1), true, true)]
    {
        let mut host = host(10_000, 9_000);
        host.for_event(0).unwrap();
        host.delete("old".to_owned()).unwrap();
        host.for_event(1).unwrap();
        host.put("new".to_owned(), vec![0; 8_000]).unwrap();
        let outputs = outputs(&mut host, failed);
        let checked = host.check_kept(&outputs, in_order);
        assert_eq!(checked.is_ok(), fits, "{failed:?} {in_order}");
        if let Err(fault) = checked {
            assert_eq!(fault.kind, FaultKind::Outputs);
            assert!(fault.message.contains("raise `state_bytes`"), "{}", fault.message);
        }
    }
}

#[test]
fn segments_of_one_small_write_each_are_bounded() {
    let mut host = host(1 << 20, 0);
    for write in 0.. {
        host.for_event(write % 2).unwrap();
        if host.put("a".to_owned(), Vec::new()).is_err() {
            break;
        }
    }
    assert!(host.refused.as_ref().unwrap().message.contains("raise `state_write_bytes`"));
    let segments = outputs(&mut host, None).segments;
    assert!(segments.len() < 10_000, "{}", segments.len());
}
