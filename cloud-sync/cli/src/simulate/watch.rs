//! A subscriber: what it sees of readings and of what functions publish about them goes into the ledger.

use std::sync::Arc;
use std::time::Duration;

use device_protocol::{CONTENT_TYPE, Envelope};
use edge_core::message::{PROPERTY_BOOT_ID, PROPERTY_SEQUENCE};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, Publish, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop};
use serde_json::Value;
use sync_protocol::filter::matches;
use tokio::time::{sleep, timeout};

use super::client;
use super::credentials::WATCHER;
use super::ledger::{Id, Sight};
use super::shared::Shared;
use crate::failure::{Done, Exit, Failure};

const RECONNECT: Duration = Duration::from_millis(500);
const ANSWER_MAX: Duration = Duration::from_secs(10);
const PACKET_BYTES_MAX: u32 = (1 << 20) + (64 << 10);
/// The gateway keeps what is not delivered for so long, should the connection break.
const SESSION_S: u32 = 600;

/// Connects, and returns when the gateway has confirmed the subscriptions; what follows is seen until the process ends.
///
/// # Errors
/// The gateway cannot be reached or does not allow it.
pub(super) async fn start(shared: &Arc<Shared>) -> Done {
    let id = format!("holm-simulate-{}", crate::mqtt::random_hex()?);
    let options = client::options(&shared.credentials, &shared.gateway, id, None);
    let mut options = options.map_err(Failure::input)?;
    options.set_keep_alive(Duration::from_secs(20)).set_clean_start(false);
    options.set_session_expiry_interval(Some(SESSION_S));
    options.set_max_packet_size(Some(PACKET_BYTES_MAX));
    if let Some(token) = shared.credentials.watcher() {
        options.set_credentials(WATCHER, token);
    }
    let mut filters = vec![shared.profile.readings_filter()];
    filters.extend(shared.profile.functions.clone());
    let (client, mut events) = AsyncClient::new(options, 16);
    match timeout(ANSWER_MAX, subscribed(&client, &mut events, &filters)).await {
        Ok(answer) => answer.map_err(|failure| named(shared, failure))?,
        Err(_) => return Err(named(shared, Failure::new(Exit::Timeout, "no answer in time"))),
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::Publish(message))) => see(&shared, &message),
                Ok(Event::Incoming(Packet::ConnAck(ack))) if !ack.session_present => {
                    // The gateway has forgotten it; the queue of a fresh connection has room.
                    let _ = client.try_subscribe_many(wanted(&filters));
                }
                Ok(_) => {}
                Err(_) => sleep(RECONNECT).await,
            }
        }
    });
    Ok(())
}

fn named(shared: &Shared, mut failure: Failure) -> Failure {
    for problem in &mut failure.problems {
        *problem = format!("{}: {problem}", shared.gateway);
    }
    failure
}

async fn subscribed(client: &AsyncClient, events: &mut EventLoop, filters: &[String]) -> Done {
    client
        .try_subscribe_many(wanted(filters))
        .map_err(|error| Failure::failed(format!("cannot subscribe: {error}")))?;
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                let is_refused =
                    |code: &SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
                if ack.return_codes.iter().any(is_refused) {
                    return Err(not_allowed(filters));
                }
                return Ok(());
            }
            Ok(_) => {}
            Err(error) => return Err(unreachable(&error)),
        }
    }
}

fn wanted(filters: &[String]) -> Vec<Filter> {
    filters.iter().map(|path| Filter::new(path.clone(), QoS::AtLeastOnce)).collect()
}

fn not_allowed(filters: &[String]) -> Failure {
    let problem = format!("watching is not allowed (subscription to {})", filters.join(", "));
    Failure::new(Exit::Denied, problem).next(format!(
        "`holm simulate prepare` makes the account `{WATCHER}`; start the agent again after it"
    ))
}

fn unreachable(error: &ConnectionError) -> Failure {
    let (exit, why, next) = crate::mqtt::explain(error);
    let next = match exit {
        _ if matches!(error, ConnectionError::Tls(_)) => {
            "were the credentials made for this gateway? the authority that signed its listener must be the one of \
             `holm simulate prepare --tls`, and --server-name a name in its certificate"
                .to_owned()
        }
        Exit::Denied => format!(
            "it lets nobody in without a name, or does not know `{WATCHER}`: `holm simulate prepare` makes \
             the accounts; start the agent again after it"
        ),
        Exit::Unreachable => "is a gateway running there? --gateway HOST:PORT names another, \
                              --with-gateway starts one"
            .to_owned(),
        _ => next.unwrap_or("is it a gateway?").to_owned(),
    };
    Failure::new(exit, why).next(next)
}

fn see(shared: &Shared, message: &Publish) {
    let topic = String::from_utf8_lossy(&message.topic);
    if matches(&shared.profile.readings_filter(), &topic) {
        let reading = match message.properties.as_ref() {
            Some(it) if it.content_type.as_deref() == Some(CONTENT_TYPE) => enveloped(message),
            Some(it) => shared.profile.device_of(&topic).zip(numbered(&it.user_properties)),
            None => None,
        };
        if let Some((device, id)) = reading {
            shared.ledger().saw(device, id, Sight::Subscriber, message.dup);
        }
        return;
    }
    let value: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
    match reading_of(&value) {
        Some((device, id)) => shared.ledger().saw(device, id, Sight::Function, message.dup),
        None => {
            // Such as alarms/press-7: the device is a level of the topic.
            let mut ledger = shared.ledger();
            topic.split('/').for_each(|level| ledger.heard(level));
        }
    }
}

/// The reading in an envelope.
fn enveloped(message: &Publish) -> Option<(&str, Id)> {
    let Envelope { device, boot, sequence, .. } = Envelope::decode(&message.payload).ok()?;
    Some((device, Id { boot, sequence }))
}

/// The number of a reading without an envelope.
fn numbered(properties: &[(String, String)]) -> Option<Id> {
    let find = |name: &str| properties.iter().find(|(known, _)| known == name);
    let (_, boot) = find(PROPERTY_BOOT_ID)?;
    let (_, sequence) = find(PROPERTY_SEQUENCE)?;
    Some(Id { boot: u64::from_str_radix(boot, 16).ok()?, sequence: sequence.parse().ok()? })
}

/// Which reading a document is about: `device`, `boot` (16 hexadecimal digits) and `sequence`.
pub(super) fn reading_of(value: &Value) -> Option<(&str, Id)> {
    let boot = u64::from_str_radix(value["boot"].as_str()?, 16).ok()?;
    Some((value["device"].as_str()?, Id { boot, sequence: value["sequence"].as_u64()? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_says_which_reading_it_is_about() {
        let value = json!({ "device": "a", "boot": "00000000000000ff", "sequence": 3 });
        assert_eq!(reading_of(&value), Some(("a", Id { boot: 255, sequence: 3 })));
        for bad in [json!(3), json!({}), json!({ "device": "a", "boot": 1, "sequence": 1 })] {
            assert_eq!(reading_of(&bad), None);
        }
    }
}
