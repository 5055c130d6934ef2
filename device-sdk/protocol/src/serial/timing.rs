//! How long an end waits.

use super::{WINDOW, WIRE_MAX};

/// Waits of a link, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From a frame to its first repetition, without an ack. Doubles up to `retransmit_ms_max`.
    pub retransmit_ms: u32,
    /// The longest wait for an ack, and between two hellos.
    pub retransmit_ms_max: u32,
    /// Without a word from the other end for so long it is asked for one.
    pub keepalive_ms: u32,
    /// Without a word for so long it is gone.
    pub lost_ms: u32,
    /// From a refusal to the next hello.
    pub refused_ms: u32,
    /// On a shared bus, from giving the turn to taking it back from a device that is silent.
    pub turn_ms: u32,
}

impl Timing {
    /// What suits a line of so many bits a second, eight data bits and one stop bit.
    #[must_use]
    pub const fn for_baud(baud: u32) -> Self {
        const BITS: u32 = 10;
        let baud = if baud < 300 { 300 } else { baud };
        #[expect(clippy::cast_possible_truncation, reason = "a frame has a few hundred bytes")]
        let frame_ms = (WIRE_MAX as u32 * BITS * 1_000).div_ceil(baud);
        let window_ms = frame_ms * WINDOW as u32;
        let retransmit_ms = 50 + 2 * window_ms;
        Self {
            retransmit_ms,
            retransmit_ms_max: retransmit_ms * 8,
            keepalive_ms: 2_000 + window_ms,
            lost_ms: 10_000 + retransmit_ms * 8,
            refused_ms: 10_000,
            turn_ms: 20 + frame_ms,
        }
    }
}
