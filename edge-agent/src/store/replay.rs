//! Reads a journal at start: which segments count, and whether they are whole.
//!
//! The segments that count begin with the one that holds the first batch the checkpoint lacks, and
//! go on in the order of their lives without a gap. Everything else is older. Within a segment the
//! records follow each other without a gap; only the last segment may end in a torn record.

use super::Batch;
use super::error::OpenError;
use super::journal::Slots;
use super::record;
use super::segment::{self, Found, HEADER_BYTES, Header};

/// What was found.
#[derive(Debug)]
pub(super) struct Replayed {
    /// Last batch that is in the checkpoint or the journal.
    pub(super) last: u64,
    pub(super) batches: u64,
    pub(super) torn_bytes: u64,
}

/// Reads every batch after `checkpointed`, in order. Fills in `slots.number` and `slots.in_use`.
pub(super) fn replay(
    slots: &mut Slots,
    checkpointed: u64,
    mut take: impl FnMut(Batch),
) -> Result<Replayed, OpenError> {
    let lives = read_headers(slots)?;
    let mut replayed = Replayed { last: checkpointed, batches: 0, torn_bytes: 0 };
    let Some((_, newest)) = lives.last() else {
        if checkpointed > 0 {
            return Err(damaged("all segments are blank, and the checkpoint says otherwise"));
        }
        return Ok(replayed);
    };
    slots.number = newest.number;
    let begin = lives.iter().rposition(|(_, life)| life.first <= checkpointed + 1);
    let Some(begin) = begin else {
        let journal = lives.iter().map(|(_, life)| life.first).min().unwrap_or_default();
        return Err(OpenError::StaleCheckpoint { checkpoint: checkpointed, journal });
    };
    let chain = &lives[begin..];
    let mut bytes = vec![0; slots.segment_bytes];
    for (at, (slot, life)) in chain.iter().enumerate() {
        let next = chain.get(at + 1).map(|(_, next)| *next);
        if let Some(next) = next
            && next.number != life.number + 1
        {
            let what = format!("the segments between {} and {} are gone", life.number, next.number);
            return Err(OpenError::Damaged { what });
        }
        read_file(slots, *slot, &mut bytes)?;
        // What is read may be in the page cache only, and the checkpoint will rest on it: after a
        // power cut the journal must not end before the checkpoint does.
        let synced = slots.files[*slot].sync_data();
        synced.map_err(OpenError::io(format!("syncing {}", segment::file_name(*slot))))?;
        let end = read_segment(&bytes, life, checkpointed, &mut |batch| {
            replayed.batches += 1;
            take(batch);
        })?;
        let whole = next.is_none_or(|next| next.first == end.due);
        if !whole || end.ahead.is_some() {
            return Err(OpenError::Damaged {
                what: format!(
                    "{} cannot be read at byte {}, where batch {} belongs",
                    segment::file_name(*slot),
                    end.offset,
                    end.due
                ),
            });
        }
        replayed.torn_bytes = end.torn_bytes as u64;
        replayed.last = end.due - 1;
        if end.due - 1 > checkpointed {
            slots.in_use.push((*slot, end.due - 1));
        }
    }
    if replayed.last < checkpointed {
        return Err(OpenError::StaleJournal { checkpoint: checkpointed, journal: replayed.last });
    }
    Ok(replayed)
}

fn damaged(what: &str) -> OpenError {
    OpenError::Damaged { what: what.into() }
}

/// The lives of all slots in the order of their numbers.
pub(super) fn read_headers(slots: &Slots) -> Result<Vec<(usize, Header)>, OpenError> {
    let mut lives = Vec::new();
    let mut torn = Vec::new();
    for (slot, file) in slots.files.iter().enumerate() {
        let name = segment::file_name(slot);
        let mut bytes = [0; HEADER_BYTES];
        file.read_at(0, &mut bytes).map_err(OpenError::io(format!("reading {name}")))?;
        match segment::judge(&name, &bytes, slots.store_id)? {
            Found::Blank => {}
            Found::Life(life) => lives.push((slot, life)),
            Found::Torn => torn.push(slot),
        }
    }
    lives.sort_by_key(|(_, life)| life.number);
    if let Some(pair) = lives.windows(2).find(|pair| pair[0].1.number == pair[1].1.number) {
        let what = format!(
            "{} and {} claim to be the same segment",
            segment::file_name(pair[0].0),
            segment::file_name(pair[1].0)
        );
        return Err(OpenError::Damaged { what });
    }
    for slot in torn {
        check_torn(slots, slot, lives.last().map_or(0, |(_, life)| life.number))?;
    }
    Ok(lives)
}

/// A torn header is a crash while the life after the newest began, before its first record. With
/// a record behind it, it is damage.
fn check_torn(slots: &Slots, slot: usize, newest: u64) -> Result<(), OpenError> {
    let mut bytes = vec![0; slots.segment_bytes];
    read_file(slots, slot, &mut bytes)?;
    let life = Header { store_id: slots.store_id, number: newest + 1, first: 0 };
    if record::read(&bytes[HEADER_BYTES..], &life).is_some() {
        let what = format!("the header of {} cannot be read", segment::file_name(slot));
        return Err(OpenError::Damaged { what });
    }
    Ok(())
}

fn read_file(slots: &Slots, slot: usize, bytes: &mut [u8]) -> Result<(), OpenError> {
    let step = || format!("reading {}", segment::file_name(slot));
    slots.files[slot].read_at(0, bytes).map_err(|error| OpenError::io(step())(error))
}

/// Where the readable records of a segment end.
struct End {
    offset: usize,
    /// The batch that would come next.
    due: u64,
    torn_bytes: usize,
    /// A batch behind the end that shows that the end is damage.
    ahead: Option<u64>,
}

fn read_segment(
    bytes: &[u8],
    life: &Header,
    checkpointed: u64,
    take: &mut dyn FnMut(Batch),
) -> Result<End, OpenError> {
    let mut offset = HEADER_BYTES;
    let mut due = life.first;
    while let Some(found) = record::read(&bytes[offset..], life) {
        if found.seq != due {
            let what = format!("batch {} stands where batch {due} belongs", found.seq);
            return Err(OpenError::Damaged { what });
        }
        if found.seq > checkpointed && record::is_elsewhere(found.body) {
            // The announcement of a batch that never came: nobody was told of it.
            break;
        }
        if found.seq > checkpointed {
            let batch = record::decode(found.seq, found.body).ok_or_else(|| {
                let what = format!("batch {due} is whole but holds unknown operations");
                OpenError::Damaged { what }
            })?;
            take(batch);
        }
        offset += found.len;
        due += 1;
        if offset >= bytes.len() {
            break;
        }
    }
    let rest = bytes.get(offset..).unwrap_or_default();
    Ok(End {
        offset,
        due,
        torn_bytes: record::torn_bytes(rest, due),
        ahead: record::find_ahead(rest, life, due),
    })
}
