//! TMP105 temperature sensor: a driver as any embedded-hal driver is, for any I2C bus.
//!
//! Registers: Texas Instruments TMP105, SBOS648, 7.5.

use embedded_hal::i2c::I2c;

/// Address with all three address pins low.
pub(crate) const ADDRESS: u8 = 0x48;

const TEMPERATURE: u8 = 0;
const CONFIGURATION: u8 = 1;
/// R1 and R0: 12 bits, 1/16 degree a step.
const RESOLUTION_12_BITS: u8 = 0b0110_0000;

/// A TMP105 on the bus `I`.
pub(crate) struct Tmp105<I> {
    bus: I,
    address: u8,
}

impl<I: I2c> Tmp105<I> {
    /// Sets the resolution to 12 bits.
    ///
    /// # Errors
    /// The sensor does not answer.
    pub(crate) fn new(mut bus: I, address: u8) -> Result<Self, I::Error> {
        bus.write(address, &[CONFIGURATION, RESOLUTION_12_BITS])?;
        Ok(Self { bus, address })
    }

    /// The temperature in thousandths of a degree Celsius.
    ///
    /// # Errors
    /// The sensor does not answer.
    pub(crate) fn read_milli_c(&mut self) -> Result<i32, I::Error> {
        let mut bytes = [0; 2];
        self.bus.write_read(self.address, &[TEMPERATURE], &mut bytes)?;
        // Left-aligned two's complement, four bits of it fractions.
        Ok((i32::from(i16::from_be_bytes(bytes)) >> 4) * 1000 / 16)
    }
}
