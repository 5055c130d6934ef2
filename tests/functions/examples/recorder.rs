//! Records as many payloads of such a size as the event asks for: fills an outbox.

use function_sdk::prelude::*;

#[derive(Deserialize)]
struct Wish {
    records: u32,
    bytes: usize,
}

fn recorder(event: Event) -> Result {
    let wish: Wish = event.json()?;
    for n in 0..wish.records {
        let payload: Vec<u8> = n.to_le_bytes().into_iter().cycle().take(wish.bytes).collect();
        record("fill").bytes(&payload, "application/octet-stream");
    }
    Ok(())
}

function_sdk::export!(recorder);
