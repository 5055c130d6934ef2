//! Publishes every payload to `echo/TOPIC`.

use function_sdk::prelude::*;

fn echo(event: Event) -> Result {
    publish(format!("echo/{}", event.topic)).bytes(event.payload);
    Ok(())
}

function_sdk::export!(echo);
