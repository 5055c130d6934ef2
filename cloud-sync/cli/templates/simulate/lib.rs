//! Says which reading it had: to whom subscribes, and to the control plane.

use device_protocol::{CONTENT_TYPE, Message, Schema, SchemaId, message};
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
    let row = if event.content_type.as_deref() == Some(CONTENT_TYPE) {
        enveloped(&event)?
    } else {
        plain(&event)?
    };
    record("readings").json(&row)?;
    publish(format!("simulated/{}", row.device)).json(&row)
}

fn enveloped(event: &Event) -> Result<Row<'_>> {
    let envelope = event.envelope()?;
    let celsius = if envelope.schema == SchemaId::RAW {
        let values: Values = serde_json::from_slice(envelope.body).or_reject("no JSON")?;
        values.temperature
    } else {
        let reading =
            Reading::decode(envelope.schema, envelope.body).or_reject("no reading of this shape")?;
        Some(f64::from(reading.milli_celsius) / 1_000.0)
    };
    Ok(Row {
        device: envelope.device,
        boot: format!("{:016x}", envelope.boot),
        sequence: envelope.sequence,
        celsius,
        measured_ms: envelope.time.unix_ms(),
    })
}

/// JSON of a device that numbers its messages in user properties.
fn plain(event: &Event) -> Result<Row<'_>> {
    let values: Values = event.json()?;
    let number = |name: &str| event.property(name).ok_or_else(|| missing(name));
    let sequence = number("holm-sequence")?.parse().or_reject("`holm-sequence` is no number")?;
    Ok(Row {
        device: event.device()?,
        boot: number("holm-boot-id")?.to_owned(),
        sequence,
        celsius: values.temperature,
        measured_ms: None,
    })
}

fn missing(property: &str) -> Failure {
    Failure::Reject(format!("the message has no user property `{property}`"))
}

function_sdk::export!(readings);
