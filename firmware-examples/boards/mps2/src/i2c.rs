//! I2C as `embedded-hal`: the machine has two wires that software moves (Arm SBCon).

use embedded_hal::i2c::{Error, ErrorKind, ErrorType, NoAcknowledgeSource, Operation};

use crate::mmio;

// Registers: reading the first gives the wires, writing sets; writing the second clears.
const WIRES: usize = 0x0;
const SET: usize = 0x0;
const CLEAR: usize = 0x4;
const CLOCK: u32 = 1;
const DATA: u32 = 2;

/// Clocks after which any device has let go of the data wire (I2C specification 3.1.16).
const CLOCKS_TO_FREE: usize = 9;

/// An I2C bus for devices with 7-bit addresses.
pub struct I2c(());

/// A device did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAcknowledge(pub NoAcknowledgeSource);

impl core::fmt::Display for NoAcknowledge {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self.0 {
            NoAcknowledgeSource::Address => "no device answers at the address",
            NoAcknowledgeSource::Data => "the device did not take a byte",
            NoAcknowledgeSource::Unknown => "no answer",
        })
    }
}

impl Error for NoAcknowledge {
    fn kind(&self) -> ErrorKind {
        ErrorKind::NoAcknowledge(self.0)
    }
}

impl ErrorType for I2c {
    type Error = NoAcknowledge;
}

impl embedded_hal::i2c::I2c for I2c {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), NoAcknowledge> {
        let result = self.run(address, operations);
        self.stop();
        result
    }
}

impl I2c {
    /// Takes the bus, and frees it where a device was cut off in the middle of a byte.
    pub(crate) fn start() -> Self {
        let bus = Self(());
        for _ in 0..CLOCKS_TO_FREE {
            bus.receive_bit();
        }
        bus.stop();
        bus
    }

    fn run(&self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), NoAcknowledge> {
        let mut reading_before = None;
        for index in 0..operations.len() {
            let read_follows = operations.get(index + 1).is_some_and(is_read);
            let operation = &mut operations[index];
            let reading = is_read(operation);
            // A new condition only where the direction changes: the contract of `transaction`.
            if reading_before.replace(reading) != Some(reading) {
                self.begin();
                let byte = (address << 1) | u8::from(reading);
                self.send(byte, NoAcknowledgeSource::Address)?;
            }
            match operation {
                Operation::Write(bytes) => {
                    for byte in *bytes {
                        self.send(*byte, NoAcknowledgeSource::Data)?;
                    }
                }
                Operation::Read(bytes) => {
                    let last = bytes.len().saturating_sub(1);
                    for (index, byte) in bytes.iter_mut().enumerate() {
                        *byte = self.receive(index < last || read_follows);
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&self) {
        self.set(DATA);
        self.set(CLOCK);
        self.clear(DATA);
        self.clear(CLOCK);
    }

    fn stop(&self) {
        self.clear(DATA);
        self.set(CLOCK);
        self.set(DATA);
    }

    fn send(&self, byte: u8, source: NoAcknowledgeSource) -> Result<(), NoAcknowledge> {
        for bit in (0..8).rev() {
            self.send_bit(byte >> bit & 1 != 0);
        }
        if self.receive_bit() { Err(NoAcknowledge(source)) } else { Ok(()) }
    }

    /// Receives a byte and acknowledges it where more are wanted.
    fn receive(&self, more: bool) -> u8 {
        let byte = (0..8).fold(0, |byte, _| (byte << 1) | u8::from(self.receive_bit()));
        self.send_bit(!more);
        byte
    }

    fn send_bit(&self, bit: bool) {
        if bit {
            self.set(DATA);
        } else {
            self.clear(DATA);
        }
        self.set(CLOCK);
        self.clear(CLOCK);
    }

    fn receive_bit(&self) -> bool {
        self.set(DATA);
        self.set(CLOCK);
        let bit = mmio::I2C.read(WIRES) & DATA != 0;
        self.clear(CLOCK);
        bit
    }

    fn set(&self, wire: u32) {
        mmio::I2C.write(SET, wire);
    }

    fn clear(&self, wire: u32) {
        mmio::I2C.write(CLEAR, wire);
    }
}

fn is_read(operation: &Operation<'_>) -> bool {
    matches!(operation, Operation::Read(_))
}
