//! Keeps as much state as its event asks for: `keys` of them with odd names and values of all
//! kinds, and one value `big` of so many `bytes`, which are no text.

use function_sdk::prelude::*;

#[derive(Deserialize)]
struct Order {
    keys: u32,
    bytes: u32,
}

fn hoard(event: Event) -> Result {
    let order: Order = event.json()?;
    for n in 0..order.keys {
        let value = match n % 4 {
            0 => n.to_string().into_bytes(),
            1 => vec![0xff, 0, n as u8],
            2 => format!("[{n}, \"\u{e4}\"]").into_bytes(),
            _ => format!("plain text {n}\n").into_bytes(),
        };
        state::put(&format!("k/{n:05} \u{e4}\u{7}"), &value);
    }
    if order.bytes > 0 {
        let big: Vec<u8> = (0..order.bytes).map(|n| (n % 251) as u8).collect();
        state::put("big", &big);
    }
    log!("{} keys, {} bytes", order.keys, order.bytes);
    Ok(())
}

function_sdk::export!(hoard);
