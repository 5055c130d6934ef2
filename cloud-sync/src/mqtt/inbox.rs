//! What a delivery of a gateway is, by its topic.

use edge_broker::codec::ReasonCode;
use sync_protocol::enroll::EnrollRequest;
use sync_protocol::topics::SyncTopic;
use sync_protocol::wire::{Message as _, Presence, Up};

/// A delivery, read.
pub(super) enum Mail {
    /// A message of an enrolled gateway.
    Up { gateway: String, up: Box<Up> },
    /// It says whether it is there. The broker knows better; brokers in between do not.
    Presence { gateway: String, presence: Presence },
    /// A gateway wants to enrol.
    Enrol { gateway: String, request: EnrollRequest },
    /// Nothing that this version understands; it is acked and forgotten.
    Unreadable { gateway: String, error: String },
    /// On a topic where nobody may publish.
    Refused(ReasonCode),
}

/// Reads a delivery. Grants were checked by the broker: the topic names who published.
pub(super) fn read(topic: &str, payload: &[u8]) -> Mail {
    let unreadable = |gateway: String, error: &dyn std::fmt::Display| Mail::Unreadable {
        gateway,
        error: error.to_string(),
    };
    match SyncTopic::parse(topic) {
        Some(SyncTopic::Up(gateway)) => match Up::decode(payload) {
            Ok(up) => Mail::Up { gateway, up: Box::new(up) },
            Err(error) => unreadable(gateway, &error),
        },
        Some(SyncTopic::Presence(gateway)) => match Presence::decode(payload) {
            Ok(presence) => Mail::Presence { gateway, presence },
            Err(error) => unreadable(gateway, &error),
        },
        Some(SyncTopic::EnrollRequest(gateway)) => match EnrollRequest::decode(payload) {
            Ok(request) => Mail::Enrol { gateway, request },
            Err(error) => unreadable(gateway, &error),
        },
        Some(SyncTopic::Down(_) | SyncTopic::EnrollReply(_)) | None => {
            Mail::Refused(ReasonCode::NotAuthorized)
        }
    }
}
