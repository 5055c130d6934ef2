use function_sdk::prelude::*;

#[derive(Deserialize)]
struct Reading {
    celsius: f64,
}

#[derive(Default, Serialize, Deserialize)]
struct Count {
    readings: u64,
    highest: f64,
}

fn count(event: Event) -> Result {
    let reading: Reading = event.json()?;
    let count = state::json("count").update(|count: &mut Count| {
        let first = count.readings == 0;
        count.readings += 1;
        count.highest = if first { reading.celsius } else { count.highest.max(reading.celsius) };
    })?;
    publish(format!("@NAME@/{}", event.device()?)).json(&count)
}

function_sdk::export!(count);

#[cfg(test)]
mod tests {
    use super::*;
    use function_sdk::fake::Gateway;
    use serde_json::json;

    #[test]
    fn each_device_has_its_own_count() {
        let mut gateway = Gateway::new();
        let event = |device: &str, celsius: f64| {
            Event::new("sensors/x/temperature")
                .with_json(&json!({ "celsius": celsius }))
                .with_device(device)
        };
        gateway.run(count, event("press-1", 21.5)).unwrap();
        gateway.run(count, event("press-2", 99.0)).unwrap();
        let done = gateway.run(count, event("press-1", 20.0)).unwrap();
        assert_eq!(done.publishes[0].topic, "@NAME@/press-1");
        let count: Count = done.publishes[0].payload_json();
        assert_eq!((count.readings, count.highest), (2, 21.5));
    }

    #[test]
    fn what_is_no_reading_is_rejected() {
        let event = Event::new("sensors/x/temperature").with_payload("warm").with_device("press-1");
        let failure = Gateway::new().run(count, event).unwrap_err();
        assert!(matches!(failure, Failure::Reject(_)));
    }
}
