//! Fetching one artifact in chunks: resumable at any byte, re-asked after silence.

use edge_core::time::Millis;

use crate::id::Digest;
use crate::limits::CHUNK_BYTES_MAX;
use crate::wire::{Chunk, ChunkRequest};

/// Chunks on their way at once.
const CHUNKS_MAX: u64 = 4;
/// Silence after which chunks are asked for again.
const ASK_AGAIN_AFTER: Millis = Millis(10_000);
/// Chunk length asked for.
const CHUNK: u64 = CHUNK_BYTES_MAX as u64;

/// A fetch in progress.
#[derive(Debug)]
pub struct Fetch {
    digest: Digest,
    bytes_max: u64,
    have: u64,
    asked_to: u64,
    total: Option<u64>,
    progress_at: Millis,
}

/// What a chunk came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Not what was waited for: a repeat, or of another artifact.
    Ignored,
    /// Append the chunk's bytes.
    Append,
    /// Append the chunk's bytes: that was the last.
    Complete,
    /// The control plane contradicts itself or exceeds the bound.
    Bad(&'static str),
}

impl Fetch {
    /// Fetches `digest`, of which `have` bytes are on disk already.
    #[must_use]
    pub fn new(digest: Digest, have: u64, bytes_max: u64, now: Millis) -> Self {
        Self { digest, bytes_max, have, asked_to: have, total: None, progress_at: now }
    }

    /// What is being fetched.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// A new connection: what was asked for will not come.
    pub fn rewind(&mut self, now: Millis) {
        self.asked_to = self.have;
        self.progress_at = now;
    }

    /// The next request to send, if one may be sent.
    pub fn next_request(&mut self) -> Option<ChunkRequest> {
        // Until the length is known one chunk is enough to learn it.
        let end = self.total.unwrap_or(self.have + CHUNK);
        let open = self.asked_to.saturating_sub(self.have).div_ceil(CHUNK);
        let first = self.total.is_none() && self.asked_to == self.have;
        if open >= CHUNKS_MAX || (self.asked_to >= end && !first) {
            return None;
        }
        let request =
            ChunkRequest { digest: self.digest, offset: self.asked_to, len: CHUNK_BYTES_MAX };
        self.asked_to = (self.asked_to + CHUNK).min(end);
        Some(request)
    }

    /// Judges a chunk; the caller appends the bytes as told.
    pub fn arrived(&mut self, chunk: &Chunk, now: Millis) -> Arrived {
        if chunk.digest != self.digest || chunk.offset != self.have {
            return Arrived::Ignored;
        }
        if chunk.total > self.bytes_max {
            return Arrived::Bad("it is larger than allowed");
        }
        if self.total.is_some_and(|total| total != chunk.total) {
            return Arrived::Bad("its length changed");
        }
        let end = self.have + chunk.bytes.len() as u64;
        if end > chunk.total || (chunk.bytes.is_empty() && end != chunk.total) {
            return Arrived::Bad("a chunk does not fit its length");
        }
        self.total = Some(chunk.total);
        self.have = end;
        self.asked_to = self.asked_to.max(end);
        self.progress_at = now;
        if end == chunk.total { Arrived::Complete } else { Arrived::Append }
    }

    /// When it will ask again by itself.
    #[must_use]
    pub fn deadline(&self) -> Millis {
        self.progress_at + ASK_AGAIN_AFTER
    }

    /// Asks again where there was silence too long.
    pub fn tick(&mut self, now: Millis) {
        if self.deadline() <= now {
            self.rewind(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(whole: &[u8], request: &ChunkRequest) -> Chunk {
        let start = usize::try_from(request.offset).expect("small");
        let end = whole.len().min(start + request.len as usize);
        Chunk {
            digest: request.digest,
            offset: request.offset,
            total: whole.len() as u64,
            bytes: whole[start..end].to_vec(),
        }
    }

    #[test]
    fn a_fetch_survives_lost_chunks_and_new_connections() {
        let whole: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let digest = Digest::of(&whole);
        let mut fetch = Fetch::new(digest, 0, 1 << 20, Millis(0));
        let (mut got, mut lost, mut now) = (Vec::new(), 0, Millis(0));
        for _ in 0..1_000 {
            let requests: Vec<_> = std::iter::from_fn(|| fetch.next_request()).collect();
            assert!(requests.len() <= 4);
            if requests.is_empty() {
                now = now + ASK_AGAIN_AFTER;
                fetch.tick(now);
                continue;
            }
            for request in requests {
                lost += 1;
                // Two coprime periods: the loss never keeps step with the requests.
                if lost % 5 == 0 || lost % 7 == 0 {
                    continue;
                }
                let chunk = serve(&whole, &request);
                match fetch.arrived(&chunk, now) {
                    Arrived::Ignored => {}
                    Arrived::Bad(why) => panic!("{why}"),
                    Arrived::Append => got.extend(chunk.bytes),
                    Arrived::Complete => {
                        got.extend(chunk.bytes);
                        assert_eq!(got, whole);
                        return;
                    }
                }
            }
        }
        panic!("the fetch did not complete");
    }

    #[test]
    fn an_empty_or_already_complete_artifact_completes() {
        let mut fetch = Fetch::new(Digest::of(b""), 0, 10, Millis(0));
        let request = fetch.next_request().expect("one request");
        assert_eq!(fetch.arrived(&serve(b"", &request), Millis(0)), Arrived::Complete);
        let mut fetch = Fetch::new(Digest::of(b"abc"), 3, 10, Millis(0));
        let request = fetch.next_request().expect("one request");
        assert_eq!(fetch.arrived(&serve(b"abc", &request), Millis(0)), Arrived::Complete);
    }

    #[test]
    fn contradictions_are_refused() {
        let mut fetch = Fetch::new(Digest::of(b"abc"), 0, 2, Millis(0));
        let request = fetch.next_request().expect("one request");
        assert!(matches!(fetch.arrived(&serve(b"abc", &request), Millis(0)), Arrived::Bad(_)));
        let mut chunk = serve(b"ab", &request);
        chunk.total = 1;
        assert!(matches!(fetch.arrived(&chunk, Millis(0)), Arrived::Bad(_)));
        chunk.bytes.clear();
        assert!(matches!(fetch.arrived(&chunk, Millis(0)), Arrived::Bad(_)));
    }
}
