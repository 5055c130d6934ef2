//! The ledger of records: which positions are stored, and what they say.
//!
//! Entries of one stream never overlap: an entry stands for `first..=seq`, and only tombstones
//! and gaps stand for more than one position.

use sync_protocol::record::{DeadLetter, DropReason, Report, Stamp, Telemetry};

use super::{GatewayId, StoreError};

/// Where a stream stands here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamRow {
    /// Which stream.
    pub stream: u8,
    /// Highest contiguous position stored.
    pub stored_to: u64,
    /// Highest position stored at all.
    pub top: u64,
    /// What the gateway last said: lowest position it keeps.
    pub gateway_first: u64,
    /// What the gateway last said: highest position it ever wrote.
    pub gateway_last: u64,
}

/// The positions an entry stands for, and what kind of entry it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// First position.
    pub first: u64,
    /// Last position: the key.
    pub seq: u64,
    /// What stands there.
    pub kind: Kind,
    /// Process run that wrote it.
    pub epoch: u64,
    /// SHA-256 of the record, its first 16 bytes; empty for a gap.
    pub digest: Vec<u8>,
}

/// Kinds of entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Telemetry.
    Telemetry,
    /// A dead letter.
    DeadLetter,
    /// A report.
    Report,
    /// Dropped by the gateway's policy.
    Tombstone(DropReason),
    /// Lost without a word.
    Gap,
}

impl Kind {
    /// Why records that once stood there will not come, as stable text; `None` where something
    /// stands, or where the gateway skipped positions that it never used.
    #[must_use]
    pub(crate) const fn loss(self) -> Option<&'static str> {
        match self {
            Self::Gap => Some("gap"),
            Self::Tombstone(DropReason::Skipped)
            | Self::Telemetry
            | Self::DeadLetter
            | Self::Report => None,
            Self::Tombstone(reason) => Some(reason.as_str()),
        }
    }

    /// Stable text.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::DeadLetter => "dead-letter",
            Self::Report => "report",
            Self::Tombstone(_) => "tombstone",
            Self::Gap => "gap",
        }
    }
}

/// Records of a stream that will not come, counted by reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LossRow {
    /// Which stream.
    pub stream: u8,
    /// Why: [`Kind::loss`] of it is a text.
    pub kind: Kind,
    /// How many positions.
    pub records: u64,
    /// When the last of them was learned of.
    pub last_ms: u64,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Telemetry.
    Telemetry(Telemetry),
    /// A dead letter.
    DeadLetter(DeadLetter),
    /// A report.
    Report(Report),
    /// Nothing: a tombstone or a gap.
    Nothing,
}

/// An entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryRow {
    /// Order of arrival, over all gateways. Ignored when it is added.
    pub id: u64,
    /// Where.
    pub place: Place,
    /// When the gateway wrote it, by its own clock of that moment.
    pub time: Stamp,
    /// When it was, where that clock was not synced and the gateway said later what time it was
    /// ([`RecordRows::put_clock`]). Ignored when it is added.
    pub corrected_ms: Option<u64>,
    /// When it was stored here.
    pub stored_ms: u64,
    /// What it says.
    pub content: Content,
}

impl EntryRow {
    /// When the gateway wrote it, as far as it is known now, in milliseconds since 1970.
    #[must_use]
    pub(crate) fn written_ms(&self) -> u64 {
        self.corrected_ms.unwrap_or(self.time.unix_ms)
    }
}

/// An entry with the gateway and stream it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The gateway's name.
    pub gateway: String,
    /// The stream.
    pub stream: u8,
    /// The entry.
    pub entry: EntryRow,
}

/// Which telemetry, dead letters or reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Of this gateway.
    pub gateway: Option<GatewayId>,
    /// Of this function (`app/function`).
    pub function: Option<String>,
    /// Of this device.
    pub device: Option<String>,
    /// Of this series.
    pub name: Option<String>,
    /// Only entries that arrived after this one.
    pub after: Option<u64>,
    /// Only entries that arrived before this one.
    pub before: Option<u64>,
    /// Newest first.
    pub newest_first: bool,
    /// At most so many.
    pub limit: u32,
}

/// Rows of records.
pub(crate) trait RecordRows {
    /// Where the streams of a gateway stand, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn streams(&self, gateway: GatewayId) -> Result<Vec<StreamRow>, StoreError>;

    /// Where one stream stands; zeroes when nothing is known.
    ///
    /// # Errors
    /// [`StoreError`].
    fn stream(&self, gateway: GatewayId, stream: u8) -> Result<StreamRow, StoreError>;

    /// Replaces it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_stream(&mut self, gateway: GatewayId, row: &StreamRow) -> Result<(), StoreError>;

    /// Places that end at or after `from`, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn places(
        &self,
        gateway: GatewayId,
        stream: u8,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Place>, StoreError>;

    /// Gaps that end at or after `from`, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn gaps(
        &self,
        gateway: GatewayId,
        stream: u8,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Place>, StoreError>;

    /// Records that will not come, by stream and reason.
    ///
    /// # Errors
    /// [`StoreError`].
    fn losses(&self, gateway: GatewayId) -> Result<Vec<LossRow>, StoreError>;

    /// Adds an entry; the caller knows that its place is free.
    ///
    /// # Errors
    /// [`StoreError`].
    fn add_entry(
        &mut self,
        gateway: GatewayId,
        stream: u8,
        entry: &EntryRow,
    ) -> Result<(), StoreError>;

    /// Stamps of a process run that are not synced are corrected from now on: at a moment its clock
    /// showed `shown_ms` and it was `true_ms`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_clock(
        &mut self,
        gateway: GatewayId,
        epoch: u64,
        shown_ms: u64,
        true_ms: u64,
    ) -> Result<(), StoreError>;

    /// Removes a gap, because it is filled or split.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete_gap(&mut self, gateway: GatewayId, stream: u8, seq: u64) -> Result<(), StoreError>;

    /// Keeps a record whose place is taken by another (`record` is postcard), once and up to a
    /// bound.
    ///
    /// # Errors
    /// [`StoreError`].
    fn add_conflict(
        &mut self,
        gateway: GatewayId,
        stream: u8,
        seq: u64,
        record: &[u8],
        now_ms: u64,
    ) -> Result<(), StoreError>;

    /// How many records are kept whose place was taken.
    ///
    /// # Errors
    /// [`StoreError`].
    fn conflict_count(&self, gateway: GatewayId) -> Result<u64, StoreError>;

    /// Entries of one stream that end at or after `from`, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn entries(
        &self,
        gateway: GatewayId,
        stream: u8,
        from: u64,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError>;

    /// Telemetry, by arrival.
    ///
    /// # Errors
    /// [`StoreError`].
    fn telemetry(&self, filter: &Filter) -> Result<Vec<Found>, StoreError>;

    /// Dead letters, by arrival.
    ///
    /// # Errors
    /// [`StoreError`].
    fn dead_letters(&self, filter: &Filter) -> Result<Vec<Found>, StoreError>;

    /// Reports, by arrival.
    ///
    /// # Errors
    /// [`StoreError`].
    fn reports(&self, filter: &Filter) -> Result<Vec<Found>, StoreError>;
}
