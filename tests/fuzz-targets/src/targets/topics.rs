//! Topics and filters, of the core and of the sync protocol: two readers of one grammar.

use edge_core::topic::{Topic, TopicFilter};
use sync_protocol::filter as manifest;

use crate::bytes_reader::BytesReader;

/// Matching, covering and overlapping agree with each other, and the two implementations with one
/// another.
pub(super) fn run(bytes: &[u8]) {
    let mut reader = BytesReader::new(bytes);
    let mut text = || {
        let len = usize::from(reader.byte() % 32);
        std::str::from_utf8(reader.take(len)).ok()
    };
    let (Some(a), Some(b), Some(topic)) = (text(), text(), text()) else { return };
    let (Ok(a), Ok(b)) = (TopicFilter::new(a), TopicFilter::new(b)) else { return };
    assert!(a.covers(&a) && a.overlaps(&a), "{a:?} covers itself");
    assert_eq!(a.overlaps(&b), b.overlaps(&a), "{a:?} {b:?}");
    if a.covers(&b) {
        assert!(a.overlaps(&b), "{a:?} covers {b:?}");
    }
    let in_manifests = |filter: &TopicFilter| manifest::check_filter(filter.as_str()).is_ok();
    let both = in_manifests(&a) && in_manifests(&b);
    if both {
        let theirs = manifest::overlap(a.as_str(), b.as_str());
        assert_eq!(a.overlaps(&b), theirs, "{a:?} {b:?}");
    }
    let Ok(topic) = Topic::new(topic) else { return };
    let (in_a, in_b) = (a.matches(&topic), b.matches(&topic));
    if in_a && in_b {
        assert!(a.overlaps(&b), "{topic:?} is in {a:?} and {b:?}");
    }
    if in_b && a.covers(&b) {
        assert!(in_a, "{topic:?} is in {b:?}, which {a:?} covers");
    }
    if both {
        assert_eq!(in_a, manifest::matches(a.as_str(), topic.as_str()), "{topic:?} {a:?}");
    }
}
