//! Reading the data types of 1.5 from the body of one packet.

use bytes::{Buf, Bytes};

use super::DecodeError;
use super::error::NULL_CHARACTER;

const TRUNCATED: DecodeError = DecodeError::malformed("a field is longer than its packet");

/// A cursor over the body of a packet.
pub(super) struct Reader {
    buf: Bytes,
}

impl Reader {
    pub(super) fn new(buf: Bytes) -> Self {
        Self { buf }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// 1.5.1 a byte.
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.buf.try_get_u8().map_err(|_| TRUNCATED)
    }

    /// 1.5.2 two byte integer.
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.buf.try_get_u16().map_err(|_| TRUNCATED)
    }

    /// 1.5.3 four byte integer.
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.buf.try_get_u32().map_err(|_| TRUNCATED)
    }

    /// 1.5.5 variable byte integer, as part of a body.
    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        let Some((value, bytes)) = varint(&self.buf, true)? else { return Err(TRUNCATED) };
        self.buf.advance(bytes);
        Ok(value)
    }

    /// 1.5.6 binary data, as a slice of the packet.
    pub(super) fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let len = usize::from(self.u16()?);
        self.take(len)
    }

    /// 1.5.4 UTF-8 encoded string.
    pub(super) fn string(&mut self) -> Result<String, DecodeError> {
        self.with_str(|text| Ok(text.to_owned()))
    }

    /// A string for which there is no use: checked and passed over.
    pub(super) fn skip_string(&mut self) -> Result<(), DecodeError> {
        self.with_str(|_| Ok(()))
    }

    /// A string, before it is copied.
    pub(super) fn with_str<T>(
        &mut self,
        make: impl FnOnce(&str) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let len = usize::from(self.u16()?);
        let bytes = self.buf.get(..len).ok_or(TRUNCATED)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| DecodeError::malformed("[MQTT-1.5.4-1] a string is not UTF-8"))?;
        if bytes.contains(&0) {
            return Err(NULL_CHARACTER);
        }
        let value = make(text)?;
        self.buf.advance(len);
        Ok(value)
    }

    /// The next `len` bytes, as a slice of the packet.
    pub(super) fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.buf.len() {
            return Err(TRUNCATED);
        }
        Ok(self.buf.split_to(len))
    }

    /// All that is left.
    pub(super) fn rest(self) -> Bytes {
        self.buf
    }

    /// The end of a packet: nothing may follow.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.buf.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::malformed("bytes after the last field of a packet"))
        }
    }
}

/// A variable byte integer at the start of `bytes` and its length; `None` if it is not complete.
///
/// `minimal` demands the shortest form [MQTT-1.5.5-1], a rule of version 5 only.
pub(super) fn varint(bytes: &[u8], minimal: bool) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            if minimal && at > 0 && byte == 0 {
                return Err(DecodeError::malformed(
                    "[MQTT-1.5.5-1] overlong variable byte integer",
                ));
            }
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(DecodeError::malformed("1.5.5 variable byte integer of more than four bytes"));
    }
    Ok(None)
}
