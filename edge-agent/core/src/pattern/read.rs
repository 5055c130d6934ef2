//! Reads a payload along the named fields; all others are skipped.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::number::Number;
use super::position::Position;
use super::value::Scalar;

/// Bits of a field that holds a payload; `None`: it is not JSON, or too much to look at.
pub(super) fn body(field: &Position, payload: &[u8], work: &Cell<u64>) -> Option<u64> {
    let mut json = serde_json::Deserializer::from_slice(payload);
    let bits = At { field, work }.deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(bits)
}

/// Bits of the user properties, as an object of texts and arrays of texts.
pub(super) fn properties(
    field: &Position,
    properties: &[(String, String)],
    work: &Cell<u64>,
) -> Option<u64> {
    let mut below: Vec<Option<u64>> = vec![None; field.children.len()];
    for (name, value) in properties {
        if let Some(index) = field.names.get(name) {
            let bits = field.children[*index].scalar(Scalar::Text(value), work)?;
            below[*index] = Some(below[*index].unwrap_or_default() | bits);
        }
    }
    let absent = field.children.iter().map(|child| child.absent);
    let below: Vec<u64> =
        below.into_iter().zip(absent).map(|(bits, absent)| bits.unwrap_or(absent)).collect();
    field.object(&below, work)
}

/// A value at a named field.
#[derive(Clone, Copy)]
struct At<'p> {
    field: &'p Position,
    work: &'p Cell<u64>,
}

impl At<'_> {
    fn scalar<E: Error>(self, value: Scalar<'_>) -> Result<u64, E> {
        self.field.scalar(value, self.work).ok_or_else(too_much)
    }
}

fn too_much<E: Error>() -> E {
    E::custom("more at the named fields than a filter looks at")
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<u64, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<u64, E> {
        self.scalar(Scalar::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<u64, E> {
        self.scalar(Scalar::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        self.scalar(Scalar::Number(Number::Whole(value.into())))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        self.scalar(Scalar::Number(Number::Whole(value.into())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<u64, E> {
        self.scalar(Scalar::Number(Number::real(value)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        self.scalar(Scalar::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<u64, A::Error> {
        let mut all = None;
        while let Some(bits) = array.next_element_seed(self)? {
            all = Some(all.unwrap_or_default() | bits);
        }
        Ok(all.unwrap_or_else(|| self.field.empty_array()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<u64, A::Error> {
        let children = &self.field.children;
        let mut below: Vec<u64> = children.iter().map(|child| child.absent).collect();
        while let Some(index) = object.next_key_seed(Key(self.field))? {
            match index {
                Some(index) => {
                    let at = At { field: &children[index], work: self.work };
                    below[index] = object.next_value_seed(at)?;
                }
                None => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        self.field.object(&below, self.work).ok_or_else(too_much)
    }
}

/// Index of a named field.
struct Key<'p>(&'p Position);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<usize>, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.names.get(name).copied())
    }
}
