//! What another order of a function's events means for its state.
//!
//! A lane owns state. Under another order no lane finds what the lanes before it kept, so a
//! revision with another order needs another `state_version`, and begins with no state.

use edge_core::id::FunctionId;
use edge_core::release::{FunctionSpec, Release, StateScope};

/// Whether the state of every function stays in reach of its lanes.
///
/// # Errors
/// A function is ordered in another way, but says that its state is the same.
pub(super) fn is_kept(live: &Release, new: &Release) -> Result<(), String> {
    let lost = new.functions.iter().find(|spec| {
        let same_state = |before: &FunctionSpec| before.state_version == spec.state_version;
        function(live, &spec.id).is_some_and(same_state) && differs(live, new, &spec.id)
    });
    lost.map_or(Ok(()), |spec| {
        Err(format!(
            "{}: `state` or `ordered` differ from what runs, so its lanes would not find the state \
             of version {}: raise `state_version` (it then begins empty)",
            spec.id, spec.state_version
        ))
    })
}

/// Whether both revisions have the function, with state, in different order.
pub(super) fn differs(live: &Release, new: &Release, id: &FunctionId) -> bool {
    let (Some(before), Some(after)) = (function(live, id), function(new, id)) else { return false };
    let stateless = |spec: &FunctionSpec| spec.state == StateScope::None;
    !stateless(before) && !stateless(after) && before.lanes() != after.lanes()
}

fn function<'r>(release: &'r Release, id: &FunctionId) -> Option<&'r FunctionSpec> {
    release.functions.iter().find(|spec| spec.id == *id)
}

#[cfg(test)]
mod tests {
    use edge_core::id::Digest;
    use edge_core::release::{PausePolicy, WhenFull};

    use super::*;

    fn release(state: StateScope, ordered: Option<&str>, state_version: u32) -> Release {
        let spec = FunctionSpec {
            id: FunctionId::new("a/f"),
            state,
            state_version,
            concurrency: 1,
            when_full: WhenFull::Hold,
            ordered: ordered.map(|text| text.parse().expect("an order")),
            reserved: 0,
            pause: PausePolicy::default(),
        };
        Release {
            app: "a".to_owned(),
            revision: Digest([0; 32]),
            functions: vec![spec],
            triggers: Vec::new(),
            series: Default::default(),
        }
    }

    #[test]
    fn another_order_needs_another_state_version() {
        let device = release(StateScope::Device, None, 1);
        let topic = |version| release(StateScope::Lane, Some("topic"), version);
        let body = |version| release(StateScope::Lane, Some("body.id"), version);
        let id = FunctionId::new("a/f");
        for (live, new) in [(&device, topic(1)), (&topic(1), body(1)), (&topic(1), device.clone())]
        {
            let why = is_kept(live, &new).expect_err("state would be lost");
            assert!(why.starts_with("a/f: ") && why.contains("raise `state_version`"), "{why}");
            assert!(differs(live, &new, &id));
        }
        for (live, new) in [
            (&device, topic(2)),
            (&topic(1), topic(1)),
            (&device, release(StateScope::None, Some("topic"), 1)),
            (&device, Release { functions: Vec::new(), ..device.clone() }),
        ] {
            assert_eq!(is_kept(live, &new), Ok(()));
        }
        assert!(differs(&device, &topic(2), &id) && !differs(&topic(1), &topic(2), &id));
    }
}
