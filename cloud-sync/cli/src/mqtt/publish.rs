//! `holm pub`: hands messages to a gateway and counts what it acknowledged.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, PubRecReason, PublishProperties};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Dial, qos, random_hex};
use crate::args::Publish;
use crate::failure::{Done, Exit, Failure, read_file};
use crate::out::Out;

const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Lines read ahead of what the gateway has taken.
const AHEAD_MAX: usize = 64;
/// Refusals that are told one by one.
const REFUSED_SHOWN_MAX: usize = 5;
/// From look to look at what standard input has brought.
const LOOK: Duration = Duration::from_millis(100);

/// A message to send.
#[derive(Debug, PartialEq, Eq)]
struct Item {
    topic: String,
    payload: Vec<u8>,
}

/// `holm pub`
///
/// # Errors
/// The gateway cannot be reached, refuses a message, or does not acknowledge in time.
pub fn run(args: &Publish, out: &Out) -> Done {
    let template = Template::new(args)?;
    let dial = Dial::new(&args.broker)?;
    let (items, rest) = source(args)?;
    let counts = super::runtime()?.block_on(send(&dial, template, items))?;
    if let Some(failed) = rest.and_then(|failed| failed.try_recv().ok()) {
        return Err(failed);
    }
    report(&counts, out)
}

fn report(counts: &Counts, out: &Out) -> Done {
    let Counts { sent, acked, refused } = counts;
    if refused.is_empty() {
        let value = json!({ "sent": sent, "acked": acked });
        return out.answer(&value, |text, _| {
            if *sent != 1 {
                text.push_str(&format!("{sent} messages sent, {acked} acknowledged\n"));
            }
        });
    }
    let shown = refused.iter().take(REFUSED_SHOWN_MAX);
    let mut problems: Vec<String> =
        shown.map(|(n, why)| format!("message {n} was refused: {why}")).collect();
    if refused.len() > REFUSED_SHOWN_MAX {
        problems.push(format!("{} of {sent} messages were refused", refused.len()));
    }
    let denied = refused.values().any(|why| why == "NotAuthorized");
    let exit = if denied { Exit::Denied } else { Exit::Failed };
    let next = denied.then(|| "the device's `publish` filters do not cover the topic".to_owned());
    Err(Failure { exit, problems, next })
}

/// What all messages of a command have in common.
struct Template {
    qos: QoS,
    retain: bool,
    properties: PublishProperties,
    /// Boot id, where messages are numbered.
    boot: Option<String>,
}

impl Template {
    fn new(args: &Publish) -> Done<Self> {
        let mut properties = PublishProperties {
            content_type: args.content_type.clone(),
            message_expiry_interval: args.expiry,
            ..PublishProperties::default()
        };
        for property in &args.property {
            let (name, value) = property.split_once('=').ok_or_else(|| {
                Failure::usage(format!("`--property {property}`: write NAME=VALUE"))
            })?;
            properties.user_properties.push((name.to_owned(), value.to_owned()));
        }
        let boot = if args.message_ids { Some(random_hex()?) } else { None };
        Ok(Self { qos: qos(args.qos), retain: args.retain, properties, boot })
    }

    /// Properties of message `n`, from 1.
    fn properties(&self, n: u64) -> PublishProperties {
        let mut properties = self.properties.clone();
        if let Some(boot) = &self.boot {
            let user = &mut properties.user_properties;
            user.push(("holm-boot-id".to_owned(), boot.clone()));
            user.push(("holm-sequence".to_owned(), n.to_string()));
        }
        properties
    }
}

type Items = mpsc::Receiver<Item>;
type Failed = std::sync::mpsc::Receiver<Failure>;

/// Where messages come from; a bad line of standard input arrives through the second channel
/// after the good ones before it were sent.
fn source(args: &Publish) -> Done<(Items, Option<Failed>)> {
    let (sender, items) = mpsc::channel(AHEAD_MAX);
    let one = |payload: Vec<u8>| {
        check_topic(&args.topic)?;
        // The channel is new and has room.
        let _ = sender.try_send(Item { topic: args.topic.clone(), payload });
        Ok(())
    };
    if let Some(file) = &args.file {
        one(read_file(file, MESSAGE_BYTES_MAX)?)?;
        return Ok((items, None));
    }
    let topic = match (args.topic.as_str(), args.payload.as_deref()) {
        ("-", None | Some("-")) => None,
        ("-", Some(_)) => {
            return Err(Failure::usage("with `-` the payloads come from standard input too"));
        }
        (_, None) => {
            let next = "give it, or `-` for lines of standard input, or --file FILE";
            return Err(Failure::usage("the message has no payload").next(next));
        }
        (topic, Some("-")) => {
            check_topic(topic)?;
            Some(topic.to_owned())
        }
        (_, Some(payload)) => {
            one(payload.as_bytes().to_vec())?;
            return Ok((items, None));
        }
    };
    let (failed_sender, failed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for (n, line) in std::io::stdin().lock().lines().enumerate() {
            let item = line
                .map_err(|error| Failure::input(format!("cannot read standard input: {error}")))
                .and_then(|line| item(topic.as_deref(), &line, n + 1));
            match item {
                Ok(Some(item)) => {
                    if sender.blocking_send(item).is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                Err(failure) => {
                    let _ = failed_sender.send(failure);
                    return;
                }
            }
        }
    });
    Ok((items, Some(failed)))
}

/// A line of standard input: a payload, or topic and payload. Empty lines are skipped.
fn item(topic: Option<&str>, line: &str, n: usize) -> Done<Option<Item>> {
    let (topic, payload) = match topic {
        _ if line.trim().is_empty() => return Ok(None),
        Some(topic) => (topic, line),
        None => line.split_once(' ').ok_or_else(|| {
            Failure::input(format!("line {n} of standard input: expected TOPIC PAYLOAD"))
        })?,
    };
    check_topic(topic)
        .map_err(|failure| Failure::input(format!("line {n} of standard input: {failure}")))?;
    Ok(Some(Item { topic: topic.to_owned(), payload: payload.as_bytes().to_vec() }))
}

fn check_topic(topic: &str) -> Done {
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        let problem = format!("`{topic}` is no topic to publish to");
        return Err(Failure::usage(problem).next("a topic has no wildcards; filters do"));
    }
    Ok(())
}

/// What became of the messages.
#[derive(Debug, Default)]
struct Counts {
    sent: u64,
    acked: u64,
    /// By number of the message, from 1.
    refused: BTreeMap<u64, String>,
}

async fn send(dial: &Dial, template: Template, items: Items) -> Done<Counts> {
    let (client, mut events) = AsyncClient::new(dial.options.clone(), AHEAD_MAX);
    connect(dial, &mut events).await?;
    let at_most_once = template.qos == QoS::AtMostOnce;
    let fed = Arc::new(Fed::default());
    tokio::spawn(feed(client.clone(), template, items, Arc::clone(&fed)));
    let mut flight = Flight { at_most_once, ..Flight::default() };
    while let Some(event) = next(dial, &mut events, &fed, &mut flight).await? {
        match event {
            Ok(event) => flight.note(&event),
            Err(error) => {
                let mut failure = dial.failure(&error);
                let (acked, sent) = (flight.counts.acked, flight.counts.sent);
                failure.problems.push(format!("{acked} of {sent} messages were acknowledged"));
                return Err(failure);
            }
        }
    }
    leave(&client, &mut events).await;
    let mut counts = flight.counts;
    if at_most_once {
        counts.acked = 0;
    }
    Ok(counts)
}

/// The next event; none when all is sent, and acknowledged where that is asked for. One poll is waited for to its end:
/// dropped, it would drop what it is writing.
async fn next(
    dial: &Dial,
    events: &mut EventLoop,
    fed: &Fed,
    flight: &mut Flight,
) -> Done<Option<Result<Event, ConnectionError>>> {
    let mut poll = std::pin::pin!(events.poll());
    loop {
        // In this order: what is queued after the last line was read is all there is.
        let is_all = fed.is_all.load(Ordering::Acquire);
        let queued = fed.queued.load(Ordering::Acquire);
        if flight.is_settled(queued) {
            if is_all {
                return Ok(None);
            }
            // While standard input is silent there is nothing to wait for.
            flight.moved = None;
        }
        if let Ok(event) = timeout(LOOK, &mut poll).await {
            return Ok(Some(event));
        }
        if flight.waited(dial.timeout) {
            let count = queued.max(flight.counts.sent);
            let problem = format!(
                "{} of {count} messages were not acknowledged within {} s",
                flight.open.len() as u64 + count - flight.counts.sent,
                dial.timeout.as_secs()
            );
            return Err(Failure::new(Exit::Timeout, problem)
                .next("a full gateway holds acknowledgements: `holm status` shows its queue"));
        }
    }
}

/// Waits for the CONNACK.
pub(super) async fn connect(dial: &Dial, events: &mut EventLoop) -> Done {
    match timeout(dial.timeout, events.poll()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(dial.failure(&error)),
        Err(_) => {
            let problem = format!("{}: no answer in time", dial.address);
            Err(Failure::new(Exit::Unreachable, problem).next("is the gateway up?"))
        }
    }
}

/// Says goodbye; a gateway that does not care is none of our business.
pub(super) async fn leave(client: &AsyncClient, events: &mut EventLoop) {
    if client.try_disconnect().is_err() {
        return;
    }
    let goodbye = async {
        while let Ok(event) = events.poll().await {
            if matches!(event, Event::Outgoing(Outgoing::Disconnect)) {
                break;
            }
        }
    };
    let _ = timeout(Duration::from_secs(1), goodbye).await;
}

/// How far the input has been read.
#[derive(Debug, Default)]
struct Fed {
    /// Messages handed to the event loop, which may hold them back for a full gateway.
    queued: AtomicU64,
    /// Nothing follows these.
    is_all: AtomicBool,
}

async fn feed(client: AsyncClient, template: Template, mut items: Items, fed: Arc<Fed>) {
    let mut n = 0;
    while let Some(item) = items.recv().await {
        n += 1;
        let Item { topic, payload } = item;
        let properties = template.properties(n);
        let queued = client
            .publish_with_properties(topic, template.qos, template.retain, payload, properties)
            .await;
        if queued.is_err() {
            return; // The event loop is gone and has said why.
        }
        fed.queued.store(n, Ordering::Release);
    }
    fed.is_all.store(true, Ordering::Release);
}

/// Messages on their way, by packet id.
#[derive(Debug, Default)]
struct Flight {
    counts: Counts,
    at_most_once: bool,
    open: BTreeMap<u16, u64>,
    /// When the last one moved, or was first waited for; none while there is none to wait for.
    moved: Option<Instant>,
}

impl Flight {
    /// Whether all of these have been sent, and acknowledged where that is asked for.
    fn is_settled(&self, queued: u64) -> bool {
        self.counts.sent >= queued && (self.at_most_once || self.open.is_empty())
    }

    /// Whether nothing has moved for that long.
    fn waited(&mut self, limit: Duration) -> bool {
        self.moved.get_or_insert_with(Instant::now).elapsed() >= limit
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Outgoing(Outgoing::Publish(id)) => {
                self.counts.sent += 1;
                if *id != 0 {
                    self.open.insert(*id, self.counts.sent);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                let good = matches!(
                    ack.reason,
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers
                );
                let words = ack.properties.as_ref().and_then(|it| it.reason_string.as_deref());
                self.settle(ack.pkid, good, &ack.reason, words);
            }
            Event::Incoming(Packet::PubRec(rec)) => {
                let good = matches!(
                    rec.reason,
                    PubRecReason::Success | PubRecReason::NoMatchingSubscribers
                );
                if !good {
                    let words = rec.properties.as_ref().and_then(|it| it.reason_string.as_deref());
                    self.settle(rec.pkid, false, &rec.reason, words);
                }
            }
            Event::Incoming(Packet::PubComp(comp)) => {
                self.settle(comp.pkid, true, &comp.reason, None);
            }
            Event::Incoming(_) | Event::Outgoing(_) => return,
        }
        self.moved = Some(Instant::now());
    }

    fn settle(&mut self, id: u16, good: bool, reason: &dyn std::fmt::Debug, words: Option<&str>) {
        let Some(n) = self.open.remove(&id) else { return };
        if good {
            self.counts.acked += 1;
        } else {
            let words = words.map(|words| format!(": {}", crate::out::clean(words)));
            self.counts.refused.insert(n, format!("{reason:?}{}", words.unwrap_or_default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Broker;
    use crate::simulate::fake::{self, Gateway};

    /// A gateway that takes one message after the other: between two of them none is on its way, and that is not the end.
    #[tokio::test]
    async fn all_messages_are_sent_however_few_a_gateway_takes_at_once() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let gateway = Gateway { receive_max: 1, ..Gateway::default() };
            let dial = Dial::new(&Broker {
                broker: format!("mqtt://{}", fake::start(gateway).await),
                user: None,
                password_file: None,
                ca: None,
                cert: None,
                key: None,
                client_id: None,
                timeout: 60,
            })
            .unwrap();
            let properties = PublishProperties::default();
            let template = Template { qos, retain: false, properties, boot: None };
            let (sender, items) = mpsc::channel(AHEAD_MAX);
            for n in 0..50 {
                let item = Item { topic: "lines/x".to_owned(), payload: vec![n] };
                sender.try_send(item).unwrap();
            }
            drop(sender);
            let counts = send(&dial, template, items).await.unwrap();
            let acked = if qos == QoS::AtMostOnce { 0 } else { 50 };
            assert_eq!((counts.sent, counts.acked), (50, acked), "{qos:?}");
        }
    }

    #[test]
    fn lines_are_payloads_or_topic_and_payload() {
        let some = |topic: &str, payload: &str| {
            Some(Item { topic: topic.to_owned(), payload: payload.as_bytes().to_vec() })
        };
        assert_eq!(item(Some("t"), "{\"a\": 1}", 1).unwrap(), some("t", "{\"a\": 1}"));
        assert_eq!(item(None, "a/b hello world", 1).unwrap(), some("a/b", "hello world"));
        assert_eq!(item(None, " ", 1).unwrap(), None);
        assert!(item(None, "lonely", 7).unwrap_err().to_string().contains("line 7"));
        assert!(item(None, "a/# x", 7).is_err());
    }

    #[test]
    fn a_refused_message_is_named() {
        let mut flight = Flight::default();
        flight.note(&Event::Outgoing(Outgoing::Publish(1)));
        flight.note(&Event::Outgoing(Outgoing::Publish(2)));
        flight.settle(1, true, &"Success", None);
        assert!(!flight.is_settled(2));
        flight.settle(2, false, &"NotAuthorized", None);
        assert!(flight.is_settled(2));
        assert_eq!((flight.counts.sent, flight.counts.acked), (2, 1));
        assert_eq!(flight.counts.refused.keys().copied().collect::<Vec<_>>(), [2]);
    }
}
