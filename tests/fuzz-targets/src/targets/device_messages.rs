//! What devices send, and what is sent to them.

use device_protocol::{Down, Envelope, Up, limits};

/// What is read is within the bounds, and written and read again as the same.
pub(super) fn run(bytes: &[u8]) {
    let mut again = vec![0; limits::BODY_MAX + limits::ENVELOPE_OVERHEAD_MAX];
    if let Ok(envelope) = Envelope::decode(bytes) {
        assert!(envelope.body.len() <= limits::BODY_MAX, "a body over its bound");
        let length = envelope.encode(&mut again).expect("an envelope that was read");
        assert_eq!(Envelope::decode(&again[..length]), Ok(envelope));
    }
    if let Ok(up) = Up::decode(bytes) {
        let length = up.encode(&mut again).expect("a message that was read");
        assert_eq!(Up::decode(&again[..length]), Ok(up));
        assert!(Up::KINDS.contains(&up.kind()));
    }
    if let Ok(down) = Down::decode(bytes) {
        let length = down.encode(&mut again).expect("a message that was read");
        assert_eq!(Down::decode(&again[..length]), Ok(down));
        assert!(Down::KINDS.contains(&down.kind()));
    }
}
