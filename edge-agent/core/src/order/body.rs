//! A scalar in a JSON body, read without building the body.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::limits::LANE_BODY_BYTES_MAX;

/// The scalar at `path` as text. Of a repeated name the last one counts, as most readers of JSON
/// do it. `None`: there is none, or the body is not JSON (RFC 8259) or too long.
pub(super) fn key(body: &[u8], path: &[String]) -> Option<String> {
    if body.len() > LANE_BODY_BYTES_MAX {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let found = At(path).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    found
}

/// The value at a path from here.
struct At<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl At<'_> {
    fn scalar<E>(&self, text: impl FnOnce() -> String) -> Result<Option<String>, E> {
        Ok(self.0.is_empty().then(text))
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        self.scalar(|| text.to_owned())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        self.scalar(|| value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        self.scalar(|| value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        self.scalar(|| value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        // Minus zero is zero. A whole number is written without a fraction.
        self.scalar(|| (value + 0.0).to_string())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (name, rest) = self.0.split_first().map_or((None, self.0), |(n, r)| (Some(n), r));
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if Some(&key) == name {
                found = map.next_value_seed(At(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
