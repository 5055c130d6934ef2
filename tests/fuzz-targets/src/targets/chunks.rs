//! Artifacts that arrive in chunks: whatever the control plane answers, the file that is put
//! together never has a hole, never exceeds its bound, and requests stay bounded.

use edge_core::time::Millis;
use sync_protocol::fetch::{Arrived, Fetch};
use sync_protocol::id::Digest;
use sync_protocol::limits::CHUNK_BYTES_MAX;
use sync_protocol::wire::Chunk;

use crate::bytes_reader::BytesReader;

/// Requests on their way at once, at most.
const REQUESTS_MAX: usize = 4;

pub(super) fn run(bytes: &[u8]) {
    let mut reader = BytesReader::new(bytes);
    let (mut have, bytes_max) = (u64::from(reader.byte()), u64::from(reader.u16()) * 64);
    have = have.min(bytes_max);
    let digest = Digest::of(b"wanted");
    let mut now = Millis(0);
    let mut fetch = Fetch::new(digest, have, bytes_max, now);
    while !reader.is_empty() {
        match reader.byte() % 4 {
            0 => {
                let mut asked = 0;
                while let Some(request) = fetch.next_request() {
                    assert_eq!(request.digest, digest);
                    assert!(request.offset >= have, "what is here is not asked for again");
                    assert!(request.len <= CHUNK_BYTES_MAX);
                    asked += 1;
                    assert!(asked <= REQUESTS_MAX, "requests are bounded");
                }
            }
            1 => {
                let offset = if reader.byte().is_multiple_of(2) { have } else { reader.u64() };
                let total = if reader.byte().is_multiple_of(2) { bytes_max } else { reader.u64() };
                let len = usize::from(reader.byte());
                let digest =
                    if reader.byte().is_multiple_of(8) { Digest::of(b"other") } else { digest };
                let chunk = Chunk { digest, offset, total, bytes: reader.take(len).to_vec() };
                match fetch.arrived(&chunk, now) {
                    Arrived::Ignored => {}
                    Arrived::Bad(_) => return,
                    end @ (Arrived::Append | Arrived::Complete) => {
                        assert_eq!(chunk.offset, have, "no hole");
                        have += chunk.bytes.len() as u64;
                        assert!(have <= bytes_max, "{have} of at most {bytes_max}");
                        if end == Arrived::Complete {
                            assert_eq!(have, chunk.total);
                            return;
                        }
                    }
                }
            }
            2 => fetch.rewind(now),
            _ => {
                now = now + Millis(u64::from(reader.u16()));
                fetch.tick(now);
            }
        }
    }
}
