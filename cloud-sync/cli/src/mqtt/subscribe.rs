//! `holm sub`: prints what a gateway's broker delivers.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{Filter, Packet, Publish, RetainForwardRule, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::publish::{connect, leave};
use super::{Dial, qos};
use crate::args::Subscribe;
use crate::bytes_json;
use crate::failure::{Done, Exit, Failure};
use crate::out::{Out, payload};

/// `holm sub`
///
/// # Errors
/// The gateway cannot be reached or refuses a filter; with `--count`, too few messages came.
pub fn run(args: &Subscribe, out: &Out) -> Done {
    let dial = Dial::new(&args.broker)?;
    for filter in &args.filters {
        if let Err(error) = sync_protocol::filter::check_filter(filter)
            && !filter.starts_with('$')
        {
            return Err(Failure::usage(format!("topic filter `{filter}` {error}")));
        }
    }
    super::runtime()?.block_on(follow(&dial, args, out))
}

async fn follow(dial: &Dial, args: &Subscribe, out: &Out) -> Done {
    let (client, mut events) = AsyncClient::new(dial.options.clone(), 16);
    connect(dial, &mut events).await?;
    let rule =
        if args.no_retained { RetainForwardRule::Never } else { RetainForwardRule::default() };
    let filters = args.filters.iter().map(|path| Filter {
        path: path.clone(),
        qos: qos(args.qos),
        retain_forward_rule: rule.clone(),
        ..Filter::default()
    });
    client
        .try_subscribe_many(filters)
        .map_err(|error| Failure::failed(format!("cannot subscribe: {error}")))?;
    granted(dial, &args.filters, &mut events).await?;
    out.progress("Subscribed", &format!("to {} at {}", args.filters.join(", "), dial.address));
    let end = args.for_s.map(|s| Instant::now() + Duration::from_secs(s));
    let mut count = 0;
    while args.count.is_none_or(|wanted| count < wanted) {
        let event = match end {
            Some(end) => match timeout_at(end, events.poll()).await {
                Ok(event) => event,
                Err(_) => break,
            },
            None => events.poll().await,
        };
        match event {
            Ok(Event::Incoming(Packet::Publish(message))) => {
                if args.payload_only {
                    out.item(&(), |_| payload(&message.payload))?;
                } else {
                    print(&message, out)?;
                }
                count += 1;
            }
            Ok(_) => {}
            Err(error) => return Err(dial.failure(&error)),
        }
    }
    leave(&client, &mut events).await;
    match args.count {
        Some(wanted) if count < wanted => {
            let problem = format!("{count} of {wanted} messages came");
            Err(Failure::new(Exit::Timeout, problem))
        }
        _ => Ok(()),
    }
}

/// Waits for the SUBACK; messages cannot come before it.
pub(super) async fn granted(dial: &Dial, filters: &[String], events: &mut EventLoop) -> Done {
    let codes = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::SubAck(ack))) => return Ok(ack.return_codes),
                Ok(_) => {}
                Err(error) => return Err(dial.failure(&error)),
            }
        }
    };
    let codes = timeout(dial.timeout, codes).await.map_err(|_| {
        Failure::new(Exit::Timeout, format!("{}: no answer to the subscription", dial.address))
    })??;
    let refused: Vec<String> = filters
        .iter()
        .zip(&codes)
        .filter(|(_, code)| !matches!(code, SubscribeReasonCode::Success(_)))
        .map(|(filter, code)| format!("subscription to `{filter}` was refused: {code:?}"))
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    let next = "the device's `subscribe` filters on the gateway do not cover it";
    Err(Failure { exit: Exit::Denied, problems: refused, next: Some(next.to_owned()) })
}

/// Prints a message as TOPIC PAYLOAD, or as JSON.
pub(crate) fn print(message: &Publish, out: &Out) -> Done {
    let topic = String::from_utf8_lossy(&message.topic);
    out.item(&as_json(&topic, message), |_| {
        format!("{} {}", crate::out::clean(&topic), payload(&message.payload))
    })
}

fn as_json(topic: &str, message: &Publish) -> Value {
    let mut value = json!({
        "topic": topic,
        "qos": message.qos as u8,
        "retain": message.retain,
    });
    // The same words as in an event file, so that `holm invoke --event -` reads these lines.
    if let Some(object) = value.as_object_mut() {
        bytes_json::put(object, "payload", &message.payload);
    }
    if let Some(properties) = &message.properties {
        if !properties.user_properties.is_empty() {
            value["properties"] = json!(properties.user_properties);
        }
        if let Some(content_type) = &properties.content_type {
            value["content_type"] = json!(content_type);
        }
    }
    value
}
