//! Bytes in JSON for people and scripts: as JSON or text where they are, else in hexadecimal.
//!
//! One way everywhere - events, state, publishes, records - so that what one command prints
//! another one reads. JSON objects and arrays come back as the same JSON (spaces and the order of
//! keys may differ), everything else to the byte.

use serde_json::{Map, Value, json};

/// Puts `bytes` into `object` as `NAME` (JSON), `NAME_text` or `NAME_hex`.
pub fn put(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    let (suffix, value) = match (as_json(bytes), std::str::from_utf8(bytes)) {
        (Some(value), _) => ("", value),
        (None, Ok(text)) => ("_text", json!(text)),
        (None, Err(_)) => ("_hex", json!(to_hex(bytes))),
    };
    object.insert(format!("{name}{suffix}"), value);
}

/// Takes the bytes that [`put`] put there; `None` if there are none, or more than one way.
#[must_use]
pub fn take(object: &mut Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    let json = object.remove(name).map(|value| value.to_string().into_bytes());
    let text = object.remove(&format!("{name}_text"));
    let hex = object.remove(&format!("{name}_hex"));
    match (json, text, hex) {
        (Some(json), None, None) => Some(json),
        (None, Some(Value::String(text)), None) => Some(text.into_bytes()),
        (None, None, Some(Value::String(hex))) => from_hex(&hex),
        _ => None,
    }
}

/// JSON whose meaning is kept: a number with more digits than a double holds would be rounded, and
/// a lone number or string may be no JSON to who wrote it, so such bytes go as text.
fn as_json(bytes: &[u8]) -> Option<Value> {
    const DIGITS_MAX: usize = 15;
    let digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let long = bytes.split(|byte| !digit(byte)).any(|run| run.len() > DIGITS_MAX + 1);
    let value: Value = serde_json::from_slice(bytes).ok().filter(|_| !long)?;
    let is_kept = value.is_object() || value.is_array() || value.to_string().as_bytes() == bytes;
    is_kept.then_some(value)
}

/// Bytes in hexadecimal.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hexadecimal to bytes.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let nibbles: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let pairs = nibbles.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were() {
        for bytes in [
            &b"{\"a\":1}"[..],
            b"21.5",
            b"21.50",
            b" 7\n",
            b"1e3",
            b"\"\\u0061\"",
            b"hello",
            b"",
            b"\x00",
            b"\xff\x00",
        ] {
            let mut object = Map::new();
            put(&mut object, "value", bytes);
            assert_eq!(object.len(), 1);
            assert_eq!(take(&mut object, "value").as_deref(), Some(bytes), "{object:?}");
            assert!(object.is_empty());
        }
    }

    #[test]
    fn json_is_json_unless_a_number_would_suffer() {
        let name = |bytes: &[u8]| {
            let mut object = Map::new();
            put(&mut object, "value", bytes);
            object.keys().next().cloned().unwrap()
        };
        assert_eq!(name(b"{ \"b\": 1, \"a\": 21.50 }"), "value");
        assert_eq!(name(b"123456789012345"), "value");
        assert_eq!(name(b"[0.12345678901234567890]"), "value_text");
        assert_eq!(name(b"123456789012345678901234567890"), "value_text");
        assert_eq!(name(b"21,5"), "value_text");
    }

    #[test]
    fn two_ways_or_bad_hex_are_none() {
        let take = |text: &str| take(&mut serde_json::from_str(text).unwrap(), "v");
        assert_eq!(take(r#"{"v":1,"v_text":"1"}"#), None);
        assert_eq!(take(r#"{"v_hex":"0g"}"#), None);
        assert_eq!(take(r#"{"v_hex":"012"}"#), None);
        assert_eq!(take("{}"), None);
    }
}
