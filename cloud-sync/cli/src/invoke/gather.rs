//! Which events of a file go together in a batch.

use std::collections::VecDeque;

use edge_core::effect::Member;
use sync_protocol::manifest::Batch;

/// The first event, and of those behind it as many as a gateway would take that had them all
/// waiting: up to `size` and `bytes`, and to the first one that may not join.
pub(super) fn gather(
    first: Member,
    waiting: &mut VecDeque<Member>,
    batch: &Batch,
    joins: impl Fn(&Member, &Member) -> bool,
) -> Vec<Member> {
    let bytes_max = usize::try_from(batch.bytes_max).unwrap_or(usize::MAX);
    let mut bytes = first.event.cost_bytes();
    let mut members = vec![first];
    while members.len() < usize::from(batch.size_max)
        && let Some(next) = waiting.pop_front_if(|next| {
            bytes.saturating_add(next.event.cost_bytes()) <= bytes_max && joins(&members[0], next)
        })
    {
        bytes += next.event.cost_bytes();
        members.push(next);
    }
    members
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edge_agent::runtime::EventFile;
    use edge_core::id::JobId;

    use super::*;

    fn member(payload_bytes: usize) -> Member {
        let payload_text = Some("x".repeat(payload_bytes));
        let file = EventFile { topic: "t".to_owned(), payload_text, ..EventFile::default() };
        Member { job: JobId(1), tries: 1, event: Arc::new(file.into_event().unwrap()) }
    }

    /// Sizes of the batches that these payloads make.
    fn sizes(payloads: &[usize], batch: Batch) -> Vec<usize> {
        let mut waiting: VecDeque<Member> = payloads.iter().map(|bytes| member(*bytes)).collect();
        let mut sizes = Vec::new();
        while let Some(first) = waiting.pop_front() {
            sizes.push(gather(first, &mut waiting, &batch, |_, _| true).len());
        }
        sizes
    }

    #[test]
    fn a_batch_ends_at_its_size_and_its_bytes() {
        let batch = |size_max, bytes_max| Batch { size_max, bytes_max, ..Batch::default() };
        assert_eq!(sizes(&[0; 7], batch(3, 100_000)), [3, 3, 1]);
        // 128 bytes and a topic of one for each event.
        assert_eq!(sizes(&[171; 5], batch(10, 600)), [2, 2, 1]);
        assert_eq!(sizes(&[171; 5], batch(10, 599)), [1; 5]);
        assert_eq!(sizes(&[9_000, 0, 0], batch(10, 600)), [1, 2], "one event always fits");
    }
}
