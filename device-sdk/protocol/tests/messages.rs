//! What is written is read back; what is not whole, too long or of another version is refused.

use device_protocol::system::{Command, Shadow, TimeReply};
use device_protocol::update::Offer;
use device_protocol::{
    Down, Envelope, Error, Message, Quality, Schema, SchemaId, Timestamp, Up, limits, message,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Schema)]
struct Reading {
    milli_celsius: i32,
}
message!(Reading, "reading", 0xbcbc_55d1_5301_02e5);

mod newer {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Schema)]
    pub(super) struct Reading {
        milli_celsius: i32,
        humidity_percent: u8,
    }
    message!(Reading, "reading");
}

#[test]
fn a_body_of_another_shape_is_refused_with_both_ids() {
    let mut body = [0; 8];
    let length = Reading { milli_celsius: 23_750 }.encode(&mut body).unwrap();
    let envelope = Envelope {
        device: "press-7",
        boot: 1,
        sequence: 2,
        schema: Reading::ID,
        time: Timestamp::uptime(3),
        body: &body[..length],
    };
    assert_eq!(envelope.message::<Reading>(), Ok(Reading { milli_celsius: 23_750 }));
    let (wanted, found) = (newer::Reading::ID.0, Reading::ID.0);
    let refused = envelope.message::<newer::Reading>().unwrap_err();
    assert_eq!(refused, Error::Schema { wanted, found });
    assert!(refused.to_string().contains(&format!("{wanted:016x}")));
}

#[test]
fn another_version_is_refused_and_named() {
    let mut bytes = [0; 64];
    let up = Up::TimeRequest(device_protocol::system::TimeRequest { uptime_ms: 7 });
    let length = up.encode(&mut bytes).unwrap();
    bytes[0] = 9;
    assert_eq!(Up::decode(&bytes[..length]), Err(Error::Version(9)));
    assert_eq!(Up::decode(&[]), Err(Error::Empty));
}

#[test]
fn bounds_hold_on_both_sides() {
    let long = vec![0; limits::BODY_MAX + 1];
    let shadow = Shadow { version: 1, schema: SchemaId::RAW, body: &long };
    let mut bytes = vec![0; limits::BODY_MAX + 64];
    assert_eq!(Down::Desired(shadow).encode(&mut bytes), Err(Error::TooLong));
    let command = Command { id: 1, name: "", schema: SchemaId::RAW, body: &[] };
    assert_eq!(Down::Command(command).encode(&mut bytes), Err(Error::Malformed));
    let reply = TimeReply { uptime_ms: 1, now: Timestamp::uptime(5) };
    assert_eq!(Down::Time(reply).encode(&mut bytes), Err(Error::Malformed));
    let short = Offer {
        digest: [1; 32],
        length: 0,
        board: "mps2-an385",
        version: 1,
        floor: 0,
        signature: &[0; 64],
    };
    assert_eq!(Down::Offer(short).encode(&mut bytes), Err(Error::Malformed));
}

#[test]
fn topics_name_device_and_kind() {
    let reply = TimeReply { uptime_ms: 1, now: Timestamp { quality: Quality::Synced, ms: 5 } };
    assert_eq!(Down::Time(reply).topic("press-7").unwrap(), "$holm/v1/down/press-7/time");
    assert!(Up::KINDS.contains(&"reported") && Down::KINDS.contains(&"time"));
}

proptest! {
    #[test]
    fn envelopes_come_back(
        device in "[a-zA-Z0-9._-]{1,64}", boot: u64, sequence: u64, schema: u64, ms: u64,
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let time = Timestamp { quality: Quality::Synced, ms };
        let envelope =
            Envelope { device: &device, boot, sequence, schema: SchemaId(schema), time, body: &body };
        let mut bytes = [0; 300 + limits::ENVELOPE_OVERHEAD_MAX];
        let length = envelope.encode(&mut bytes).unwrap();
        prop_assert_eq!(Envelope::decode(&bytes[..length]), Ok(envelope));
        prop_assert!(Envelope::decode(&bytes[..length - 1]).is_err());
        prop_assert_eq!(Envelope::decode(&bytes[..=length]), Err(Error::Trailing));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut again = [0; 256];
        if let Ok(up) = Up::decode(&bytes) {
            let length = up.encode(&mut again).unwrap();
            prop_assert_eq!(Up::decode(&again[..length]), Ok(up));
        }
        if let Ok(down) = Down::decode(&bytes) {
            let length = down.encode(&mut again).unwrap();
            prop_assert_eq!(Down::decode(&again[..length]), Ok(down));
        }
        let _ = Envelope::decode(&bytes);
    }
}
