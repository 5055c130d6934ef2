//! Frames: a header, a piece of a message, a checksum.

use core::fmt;

use super::FRAGMENT_MAX;
use super::cobs::{Stuffer, unstuff};
use super::crc::Crc;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 9;
const CRC_BYTES: usize = 4;
/// A frame before stuffing.
const RAW_MAX: usize = HEADER_BYTES + FRAGMENT_MAX + CRC_BYTES;
/// A stuffed frame without delimiters.
pub(super) const ENCODED_MAX: usize = RAW_MAX + RAW_MAX / 254 + 1;

/// Bit of the control byte: from the device to the gateway.
const TO_GATEWAY: u8 = 0x80;
/// Bit of the control byte: the other end may speak now.
const TURN: u8 = 0x40;
/// Bit of the control byte: the last fragment of a message.
const LAST: u8 = 0x20;
/// Bit that is zero in this version.
const RESERVED: u8 = 0x10;

/// Who sent a frame. A device does not take its own echo on two wires for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The gateway sent it.
    ToDevice,
    /// A device sent it.
    ToGateway,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::ToDevice => Self::ToGateway,
            Self::ToGateway => Self::ToDevice,
        }
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Gateway: I have no link with this address; say hello. Session 0.
    Discover = 0,
    /// Device: who I am. The session is a number of its own that the answer repeats.
    Hello = 1,
    /// Gateway: the link lives, under this session.
    Welcome = 2,
    /// Gateway: no link. The session is that of the hello.
    Refused = 3,
    /// A piece of a message.
    Data = 4,
    /// Nothing but ack and credit.
    Ack = 5,
    /// Asks for an ack.
    Ping = 6,
    /// A frame is missing: begin again at the one that `ack` names.
    Nak = 7,
    /// There is no link of this session.
    Reset = 8,
}

impl Kind {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Discover,
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Refused,
            4 => Self::Data,
            5 => Self::Ack,
            6 => Self::Ping,
            7 => Self::Nak,
            8 => Self::Reset,
            _ => return None,
        })
    }
}

/// What stands before the piece of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Address of the device, whoever sends.
    pub address: u8,
    /// Who sends.
    pub direction: Direction,
    /// What it is for.
    pub kind: Kind,
    /// The other end may speak now; only on a shared bus.
    pub turn: bool,
    /// The last fragment of a message; only in [`Kind::Data`].
    pub last: bool,
    /// Which life of the link it belongs to.
    pub session: u32,
    /// Number of a [`Kind::Data`] frame, modulo 256; otherwise 0.
    pub sequence: u8,
    /// Number of the next frame that the sender expects.
    pub ack: u8,
    /// How many frames from `ack` on the sender of this one can take.
    pub credit: u8,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// More bytes than a frame has without a delimiter.
    TooLong,
    /// The stuffing does not come out.
    Stuffing,
    /// Fewer bytes than a header and a checksum.
    TooShort,
    /// The checksum is another one.
    Checksum,
    /// The checksum is right, but this version knows no such frame.
    Unknown,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "no end of a frame within its longest",
            Self::Stuffing => "broken stuffing",
            Self::TooShort => "shorter than a frame",
            Self::Checksum => "wrong checksum",
            Self::Unknown => "a frame that this version does not know",
        })
    }
}

impl core::error::Error for FrameError {}

impl Header {
    /// Writes a frame with its delimiters; the payload is the two slices after each other. Returns how many bytes;
    /// [`super::WIRE_MAX`] always suffice.
    ///
    /// # Panics
    /// With more than [`FRAGMENT_MAX`] bytes of payload, or a shorter `out`: mistakes of the caller.
    #[must_use]
    pub fn encode(&self, payload: [&[u8]; 2], out: &mut [u8; super::WIRE_MAX]) -> usize {
        assert!(payload[0].len() + payload[1].len() <= FRAGMENT_MAX, "one fragment a frame");
        let flag = |is: bool, bit: u8| if is { bit } else { 0 };
        let control = flag(self.direction == Direction::ToGateway, TO_GATEWAY)
            | flag(self.turn, TURN)
            | flag(self.last, LAST)
            | self.kind as u8;
        let [a, b, c, d] = self.session.to_le_bytes();
        let header = [self.address, control, a, b, c, d, self.sequence, self.ack, self.credit];
        // The zero in front ends whatever noise came before.
        out[0] = 0;
        let mut stuffer = Stuffer::new(&mut out[1..]);
        let mut crc = Crc::new();
        for part in [&header[..], payload[0], payload[1]] {
            for byte in part {
                crc.push(*byte);
                stuffer.push(*byte);
            }
        }
        crc.value().to_le_bytes().into_iter().for_each(|byte| stuffer.push(byte));
        let end = 1 + stuffer.finish();
        out[end] = 0;
        end + 1
    }

    fn decode(raw: &[u8]) -> Result<(Self, &[u8]), FrameError> {
        let (covered, sum) = raw.split_last_chunk::<CRC_BYTES>().ok_or(FrameError::TooShort)?;
        let (header, payload) =
            covered.split_first_chunk::<HEADER_BYTES>().ok_or(FrameError::TooShort)?;
        let mut crc = Crc::new();
        covered.iter().for_each(|byte| crc.push(*byte));
        if crc.value() != u32::from_le_bytes(*sum) {
            return Err(FrameError::Checksum);
        }
        let [address, control, a, b, c, d, sequence, ack, credit] = *header;
        let kind = Kind::from_bits(control & 0x0F).filter(|_| control & RESERVED == 0);
        let kind = kind.ok_or(FrameError::Unknown)?;
        let is_to_gateway = control & TO_GATEWAY != 0;
        let direction = if is_to_gateway { Direction::ToGateway } else { Direction::ToDevice };
        let header = Self {
            address,
            direction,
            kind,
            turn: control & TURN != 0,
            last: control & LAST != 0,
            session: u32::from_le_bytes([a, b, c, d]),
            sequence,
            ack,
            credit,
        };
        Ok((header, payload))
    }
}

/// Finds frames in bytes.
#[derive(Debug)]
pub struct Deframer {
    bytes: [u8; ENCODED_MAX],
    length: usize,
    /// Too much came without a delimiter: the rest of it is skipped.
    skipping: bool,
}

impl Default for Deframer {
    fn default() -> Self {
        Self::new()
    }
}

impl Deframer {
    /// Between two frames.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; ENCODED_MAX], length: 0, skipping: false }
    }

    /// Forgets the frame that has begun.
    pub const fn reset(&mut self) {
        (self.length, self.skipping) = (0, false);
    }

    /// Takes a byte. At the end of a frame: its header and payload, or what is wrong with it.
    pub fn push(&mut self, byte: u8) -> Option<Result<(Header, &[u8]), FrameError>> {
        if byte != 0 {
            if self.length < ENCODED_MAX {
                self.bytes[self.length] = byte;
                self.length += 1;
            } else {
                self.skipping = true;
            }
            return None;
        }
        let length = core::mem::take(&mut self.length);
        if core::mem::take(&mut self.skipping) {
            return Some(Err(FrameError::TooLong));
        }
        if length == 0 {
            return None;
        }
        let Some(length) = unstuff(&mut self.bytes[..length]) else {
            return Some(Err(FrameError::Stuffing));
        };
        Some(Header::decode(&self.bytes[..length]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(sequence: u8) -> Header {
        Header {
            address: 7,
            direction: Direction::ToGateway,
            kind: Kind::Data,
            turn: true,
            last: true,
            session: 0x0100_0203,
            sequence,
            ack: 0,
            credit: 4,
        }
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_after_any_garbage(
            garbage in prop::collection::vec(any::<u8>(), 0..600),
            payload in prop::collection::vec(any::<u8>(), 0..=FRAGMENT_MAX),
            cut in 0..=FRAGMENT_MAX,
            sequence in any::<u8>(),
        ) {
            let mut deframer = Deframer::default();
            for byte in garbage {
                let _ = deframer.push(byte);
            }
            let mut out = [0; crate::serial::WIRE_MAX];
            let (front, back) = payload.split_at(cut.min(payload.len()));
            let length = header(sequence).encode([front, back], &mut out);
            let mut found = None;
            for byte in &out[..length] {
                if let Some(Ok((header, payload))) = deframer.push(*byte) {
                    found = Some((header, payload.to_vec()));
                }
            }
            prop_assert_eq!(found, Some((header(sequence), payload)));
        }

        #[test]
        fn a_changed_frame_is_not_taken_for_another(
            payload in prop::collection::vec(any::<u8>(), 0..40),
            at in 1..50_usize,
            change in 1..=u8::MAX,
        ) {
            let mut out = [0; crate::serial::WIRE_MAX];
            let length = header(1).encode([&payload, &[]], &mut out);
            let at = 1 + at % (length - 2);
            out[at] ^= change;
            let mut deframer = Deframer::default();
            for byte in &out[..length] {
                prop_assert!(!matches!(deframer.push(*byte), Some(Ok(_))));
            }
        }
    }

    #[test]
    fn the_bytes_of_serial_md() {
        let mut out = [0; crate::serial::WIRE_MAX];
        let length = header(5).encode([b"hi", &[]], &mut out);
        let expected =
            [0x00, 0x05, 0x07, 0xE4, 0x03, 0x02, 0x03, 0x01, 0x05, 0x08, 0x04, 0x68, 0x69];
        assert_eq!(out[..expected.len()], expected);
        assert_eq!(length, expected.len() + 5);
    }
}
