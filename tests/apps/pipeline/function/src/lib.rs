//! Drops cold readings and adds the temperature in Fahrenheit to the others.

use function_sdk::prelude::*;
use pipeline_model::convert as converted;

fn convert(event: Event) -> Result {
    match converted(event.json()?) {
        Ok(Some((topic, reading))) => publish(topic).json(&reading),
        Ok(None) => Ok(()),
        Err(missing) => reject!("the reading has no `{missing}`"),
    }
}

function_sdk::export!(convert);
