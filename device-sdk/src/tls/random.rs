//! Random numbers from entropy that the board hands in.

use rand_chacha::ChaCha12Rng;
use rand_core::{CryptoRng, RngCore, SeedableRng};

/// A generator for keys and boot ids: ChaCha12, seeded once a start with 32 bytes of entropy that nobody can guess and
/// that no other start ever had (a hardware generator, or a seed in flash that is replaced before it is used).
pub struct Random(ChaCha12Rng);

impl Random {
    /// A generator from 32 bytes of entropy.
    #[must_use]
    pub fn new(entropy: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(entropy))
    }

    /// 64 random bits: what the device draws at each start (`device_protocol::Envelope`).
    pub fn boot_id(&mut self) -> u64 {
        self.0.next_u64()
    }
}

impl core::fmt::Debug for Random {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Random")
    }
}

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.try_fill_bytes(out)
    }
}

impl CryptoRng for Random {}
