//! Tells how commands ended.

use function_sdk::device::Up;
use function_sdk::prelude::*;

fn answers(event: Event) -> Result {
    let Up::Response(response) = Up::decode(&event.payload).or_reject("the answer")? else {
        reject!("not an answer");
    };
    let said = String::from_utf8_lossy(response.body);
    publish(format!("answers/{}", event.device()?)).text(&format!("{:?} {said}", response.status));
    Ok(())
}

function_sdk::export!(answers);
