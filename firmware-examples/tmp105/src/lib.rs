//! TMP105 temperature sensor: a driver as any embedded-hal driver is, for any I2C bus.
//!
//! Registers: Texas Instruments TMP105, SBOS648, 7.5. The TMP75 and the TMP175 have the same. The TMP102 has them but for the
//! resolution, which is 12 bits from the start and which it does not let change. The TMP117 has another scale: not for it.

#![no_std]
#![forbid(unsafe_code)]

use embedded_hal::i2c::I2c;

/// Address with all three address pins low.
pub const ADDRESS: u8 = 0x48;

const TEMPERATURE: u8 = 0;
const CONFIGURATION: u8 = 1;
/// R1 and R0: 12 bits, 1/16 degree a step. The other bits: it measures all the time, its alarm output is not used.
const RESOLUTION_12_BITS: u8 = 0b0110_0000;

/// A TMP105 on the bus `I`.
#[derive(Debug)]
pub struct Tmp105<I> {
    bus: I,
    address: u8,
}

impl<I: I2c> Tmp105<I> {
    /// A sensor that is not configured yet. Nothing goes over the bus.
    pub const fn new(bus: I, address: u8) -> Self {
        Self { bus, address }
    }

    /// Sets the resolution to 12 bits: after each start of the sensor, which has 9 bits until then.
    ///
    /// # Errors
    /// The sensor does not answer.
    pub fn configure(&mut self) -> Result<(), I::Error> {
        self.bus.write(self.address, &[CONFIGURATION, RESOLUTION_12_BITS])
    }

    /// The temperature in thousandths of a degree Celsius, what is less than one of them cut.
    ///
    /// # Errors
    /// The sensor does not answer.
    pub fn read_milli_c(&mut self) -> Result<i32, I::Error> {
        let mut bytes = [0; 2];
        self.bus.write_read(self.address, &[TEMPERATURE], &mut bytes)?;
        Ok(milli_c(bytes))
    }
}

/// What the register says: left-aligned two's complement, four of its twelve bits are fractions.
fn milli_c(register: [u8; 2]) -> i32 {
    (i32::from(i16::from_be_bytes(register)) >> 4) * 1000 / 16
}

#[cfg(test)]
mod tests {
    use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};

    use super::{ADDRESS, Tmp105};

    const NOT_THERE: ErrorKind = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);

    /// A bus with a sensor of two registers at [`ADDRESS`], as the data sheet describes it: the first byte that is written
    /// points at a register, the next one is written to it.
    struct Bus {
        is_there: bool,
        pointer: u8,
        temperature: [u8; 2],
        configuration: u8,
    }

    fn bus(temperature: u16) -> Bus {
        Bus { is_there: true, pointer: 0, temperature: temperature.to_be_bytes(), configuration: 0 }
    }

    impl ErrorType for &mut Bus {
        type Error = ErrorKind;
    }

    impl I2c for &mut Bus {
        fn transaction(&mut self, address: u8, all: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
            if !self.is_there || address != ADDRESS {
                return Err(NOT_THERE);
            }
            for operation in all {
                match operation {
                    Operation::Write([pointer]) => self.pointer = *pointer,
                    Operation::Write([pointer, value]) => {
                        assert_eq!(*pointer, 1, "only the configuration is written");
                        (self.pointer, self.configuration) = (*pointer, *value);
                    }
                    Operation::Read(out) => {
                        assert_eq!(self.pointer, 0, "only the temperature is read");
                        out.copy_from_slice(&self.temperature);
                    }
                    Operation::Write(other) => panic!("a write of {other:x?}"),
                }
            }
            Ok(())
        }
    }

    #[test]
    fn temperatures_are_those_of_the_data_sheet() {
        // SBOS648, table 5, and the two ends of the register.
        let table = [
            (0x7FF0, 127_937),
            (0x6400, 100_000),
            (0x5000, 80_000),
            (0x1900, 25_000),
            (0x0040, 250),
            (0x0010, 62),
            (0x0000, 0),
            (0xFFF0, -62),
            (0xFFC0, -250),
            (0xE700, -25_000),
            (0xC900, -55_000),
            (0x8000, -128_000),
        ];
        for (register, milli_c) in table {
            let mut bus = bus(register);
            let mut sensor = Tmp105::new(&mut bus, ADDRESS);
            assert_eq!(sensor.read_milli_c(), Ok(milli_c), "{register:04x}");
        }
    }

    #[test]
    fn it_is_set_to_twelve_bits_and_to_measure_all_the_time() {
        let mut bus = bus(0);
        Tmp105::new(&mut bus, ADDRESS).configure().unwrap();
        assert_eq!(bus.configuration, 0x60);
    }

    #[test]
    fn a_sensor_that_is_away_is_an_error_and_works_again_when_it_is_back() {
        let mut bus = bus(0x1900);
        bus.is_there = false;
        assert_eq!(Tmp105::new(&mut bus, ADDRESS).configure(), Err(NOT_THERE));
        assert_eq!(Tmp105::new(&mut bus, ADDRESS).read_milli_c(), Err(NOT_THERE));
        assert_eq!(Tmp105::new(&mut bus, ADDRESS + 1).read_milli_c(), Err(NOT_THERE));
        bus.is_there = true;
        assert_eq!(Tmp105::new(&mut bus, ADDRESS).read_milli_c(), Ok(25_000));
    }
}
