//! Records readings under the numbers that their devices gave them.

use function_sdk::prelude::*;
use sensor_messages::Reading;

#[derive(Serialize)]
struct Row<'a> {
    device: &'a str,
    boot: String,
    sequence: u64,
    milli_celsius: i32,
}

fn readings(event: Event) -> Result {
    let reading: Reading = event.message()?;
    let envelope = event.envelope()?;
    let row = Row {
        device: envelope.device,
        boot: format!("{:016x}", envelope.boot),
        sequence: envelope.sequence,
        milli_celsius: reading.milli_celsius,
    };
    record("readings").json(&row)?;
    Ok(())
}

function_sdk::export!(readings);
