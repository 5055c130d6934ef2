//! Says which reading it had: to whom subscribes, and to the control plane.

use device_protocol::{Message, Schema, SchemaId, message};
use function_sdk::prelude::*;

#[derive(Serialize, Deserialize, Schema)]
struct Reading {
    milli_celsius: i32,
}
message!(Reading, "reading", 0xbcbc_55d1_5301_02e5);

#[derive(Deserialize)]
struct Values {
    temperature: Option<f64>,
}

#[derive(Serialize)]
struct Row<'a> {
    device: &'a str,
    boot: String,
    sequence: u64,
    celsius: Option<f64>,
    /// By the device's clock; none while it only knows its uptime.
    measured_ms: Option<u64>,
}

fn readings(event: Event) -> Result {
    let envelope = event.envelope()?;
    let celsius = if envelope.schema == SchemaId::RAW {
        let values: Values = serde_json::from_slice(envelope.body).or_reject("no JSON")?;
        values.temperature
    } else {
        let reading =
            Reading::decode(envelope.schema, envelope.body).or_reject("no reading of this shape")?;
        Some(f64::from(reading.milli_celsius) / 1_000.0)
    };
    let row = Row {
        device: envelope.device,
        boot: format!("{:016x}", envelope.boot),
        sequence: envelope.sequence,
        celsius,
        measured_ms: envelope.time.unix_ms(),
    };
    record("readings").json(&row)?;
    publish(format!("simulated/{}", envelope.device)).json(&row)
}

function_sdk::export!(readings);
