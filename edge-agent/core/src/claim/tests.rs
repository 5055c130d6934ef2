use bytes::Bytes;
use device_protocol::{Down, SchemaId, Timestamp, limits};
use proptest::prelude::*;

use super::*;
use crate::id::{DeviceId, MessageId};
use crate::message::{PROPERTY_BOOT_ID, PROPERTY_SEQUENCE, Properties, QoS};
use crate::time::{Millis, WallTime};
use crate::topic::Topic;

fn message(topic: &str, payload: &[u8]) -> Message {
    let properties =
        Properties { content_type: Some(CONTENT_TYPE.to_owned()), ..Properties::default() };
    Message {
        topic: Topic::new(topic).unwrap(),
        payload: Bytes::copy_from_slice(payload),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties,
        expiry_s: None,
        origin: Origin::Client { identity: DeviceId::new("press-7"), client_id: "c".to_owned() },
        device: Some(DeviceId::new("press-7")),
        hops: 0,
        at: Millis(0),
        wall: WallTime::default(),
    }
}

fn bytes(device: &str, sequence: u64) -> Vec<u8> {
    let envelope = Envelope {
        device,
        boot: 0xb007,
        sequence,
        schema: SchemaId(3),
        time: Timestamp::uptime(4),
        body: b"body",
    };
    let mut bytes = [0; 4 + limits::ENVELOPE_OVERHEAD_MAX];
    let length = envelope.encode(&mut bytes).unwrap();
    bytes[..length].to_vec()
}

#[test]
fn an_envelope_numbers_its_message_and_the_user_properties_do_not() {
    let mut it = message("t", &bytes("press-7", 5));
    it.properties.user = vec![
        (PROPERTY_BOOT_ID.to_owned(), "1".to_owned()),
        (PROPERTY_SEQUENCE.to_owned(), "2".to_owned()),
    ];
    let device = DeviceId::new("press-7");
    assert_eq!(check(&it), Ok(()));
    assert_eq!(it.message_id(), Some(MessageId { device: device.clone(), boot: 0xb007, seq: 5 }));
    it.properties.content_type = None;
    assert_eq!(it.message_id(), Some(MessageId { device, boot: 1, seq: 2 }));
    it.origin = Origin::Gateway;
    assert_eq!(it.message_id(), None);
}

#[test]
fn what_is_no_envelope_is_told_from_what_names_another_device() {
    let mut trailing = bytes("press-7", 1);
    trailing.push(0);
    let mut newer = bytes("press-7", 1);
    newer[0] = 9;
    for (payload, error) in [
        (b"{\"celsius\": 4}".to_vec(), ClaimError::Envelope(Error::Version(b'{'))),
        (Vec::new(), ClaimError::Envelope(Error::Empty)),
        (trailing, ClaimError::Envelope(Error::Trailing)),
        (newer, ClaimError::Envelope(Error::Version(9))),
        (bytes("press-8", 1), ClaimError::Device),
    ] {
        let mut it = message("t", &payload);
        assert_eq!(check(&it), Err(error));
        it.properties.content_type = Some("application/octet-stream".to_owned());
        assert_eq!(check(&it), Ok(()), "it says nothing of the kind");
    }
}

#[test]
fn nobody_but_the_gateway_tells_the_time() {
    let mut it = message("$holm/v1/down/press-7/time", b"");
    it.properties.content_type = None;
    assert_eq!(check(&it), Err(ClaimError::Time));
    it.origin = Origin::Gateway;
    assert_eq!(check(&it), Ok(()));
    assert!(Down::KINDS.contains(&TIME));
    let command = device_protocol::system::down_filter("press-7").unwrap();
    assert_eq!(command.strip_suffix("press-7/+"), Some(DOWN));
}

proptest! {
    /// What passes is an envelope in the sender's own name and has its numbers; nothing panics.
    #[test]
    fn what_passes_is_what_it_says(
        mut payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            any::<u64>().prop_map(|sequence| bytes("press-7", sequence)),
            any::<u64>().prop_map(|sequence| bytes("press-9", sequence)),
        ],
        bent in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        if let Some((at, byte)) = bent && !payload.is_empty() {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        let it = message("t", &payload);
        let decoded = Envelope::decode(&payload);
        match (check(&it), decoded) {
            (Ok(()), Ok(envelope)) => {
                prop_assert_eq!(envelope.device, "press-7");
                let id = it.message_id().unwrap();
                prop_assert_eq!((id.boot, id.seq), (envelope.boot, envelope.sequence));
            }
            (Err(ClaimError::Device), Ok(envelope)) => prop_assert_ne!(envelope.device, "press-7"),
            (Err(ClaimError::Envelope(error)), Err(found)) => {
                prop_assert_eq!(error, found);
                prop_assert_eq!(it.message_id(), None);
            }
            (checked, decoded) => prop_assert!(false, "{:?} {:?}", checked, decoded),
        }
    }
}
