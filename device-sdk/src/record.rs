//! A message as the queue keeps it: a whole encoded envelope, with its topic in front.
//!
//! The envelope is encoded once, when the message is published: whenever it is sent, even after a power cut, it has the
//! same number, and the gateway knows a repeat.
//!
//! Layout: length of the topic (1 byte), topic, envelope.

use device_protocol::limits::BODY_MAX;
use device_protocol::{Envelope, Error};

use crate::device::Number;

/// Writes a record into `out`; returns its length. `envelope` without its body, which `body` writes.
///
/// The body is the last field of an envelope, so it is written in place: without a second buffer, and whatever its length.
pub(crate) fn write(
    out: &mut [u8],
    topic: &str,
    envelope: &Envelope<'_>,
    body: &mut dyn FnMut(&mut [u8]) -> Result<usize, Error>,
) -> Result<usize, Error> {
    let topic_length = u8::try_from(topic.len()).map_err(|_| Error::TooLong)?;
    let start = 1 + topic.len();
    let (head, rest) = out.split_at_mut_checked(start).ok_or(Error::NoRoom)?;
    head[0] = topic_length;
    head[1..].copy_from_slice(topic.as_bytes());

    // An empty body is one byte, its length: 0. The real length takes its place.
    let before_body = Envelope { body: &[], ..*envelope }.encode(rest)? - 1;
    let after_length = before_body + LENGTH_MAX;
    let body_length = body(rest.get_mut(after_length..).ok_or(Error::NoRoom)?)?;
    if body_length > BODY_MAX {
        return Err(Error::TooLong);
    }
    let length_bytes = write_length(&mut rest[before_body..after_length], body_length);
    rest.copy_within(after_length..after_length + body_length, before_body + length_bytes);
    Ok(start + before_body + length_bytes + body_length)
}

/// Topic and envelope of a record.
pub(crate) fn read(record: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = record.split_first()?;
    let (topic, envelope) = rest.split_at_checked(usize::from(*length))?;
    Some((core::str::from_utf8(topic).ok()?, envelope))
}

/// The number of the message in a record; none where the bytes are no record.
#[must_use]
pub fn number(record: &[u8]) -> Option<Number> {
    let (_, envelope) = read(record)?;
    let Envelope { boot, sequence, .. } = Envelope::decode(envelope).ok()?;
    Some(Number { boot, sequence })
}

/// Bytes of the longest length of a body: 16 KiB in base 128.
const LENGTH_MAX: usize = 3;

/// Writes a length as postcard does (LEB128); returns how many bytes.
fn write_length(out: &mut [u8], mut length: usize) -> usize {
    let mut at = 0;
    while length >= 0x80 {
        out[at] = 0x80 | u8::try_from(length & 0x7f).unwrap_or(0);
        length >>= 7;
        at += 1;
    }
    out[at] = u8::try_from(length).unwrap_or(0);
    at + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_protocol::{Quality, SchemaId, Timestamp};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_the_protocol_would_write(
            topic in "[a-z/]{1,128}", device in "[a-z0-9._-]{1,64}", boot: u64, sequence: u64, schema: u64, ms: u64,
            body in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                prop::collection::vec(any::<u8>(), BODY_MAX - 2..=BODY_MAX),
            ],
            room in 0_usize..17_000,
        ) {
            let time = Timestamp { quality: Quality::Synced, ms };
            let schema = SchemaId(schema);
            let envelope = Envelope { device: &device, boot, sequence, schema, time, body: &body };
            let mut expected = std::vec![0; 17_000];
            let length = envelope.encode(&mut expected).unwrap();

            let mut out = std::vec![0; room];
            let mut write_body = |out: &mut [u8]| {
                out.get_mut(..body.len()).ok_or(Error::NoRoom)?.copy_from_slice(&body);
                Ok(body.len())
            };
            match write(&mut out, &topic, &envelope, &mut write_body) {
                Ok(written) => {
                    prop_assert_eq!(read(&out[..written]), Some((&topic[..], &expected[..length])));
                    prop_assert_eq!(number(&out[..written]), Some(Number { boot, sequence }));
                }
                Err(error) => {
                    prop_assert_eq!(error, Error::NoRoom);
                    prop_assert!(room < 1 + topic.len() + length + LENGTH_MAX);
                }
            }
        }

        #[test]
        fn any_bytes_are_a_record_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some((topic, envelope)) = read(&bytes) {
                prop_assert_eq!(1 + topic.len() + envelope.len(), bytes.len());
            }
        }
    }
}
