//! What gateway and control plane say to each other, the topics they say it on, and tokens.

use std::fmt::Debug;

use sync_protocol::enroll::{EnrollReply, EnrollRequest, Token};
use sync_protocol::record::Report;
use sync_protocol::topics::SyncTopic;
use sync_protocol::wire::{Down, Message, Presence, Up};

use crate::bytes_reader::BytesReader;

/// What is read can be written and is read again as the same.
pub(super) fn run(bytes: &[u8]) {
    let mut reader = BytesReader::new(bytes);
    match reader.byte() % 8 {
        0 => again::<Up>(reader.rest()),
        1 => again::<Down>(reader.rest()),
        2 => again::<Presence>(reader.rest()),
        3 => again::<EnrollRequest>(reader.rest()),
        4 => again::<EnrollReply>(reader.rest()),
        5 => report(reader.rest()),
        6 => topic(reader.rest()),
        _ => token(reader.rest()),
    }
}

fn again<T: Message + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = T::decode(bytes) else { return };
    let written = message.encode().expect("what was read is within its bounds");
    assert_eq!(T::decode(&written).as_ref(), Ok(&message));
}

fn report(bytes: &[u8]) {
    let Ok(report) = Report::from_bytes(bytes) else { return };
    assert_eq!(Report::from_bytes(&report.to_bytes()).as_ref(), Ok(&report));
}

fn topic(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(topic) = SyncTopic::parse(text) {
        assert!(text.split('/').any(|level| level == topic.gateway()), "{text}");
    }
}

fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(token) = text.parse::<Token>() else { return };
    assert!(token.to_string().parse::<Token>().is_ok_and(|again| again == token), "{text}");
}
