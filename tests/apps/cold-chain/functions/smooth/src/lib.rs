//! Keeps a moving mean and variance per device, and publishes the mean and an anomaly score.

use cold_chain_model::{Moving, Reading, SmoothedMessage};
use function_sdk::prelude::*;

fn smooth(event: Event) -> Result {
    let reading: Reading = event.json()?;
    let device = event.device()?;
    if reading.device != device {
        reject!("a reading of `{}`, sent by `{device}`", reading.device);
    }
    let state = state::json("moving");
    let mut moving: Moving = state.get()?.unwrap_or_default();
    let smoothed = moving.observe(&reading);
    state.put(&moving)?;
    let message = SmoothedMessage { smoothed, attempt: event.attempt };
    publish(format!("smooth/{device}")).json(&message)
}

function_sdk::export!(smooth);

#[cfg(test)]
mod tests {
    use function_sdk::fake::Gateway;

    use super::*;

    fn event(sender: &str, device: &str, seq: u64) -> Event {
        let value = 20.0 + f64::from(u32::try_from(seq % 7).unwrap()) / 3.0;
        let reading = Reading { device: device.to_owned(), seq, value };
        Event::new("machines/m1").with_json(&reading).with_device(sender)
    }

    #[test]
    fn state_is_the_model_s_to_the_last_bit() {
        let mut gateway = Gateway::new();
        let mut model = Moving::default();
        for seq in 1..=500 {
            let event = event("m1", "m1", seq);
            let expected = model.observe(&event.json().unwrap());
            let done = gateway.run(smooth, event).unwrap();
            assert_eq!(done.publishes[0].topic, "smooth/m1");
            let message: SmoothedMessage = done.publishes[0].payload_json();
            assert_eq!((message.smoothed, message.attempt), (expected, 1));
        }
        assert_eq!(gateway.state_json::<Moving>("m1", "moving").unwrap(), model);
    }

    #[test]
    fn a_device_speaks_for_itself_only() {
        let failure = Gateway::new().run(smooth, event("m2", "m1", 1)).unwrap_err();
        assert!(matches!(failure, Failure::Reject(_)), "{failure}");
    }
}
