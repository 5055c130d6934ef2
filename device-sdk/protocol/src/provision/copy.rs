//! The two copies in flash: writing, reading, which one counts.

use core::fmt;

use postcard::ser_flavors::Flavor;

use super::{COPY_BYTES, Provision, VERSION};
use crate::{Error, codec};

const MAGIC: [u8; 4] = *b"HLMP";
const HEAD: usize = 11;
const CHECKSUM: usize = 4;

/// Bytes of both copies, as `holm device add` writes them.
pub const IMAGE_BYTES: usize = 2 * COPY_BYTES;

/// Why a copy does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Nothing was ever written: all bytes are those of erased flash, or there are none.
    Blank,
    /// It does not begin as a copy does.
    NotACopy,
    /// Another version of the format.
    Version(u8),
    /// It is cut off, or its checksum is wrong: a write was interrupted, or the flash decays.
    Torn,
    /// The checksum is right and the body is not as it should be.
    Body(Error),
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("blank: write what `holm device add` made"),
            Self::NotACopy => f.write_str("not a provisioning blob"),
            Self::Version(found) => {
                write!(f, "version {found} of the format; this side reads version {VERSION}")
            }
            Self::Torn => f.write_str("cut off or changed: the checksum does not match"),
            Self::Body(error) => write!(f, "the checksum matches, the content is wrong: {error}"),
        }
    }
}

impl core::error::Error for Bad {}

/// The copy that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// What it says.
    pub provision: Provision<'a>,
    /// Its generation.
    pub generation: u32,
    /// Which one it is: 0 or 1.
    pub copy: usize,
}

impl Found<'_> {
    /// Where the next one goes: which copy, and its generation. None after the last generation.
    #[must_use]
    pub fn next(&self) -> Option<(usize, u32)> {
        Some((1 - self.copy, self.generation.checked_add(1)?))
    }
}

/// Writes a copy; returns its length.
///
/// # Errors
/// What is wrong with the value, and [`Error::NoRoom`] if it does not fit into `out` or into [`COPY_BYTES`].
pub fn encode(provision: &Provision<'_>, generation: u32, out: &mut [u8]) -> Result<usize, Error> {
    provision.check()?;
    let room = out.len().min(COPY_BYTES);
    let out = &mut out[..room];
    if room < HEAD + CHECKSUM {
        return Err(Error::NoRoom);
    }
    let length = codec::body(provision, &mut out[HEAD..room - CHECKSUM])?;
    let length_field = u16::try_from(length).map_err(|_| Error::NoRoom)?;
    out[..4].copy_from_slice(&MAGIC);
    out[4] = VERSION;
    out[5..9].copy_from_slice(&generation.to_le_bytes());
    out[9..HEAD].copy_from_slice(&length_field.to_le_bytes());
    let end = HEAD + length;
    let sum = crc32c(&out[..end]);
    out[end..end + CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    Ok(end + CHECKSUM)
}

/// Writes both copies, alike but for the generation, each [`COPY_BYTES`] long: what is flashed into a new device.
///
/// # Errors
/// As [`encode`].
pub fn encode_image(
    provision: &Provision<'_>,
    generation: u32,
    image: &mut [u8; IMAGE_BYTES],
) -> Result<(), Error> {
    image.fill(0xFF);
    let (first, second) = image.split_at_mut(COPY_BYTES);
    encode(provision, generation.checked_add(1).ok_or(Error::Malformed)?, first)?;
    encode(provision, generation, second)?;
    Ok(())
}

/// Reads a copy that begins where `bytes` does, and its generation.
///
/// # Errors
/// Why it does not count.
pub fn decode(bytes: &[u8]) -> Result<(Provision<'_>, u32), Bad> {
    let bytes = &bytes[..bytes.len().min(COPY_BYTES)];
    if bytes.iter().all(|byte| *byte == 0xFF) {
        return Err(Bad::Blank);
    }
    let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(Bad::Torn)?;
    if head[..4] != MAGIC {
        return Err(Bad::NotACopy);
    }
    if head[4] != VERSION {
        return Err(Bad::Version(head[4]));
    }
    let generation = u32::from_le_bytes([head[5], head[6], head[7], head[8]]);
    let length = usize::from(u16::from_le_bytes([head[9], head[10]]));
    let body = rest.get(..length).ok_or(Bad::Torn)?;
    let sum = rest.get(length..length + CHECKSUM).ok_or(Bad::Torn)?;
    if sum != crc32c(&bytes[..HEAD + length]).to_le_bytes() {
        return Err(Bad::Torn);
    }
    let provision: Provision<'_> = codec::whole(body).map_err(Bad::Body)?;
    provision.check().map_err(Bad::Body)?;
    let canonical = postcard::serialize_with_flavor(&provision, Same(body));
    if canonical != Ok(()) {
        return Err(Bad::Body(Error::Malformed));
    }
    Ok((provision, generation))
}

/// The whole copy with the higher generation.
///
/// # Errors
/// Why neither counts.
pub fn newest<'a>(copies: [&'a [u8]; 2]) -> Result<Found<'a>, [Bad; 2]> {
    let found = |copy: usize, (provision, generation)| Found { provision, generation, copy };
    match copies.map(decode) {
        [Ok(first), Ok(second)] if second.1 > first.1 => Ok(found(1, second)),
        [Ok(first), _] => Ok(found(0, first)),
        [Err(_), Ok(second)] => Ok(found(1, second)),
        [Err(first), Err(second)] => Err([first, second]),
    }
}

/// What is left of the bytes that a value must be written as.
struct Same<'a>(&'a [u8]);

impl Flavor for Same<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        match self.0.split_first() {
            Some((expected, rest)) if *expected == byte => {
                self.0 = rest;
                Ok(())
            }
            _ => Err(postcard::Error::SerializeBufferFull),
        }
    }

    fn finalize(self) -> postcard::Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(postcard::Error::SerializeBufferFull) }
    }
}

/// CRC-32C (Castagnoli), bit by bit: it runs once at start, and a table would cost 1 KiB of flash.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = sum & 1;
            sum = (sum >> 1) ^ (0x82F6_3B78 & carry.wrapping_neg());
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_that_of_the_catalogue() {
        assert_eq!(super::crc32c(b"123456789"), 0xE306_9283);
    }
}
