use function_sdk::prelude::*;

#[derive(Default, Serialize, Deserialize)]
struct Beat {
    beats: u64,
    unix_ms: u64,
}

fn beat(event: Event) -> Result {
    let beat = state::json("beat").update(|beat: &mut Beat| {
        beat.beats += 1;
        beat.unix_ms = event.time.unix_ms;
    })?;
    record("beat").json(&beat)?;
    publish("@NAME@/beat").json(&beat)
}

function_sdk::export!(beat);

#[cfg(test)]
mod tests {
    use super::*;
    use function_sdk::fake::Gateway;

    #[test]
    fn it_counts() {
        let mut gateway = Gateway::new().with_shared_state();
        gateway.run(beat, Event::default()).unwrap();
        let done = gateway.run(beat, Event::default()).unwrap();
        assert_eq!(done.publishes[0].payload_json::<Beat>().beats, 2);
    }
}
