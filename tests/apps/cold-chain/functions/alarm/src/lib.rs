//! Raises and clears an alarm per device, with hysteresis, and records every score.
//!
//! Configuration: `raise` and `clear`, the thresholds of the score.

use cold_chain_model::{Alarm, SmoothedMessage, Thresholds};
use function_sdk::prelude::*;

#[derive(Serialize)]
struct Point {
    #[serde(flatten)]
    message: SmoothedMessage,
    alarm: bool,
}

fn alarm(event: Event) -> Result {
    let message: SmoothedMessage = event.json()?;
    let usual = Thresholds::default();
    let thresholds = Thresholds {
        raise: config::get_or("raise", usual.raise)?,
        clear: config::get_or("clear", usual.clear)?,
    };
    let mut change = None;
    let alarm = state::json("alarm").update(|alarm: &mut Alarm| {
        change = alarm.judge(&message.smoothed, thresholds);
    })?;
    if let Some(change) = change {
        log!(Level::Warn, "{}: alarm {}", change.device, if change.on { "on" } else { "off" });
        publish(format!("alarm/{}", event.device()?)).retain().json(&change)?;
    }
    record("temperature").json(&Point { message, alarm: alarm.on })
}

function_sdk::export!(alarm);

#[cfg(test)]
mod tests {
    use cold_chain_model::{Change, Smoothed};
    use function_sdk::fake::Gateway;

    use super::*;

    fn event(seq: u64, score: f64) -> Event {
        let smoothed = Smoothed { device: "m1".to_owned(), seq, value: 20.0, mean: 20.0, score };
        let message = SmoothedMessage { smoothed, attempt: 1 };
        Event::new("smooth/m1").with_json(&message).with_device("m1")
    }

    #[test]
    fn it_tells_changes_and_records_everything() {
        let mut gateway = Gateway::new().with_config("raise", "5");
        let scores = [4.5, 5.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let mut changes = Vec::new();
        for (seq, score) in (1..).zip(scores) {
            let done = gateway.run(alarm, event(seq, score)).unwrap();
            assert_eq!(done.records.len(), 1);
            for message in done.publishes {
                assert!(message.retain && message.topic == "alarm/m1");
                let change: Change = message.payload_json();
                changes.push((change.seq, change.on));
            }
        }
        assert_eq!(changes, [(2, true), (8, false)]);
    }
}
