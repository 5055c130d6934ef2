//! Tells readings as JSON, and has a device blink that is too warm.

use function_sdk::prelude::*;
use typed_messages::{Blink, Reading};

const TOO_WARM_MILLI_CELSIUS: i32 = 30_000;

fn watch(event: Event) -> Result {
    let reading: Reading = event.message()?;
    let envelope = event.envelope()?;
    let device = envelope.device;
    if reading.milli_celsius > TOO_WARM_MILLI_CELSIUS {
        device::command(&event, device, "blink").message(&Blink { times: 3 })?;
    }
    let text = format!("{} {} {}", envelope.boot, envelope.sequence, reading.milli_celsius);
    publish(format!("typed/{device}")).text(&text);
    Ok(())
}

function_sdk::export!(watch);

#[cfg(test)]
mod tests {
    use function_sdk::fake::Gateway;

    use super::*;

    #[test]
    fn only_a_warm_device_blinks() {
        for (milli_celsius, publishes) in [(30_000, 1), (30_001, 2)] {
            let event = Event::new("sensors/a").with_device("a");
            let event = event.with_message(&Reading { milli_celsius });
            let done = Gateway::new().run(watch, event).unwrap();
            assert_eq!(done.publishes.len(), publishes);
        }
    }
}
