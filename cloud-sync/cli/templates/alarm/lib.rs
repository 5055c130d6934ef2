use function_sdk::prelude::*;

#[derive(Deserialize)]
struct Reading {
    celsius: f64,
}

#[derive(Serialize)]
struct Change {
    active: bool,
    celsius: f64,
}

fn alarm(event: Event) -> Result {
    let reading: Reading = event.json()?;
    let (on, off): (f64, f64) = (config::get_or("on", 90.0)?, config::get_or("off", 85.0)?);
    let active = state::json("active");
    let was = active.get()?.unwrap_or(false);
    let is = if was { reading.celsius > off } else { reading.celsius >= on };
    if is == was {
        return Ok(());
    }
    active.put(&is)?;
    record("alarm").json(&Change { active: is, celsius: reading.celsius })?;
    publish(format!("alarms/{}", event.device()?)).retain().json(&is)
}

function_sdk::export!(alarm);

#[cfg(test)]
mod tests {
    use super::*;
    use function_sdk::fake::Gateway;
    use serde_json::json;

    #[test]
    fn it_comes_once_and_goes_with_hysteresis() {
        let mut gateway = Gateway::new().with_config("on", "50").with_config("off", "40");
        let mut alarms = Vec::new();
        for celsius in [45, 51, 60, 45, 39, 45] {
            let event = Event::new("sensors/x/temperature")
                .with_json(&json!({ "celsius": celsius }))
                .with_device("press-1");
            let done = gateway.run(alarm, event).unwrap();
            alarms.extend(done.publishes.iter().map(|alarm| alarm.payload_json::<bool>()));
        }
        assert_eq!(alarms, [true, false]);
    }
}
