//! Answers of any length in bounded parts: pages of rows, pieces of one value.
//!
//! # Invariants
//! - A page and a piece fit into one reply of the sync protocol, and into one turn of the loop.
//! - Paging ends: each page but the last holds a row or moves on in the scan.
//! - Nothing is frozen between two parts. The pieces of a value carry its checksum, so that who
//!   asks sees that it changed.

use serde_json::{Map, Value, json};
use sync_protocol::limits::REPLY_BYTES_MAX;

/// Rows of one page.
pub(super) const ROWS_MAX: usize = 1_000;
/// Bytes of a page's rows as JSON.
const PAGE_BYTES_MAX: usize = REPLY_BYTES_MAX - (16 << 10);
/// Bytes of a value as JSON up to which it stands in its row; longer ones come in pieces.
const INLINE_BYTES_MAX: usize = 32 << 10;
/// Bytes of a value in one piece.
const PIECE_BYTES: usize = 64 << 10;

/// The rows of one answer.
#[derive(Debug, Default)]
pub(super) struct Page {
    rows: Vec<Value>,
    bytes: usize,
}

impl Page {
    /// Takes a row, unless the page is full.
    pub(super) fn push(&mut self, row: Value) -> bool {
        let bytes = row.to_string().len() + 1;
        if !self.rows.is_empty() && self.bytes + bytes > PAGE_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.rows.push(row);
        true
    }

    /// The answer; with `next` to ask for what is behind it.
    pub(super) fn answer(self, next: Option<Value>) -> Value {
        let mut answer = Map::new();
        answer.insert("rows".to_owned(), Value::Array(self.rows));
        answer.insert("next".to_owned(), next.unwrap_or(Value::Null));
        Value::Object(answer)
    }
}

/// Puts bytes into a row: their number as `NAME_bytes`, and themselves as `NAME` where they are short.
pub(super) fn put(row: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    row.insert(format!("{name}_bytes"), json!(bytes.len()));
    if bytes.len() <= INLINE_BYTES_MAX {
        let value = bytes_json(bytes);
        if value.to_string().len() <= INLINE_BYTES_MAX {
            row.insert(name.to_owned(), value);
        }
    }
}

/// The part of a value that begins at `offset`: `text` where the whole value is short text, else
/// `hex`; `bytes` and `crc32c` are those of the whole value.
///
/// # Errors
/// The value ends before `offset`.
pub(super) fn piece(value: &[u8], offset: u64) -> Result<Value, String> {
    let rest = usize::try_from(offset).ok().and_then(|offset| value.get(offset..));
    let rest = rest.ok_or_else(|| format!("the value has {} bytes", value.len()))?;
    let mut answer = if offset == 0 && value.len() <= INLINE_BYTES_MAX {
        bytes_json(value)
    } else {
        json!({ "hex": hex(&rest[..rest.len().min(PIECE_BYTES)]) })
    };
    answer["bytes"] = json!(value.len());
    answer["crc32c"] = json!(crc32c::crc32c(value));
    Ok(answer)
}

/// Bytes as text where they are text, else in hexadecimal.
fn bytes_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        // What JSON would escape, six bytes for one, is no text for people.
        Ok(text) if text.chars().all(|c| !c.is_control() || c.is_whitespace()) => {
            json!({ "text": text })
        }
        _ => json!({ "hex": hex(bytes) }),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("invariant: writing to a string succeeds");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_a_reply_whatever_its_rows_are() {
        for value in [vec![b'x'; 20_000], vec![1; 20_000], vec![0xff; 2_000_000], Vec::new()] {
            let mut page = Page::default();
            let mut row = Map::new();
            row.insert("key".to_owned(), json!("k".repeat(4_096)));
            put(&mut row, "value", &value);
            let mut taken = 0;
            while taken < ROWS_MAX && page.push(Value::Object(row.clone())) {
                taken += 1;
            }
            assert!(taken > 0);
            let answer = page.answer(Some(json!(["d".repeat(256), "k".repeat(4_096)]))).to_string();
            assert!(answer.len() <= REPLY_BYTES_MAX, "{}", answer.len());
        }
    }

    #[test]
    fn pieces_make_the_value() {
        let (long, control) = (vec![7; 200_000], "\u{1}".repeat(40_000));
        for value in [&b""[..], b"text", b"\xff\x00", &long, control.as_bytes()] {
            let mut whole = Vec::new();
            loop {
                let answer = piece(value, whole.len() as u64).unwrap();
                assert!(answer.to_string().len() <= REPLY_BYTES_MAX);
                assert_eq!(answer["bytes"], value.len());
                match (answer["text"].as_str(), answer["hex"].as_str()) {
                    (Some(text), None) => whole.extend(text.as_bytes()),
                    (None, Some(hex)) => whole.extend(
                        (0..hex.len())
                            .step_by(2)
                            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()),
                    ),
                    _ => panic!("{answer}"),
                }
                if whole.len() >= value.len() {
                    break;
                }
            }
            assert_eq!(whole, value);
        }
        assert!(piece(b"abc", 4).is_err());
    }
}
