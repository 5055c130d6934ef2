//! Reading the outbox for the core, which keeps no records.

use edge_core::id::{RecordSeq, StreamId};
use edge_core::input::Input;
use sync_protocol::limits::RECORDS_PER_MESSAGE_MAX;

use super::gateway::Gateway;

impl Gateway {
    /// Some records of a run have outlived their time to live: the core wants to know which.
    pub(super) fn read_run(&mut self, stream: StreamId, first: RecordSeq, last: RecordSeq) {
        match self.reader.outbox_summaries(stream, first, last) {
            Ok(rows) => self.with_core(Input::RunRead { stream, first, rows }),
            // The core asks again.
            Err(error) => tracing::error!(%error, "expired records cannot be read yet"),
        }
    }

    /// The control plane holds other records at these positions: an older copy of this store, or of
    /// this machine, was started. What stands here goes again at positions of its own.
    pub(super) fn renumber(&mut self, stream: u8, positions: &[u64]) {
        let stream = StreamId(stream);
        let mut records = Vec::new();
        for seq in positions.iter().take(RECORDS_PER_MESSAGE_MAX) {
            match self.reader.outbox_record(stream, RecordSeq(*seq)) {
                Ok(record) => records.extend(record.map(|mut record| {
                    let (from, to) = (record.epoch, self.epoch);
                    record.time = self.timeline.carried(record.time, from, to);
                    record
                })),
                // Not receipted, so the control plane says it again.
                Err(error) => return tracing::error!(%error, "records cannot be read yet"),
            }
        }
        tracing::warn!(
            stream = stream.0,
            records = records.len(),
            "the control plane holds records of another life of this store; these go again"
        );
        self.with_core(Input::Renumber { records });
    }
}
