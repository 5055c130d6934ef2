//! Readings, and what the console tells of them: the same on Ethernet and on a serial line, as tests judge by it.

use board_mps2::{i2c::I2c, log, stack};
use device_sdk::{Device, Figures, PublishError};
use embassy_time::{Instant, Timer};
use sensor_messages::{READINGS, Reading};
use tmp105::Tmp105;

/// Readings of a burst that wait in the queue at a time.
const BURST_QUEUED_MAX: u32 = 16;

/// Publishes so many readings as fast as the gateway takes them, and tells how long it took.
pub(crate) async fn burst(device: &Device<'static>, sensor: &mut Tmp105<I2c>, count: u32) {
    if count == 0 {
        return;
    }
    device.online().await;
    let since = Instant::now();
    for _ in 0..count {
        publish(device, sensor).await;
        while device.figures().queued >= BURST_QUEUED_MAX {
            Timer::after_millis(1).await;
        }
    }
    device.drained().await;
    log!("burst of {count} acked in {} us", since.elapsed().as_micros());
}

/// Publishes a reading.
pub(crate) async fn publish(device: &Device<'static>, sensor: &mut Tmp105<I2c>) {
    let milli_celsius = match sensor.read_milli_c() {
        Ok(milli_celsius) => milli_celsius,
        Err(error) => return log!("the sensor: {error}"),
    };
    match device.publish(READINGS, &Reading { milli_celsius }).await {
        Ok(number) => log!("kept {:016x} {} {milli_celsius}", number.boot, number.sequence),
        Err(PublishError::Overflow) => log!("the queue is full: a reading is refused"),
        Err(error) => log!("a reading is lost: {error}"),
    }
}

/// Tells what the client has counted, whenever it has changed.
#[embassy_executor::task]
pub(crate) async fn tell(device: &'static Device<'static>) {
    let mut told = Figures::default();
    loop {
        let now = device.figures_after(&told).await;
        if now.acked > 0 && told.acked == 0 {
            log!("first reading acked");
        }
        let Figures { acked, queued, overflowed, refused, queue_failures, ignored, .. } = now;
        log!(
            "acked {acked} queued {queued} overflowed, refused, failed, ignored \
             [{overflowed}, {refused}, {queue_failures}, {ignored}] stack {}",
            stack::high_water_bytes()
        );
        told = now;
    }
}
