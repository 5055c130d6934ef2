//! What the benchmark's handlers do with a reading: the function in WebAssembly and the native
//! program that it is compared with run these lines.
#![forbid(unsafe_code)]

use serde_json::{Map, Value};

/// Readings below this are dropped.
const COLDEST: f64 = 10.0;
/// Version of the output.
const VERSION: u8 = 1;

/// A reading, whatever fields it has.
pub type Reading = Map<String, Value>;
/// A topic and what is published to it.
pub type Output = (String, Reading);

/// The reading with all its fields, `temp_f` and `v`; `None` where it is dropped.
///
/// # Errors
/// The name of the field that is missing.
pub fn convert(mut reading: Reading) -> Result<Option<Output>, &'static str> {
    let temp = reading.get("temp").and_then(Value::as_f64).ok_or("temp")?;
    if temp < COLDEST {
        return Ok(None);
    }
    let device = reading.get("device").and_then(Value::as_str).ok_or("device")?;
    let topic = format!("out/{device}");
    let fahrenheit = ((temp * 1.8 + 32.0) * 10.0).round() / 10.0;
    reading.insert("temp_f".to_owned(), fahrenheit.into());
    reading.insert("v".to_owned(), VERSION.into());
    Ok(Some((topic, reading)))
}
