//! A record of the journal: one batch.
//!
//! ```text
//! offset size  little-endian
//!      0    4  magic "HBCH"
//!      4    4  length of the body in bytes
//!      8    8  number of the batch
//!     16    4  CRC32C, see below
//!     20    4  zero
//!     24    1  form of the body: 0 here, 1 elsewhere
//!     25       body, if it is here: postcard of (gateway time: u64, operations: [Op])
//!              zeros up to a multiple of 8 bytes
//! ```
//!
//! A batch too long for a segment stands elsewhere: its rows go to the checkpoint in one
//! transaction. A record of that form is only the announcement, and counts if the checkpoint holds
//! the batch.
//!
//! The CRC goes over the identity of the store (8 bytes), the number of the segment's life (8),
//! bytes 4..16 of the record and the body. A record of another store or of an earlier life of its
//! segment thus never passes, though neither number is stored with it.

use edge_core::id::BatchSeq;
use edge_core::time::Millis;

use super::Batch;
use super::op::Op;
use super::segment::Header;

pub(super) const HEADER_BYTES: usize = 24;
const MAGIC: &[u8; 4] = b"HBCH";
const HERE: u8 = 0;
const ELSEWHERE: u8 = 1;
const ALIGN: usize = 8;
/// How far ahead of the due number a record may be to tell of damage before it.
const AHEAD_MAX: u64 = 1 << 20;

/// Encodes a batch into `out`, all but what depends on the segment ([`seal`]).
pub(super) fn encode(batch: &Batch, out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
    out.push(HERE);
    let body = (batch.gateway_time, &batch.ops);
    *out = postcard::to_extend(&body, std::mem::take(out))
        .expect("invariant: operations have known lengths, which is all that postcard asks");
    finish(batch.seq, out);
}

/// Encodes the announcement of a batch that stands elsewhere.
pub(super) fn encode_elsewhere(seq: BatchSeq, out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
    out.push(ELSEWHERE);
    finish(seq, out);
}

/// Whether a body is only the announcement of its batch.
pub(super) fn is_elsewhere(body: &[u8]) -> bool {
    body == [ELSEWHERE]
}

/// Fills in the header, pads the end.
fn finish(seq: BatchSeq, out: &mut Vec<u8>) {
    // A length that does not fit is far over the limit of a batch, which the caller checks.
    let length = u32::try_from(out.len() - HEADER_BYTES).unwrap_or(u32::MAX);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    out[..4].copy_from_slice(MAGIC);
    out[4..8].copy_from_slice(&length.to_le_bytes());
    out[8..16].copy_from_slice(&seq.0.to_le_bytes());
}

/// Completes an encoded batch for the segment it goes to.
pub(super) fn seal(record: &mut [u8], life: &Header) {
    let length = body_len(record).expect("invariant: encoded just before");
    let crc = crc(record, length, life);
    record[16..20].copy_from_slice(&crc.to_le_bytes());
}

fn body_len(record: &[u8]) -> Option<usize> {
    let length = record.get(4..8)?.try_into().ok().map(u32::from_le_bytes)?;
    usize::try_from(length).ok()
}

fn crc(record: &[u8], body_len: usize, life: &Header) -> u32 {
    let crc = crc32c::crc32c(&life.store_id.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &life.number.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &record[4..16]);
    crc32c::crc32c_append(crc, &record[HEADER_BYTES..HEADER_BYTES + body_len])
}

/// A record found in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) seq: u64,
    pub(super) body: &'a [u8],
    /// Bytes it takes in the segment.
    pub(super) len: usize,
}

/// Reads the record at the start of `bytes`, if a whole one of this life stands there.
pub(super) fn read<'a>(bytes: &'a [u8], life: &Header) -> Option<Record<'a>> {
    if bytes.get(..4)? != MAGIC {
        return None;
    }
    let length = body_len(bytes)?;
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(length)?)?;
    let stored = bytes.get(16..20)?.try_into().ok().map(u32::from_le_bytes)?;
    (stored == crc(bytes, length, life)).then_some(())?;
    let seq = seq_of(bytes)?;
    Some(Record { seq, body, len: (HEADER_BYTES + length).next_multiple_of(ALIGN) })
}

fn seq_of(record: &[u8]) -> Option<u64> {
    record.get(8..16)?.try_into().ok().map(u64::from_le_bytes)
}

/// Bytes of a record that was begun at the start of `bytes` and not finished; 0 if none was.
pub(super) fn torn_bytes(bytes: &[u8], due: u64) -> usize {
    if bytes.get(..4) != Some(MAGIC) || seq_of(bytes) != Some(due) {
        return 0;
    }
    body_len(bytes).map_or(HEADER_BYTES, |len| len.saturating_add(HEADER_BYTES)).min(bytes.len())
}

/// Looks behind the end of the readable records for one that is ahead of the due number: it tells
/// that the end is damage and not the end. (The next record is only written when the one before
/// it is durable, so a torn write is never followed by a whole one.)
pub(super) fn find_ahead(bytes: &[u8], life: &Header, due: u64) -> Option<u64> {
    (ALIGN..bytes.len()).step_by(ALIGN).find_map(|at| {
        let rest = &bytes[at..];
        let seq = seq_of(rest).filter(|_| rest.starts_with(MAGIC))?;
        let ahead = seq > due && seq - due <= AHEAD_MAX;
        ahead.then(|| read(rest, life)).flatten().map(|record| record.seq)
    })
}

/// Decodes a body.
pub(super) fn decode(seq: u64, body: &[u8]) -> Option<Batch> {
    let (&form, body) = body.split_first()?;
    let (gateway_time, ops): (Millis, Vec<Op>) =
        (form == HERE).then(|| postcard::from_bytes(body).ok())??;
    Some(Batch { seq: BatchSeq(seq), gateway_time, ops })
}
