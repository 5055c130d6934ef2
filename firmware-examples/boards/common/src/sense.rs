//! The sensor's task: measures, publishes, and tells what became of the readings.

use device_sdk::{Device, Figures, PublishError};
use embassy_time::{Duration, Ticker};
use embedded_hal::i2c::{Error, I2c};
use sensor_messages::{READINGS, Reading};
use tmp105::Tmp105;

use crate::{guard, obey};

/// A sensor that may be away, and that is configured anew when it is back.
struct Sensor<I> {
    driver: Tmp105<I>,
    is_configured: bool,
}

impl<I: I2c> Sensor<I> {
    fn read_milli_c(&mut self) -> Result<i32, I::Error> {
        if !self.is_configured {
            self.driver.configure()?;
        }
        let read = self.driver.read_milli_c();
        self.is_configured = read.is_ok();
        read
    }
}

/// Publishes readings for ever.
pub async fn measure<I: I2c>(device: &Device<'static>, driver: Tmp105<I>) -> ! {
    let mut sensor = Sensor { driver, is_configured: false };
    let mut is_away = false;
    loop {
        let period_ms = obey::period_ms();
        let mut ticker = Ticker::every(Duration::from_millis(period_ms.into()));
        while obey::period_ms() == period_ms {
            let busy = guard::Busy::begin();
            match sensor.read_milli_c() {
                Ok(milli_celsius) => {
                    is_away = false;
                    publish(device, milli_celsius).await;
                }
                Err(error) => {
                    tell_away(device, &error, is_away);
                    is_away = true;
                }
            }
            drop(busy);
            obey::tick(&mut ticker).await;
        }
    }
}

async fn publish(device: &Device<'static>, milli_celsius: i32) {
    match device.publish(READINGS, &Reading { milli_celsius }).await {
        Ok(number) => {
            defmt::debug!("kept {}: {=i32} thousandths of a degree", number, milli_celsius);
        }
        Err(PublishError::Overflow) => defmt::warn!("the queue is full: a reading is refused"),
        Err(PublishError::Foreign) => defmt::error!(
            "a reading is refused: the queue's flash is of another firmware or layout; run that one to send what it keeps, \
             or `holm device command {=str} format-queue` to erase it",
            device.name()
        ),
        Err(error) => defmt::warn!("a reading is lost: {}", error),
    }
}

/// Says it at each turn to the probe, and once to the gateway.
fn tell_away(device: &Device<'static>, error: &impl Error, is_known: bool) {
    let kind = error.kind();
    defmt::warn!("the sensor does not answer ({}): wiring? address?", defmt::Debug2Format(&kind));
    if !is_known {
        device_sdk::log!(device, Warn, "the sensor does not answer: {kind}");
    }
}

/// Tells what the client has counted, whenever it has changed.
#[embassy_executor::task]
pub async fn tell(device: &'static Device<'static>) {
    let mut told = Figures::default();
    loop {
        told = device.figures_after(&told).await;
        defmt::info!("{}", told);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use embedded_hal::i2c::{ErrorKind, ErrorType, NoAcknowledgeSource, Operation};

    use super::*;

    /// A bus whose sensor can be pulled off, and then has lost its configuration.
    #[derive(Clone, Default)]
    struct Bus(Rc<Cell<(bool, u32)>>);

    impl ErrorType for Bus {
        type Error = ErrorKind;
    }

    impl I2c for Bus {
        fn transaction(&mut self, _: u8, all: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
            let (is_there, configured) = self.0.get();
            if !is_there {
                return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
            }
            for operation in all {
                match operation {
                    Operation::Write([1, _]) => self.0.set((is_there, configured + 1)),
                    Operation::Write(_) => {}
                    Operation::Read(out) => out.copy_from_slice(&[0x19, 0x00]),
                }
            }
            Ok(())
        }
    }

    #[test]
    fn a_sensor_that_comes_back_is_configured_again_and_only_then() {
        let bus = Bus::default();
        let driver = Tmp105::new(bus.clone(), tmp105::ADDRESS);
        let mut sensor = Sensor { driver, is_configured: false };
        assert!(sensor.read_milli_c().is_err(), "not there at the start");
        for configurations in 1..3 {
            bus.0.set((true, bus.0.get().1));
            assert_eq!(sensor.read_milli_c(), Ok(25_000));
            assert_eq!(sensor.read_milli_c(), Ok(25_000));
            assert_eq!(bus.0.get().1, configurations);
            bus.0.set((false, configurations));
            assert!(sensor.read_milli_c().is_err());
        }
    }
}
