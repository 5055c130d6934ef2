//! State carried over by the function's own `migrate`.

use bytes::Bytes;
use edge_core::id::DeviceId;
use edge_core::outcome::FaultKind;

use super::harness::prepare;

fn entries(n: &str) -> Vec<(String, Bytes)> {
    vec![("n".to_owned(), Bytes::copy_from_slice(n.as_bytes()))]
}

#[test]
fn the_export_is_detected() {
    assert!(prepare("counter_v2").can_migrate());
    assert!(!prepare("counter").can_migrate());
}

#[test]
fn old_entries_become_new_ones() {
    let v2 = prepare("counter_v2");
    let new = v2.migrate(1, Some(&DeviceId::new("m1")), entries("7")).unwrap();
    // 70 in postcard.
    assert_eq!(new, [("total".to_owned(), Bytes::from_static(&[70]))]);
    assert_eq!(v2.migrate(1, None, Vec::new()).unwrap(), []);
}

#[test]
fn what_goes_wrong_is_told() {
    let v2 = prepare("counter_v2");
    let failed = |device: &str, n: &str| {
        v2.migrate(1, Some(&DeviceId::new(device)), entries(n)).unwrap_err()
    };
    let cases = [
        (failed("panics", "1"), FaultKind::Trap, "migrate panics on purpose"),
        (failed("refuses", "1"), FaultKind::Trap, "`migrate` refused: cannot read version 1"),
        (failed("publishes", "1"), FaultKind::Denied, "`publish` must not be called in `migrate`"),
        (failed("twice", "1"), FaultKind::Outputs, "returned a key twice"),
        (failed("m1", "x"), FaultKind::Trap, "`migrate` refused: expected value"),
    ];
    for (fault, kind, words) in cases {
        assert_eq!(fault.kind, kind, "{}", fault.message);
        assert!(fault.message.contains(words), "{}", fault.message);
    }
}

#[test]
fn a_whole_functions_worth_of_state_passes() {
    let v2 = prepare("counter_v2");
    let large = vec![
        ("n".to_owned(), Bytes::from_static(b"3")),
        ("blob".to_owned(), Bytes::from(vec![b' '; 4 << 20])),
    ];
    let new = v2.migrate(1, None, large).unwrap();
    assert_eq!(new[0].1, Bytes::from_static(&[30]));
}
