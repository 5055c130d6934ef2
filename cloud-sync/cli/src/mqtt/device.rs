//! `holm device`: commands to devices, and their shadows, over a gateway's broker.
//!
//! The bytes are those of the device protocol; the topics `$holm/v1/down/DEVICE/KIND` and
//! `$holm/v1/up/DEVICE/KIND` have to be granted to the account.

use std::time::Duration;

use device_protocol::system::{Command, Response, Shadow, Status};
use device_protocol::{DeviceName, Down, SchemaId, Up, limits};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, Packet, PubAck, PubAckReason, Publish, PublishProperties,
};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};

use super::publish::{connect, leave};
use super::subscribe::granted;
use super::{Dial, random_hex};
use crate::args::{Body, OneDevice, SendCommand, SetDesired};
use crate::bytes_json;
use crate::failure::{Done, Exit, Failure};
use crate::out::{Out, clean};

const GRANTS: &str = "the account's `publish` and `subscribe` filters on the gateway have to cover the \
                      device's topics: `holm help device command`";

/// A connection that hears what was subscribed to.
struct Line {
    dial: Dial,
    client: AsyncClient,
    events: EventLoop,
}

impl Line {
    async fn open(dial: Dial, filters: &[String]) -> Done<Self> {
        let (client, mut events) = AsyncClient::new(dial.options.clone(), 16);
        connect(&dial, &mut events).await?;
        let wanted = filters.iter().map(|path| Filter::new(path.clone(), QoS::AtLeastOnce));
        client.try_subscribe_many(wanted).map_err(gone)?;
        granted(&dial, filters, &mut events).await?;
        Ok(Self { dial, client, events })
    }

    /// The next packet until `end`; `None` then.
    async fn next(&mut self, end: Instant) -> Done<Option<Packet>> {
        loop {
            match timeout_at(end, self.events.poll()).await {
                Err(_) => return Ok(None),
                Ok(Ok(Event::Incoming(packet))) => return Ok(Some(packet)),
                Ok(Ok(Event::Outgoing(_))) => {}
                Ok(Err(error)) => return Err(self.dial.failure(&error)),
            }
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.dial.timeout
    }

    fn send(&self, down: &Down<'_>, device: &str, expiry: Option<u32>) -> Done {
        let mut bytes = vec![0; limits::BODY_MAX + 64];
        let length = down.encode(&mut bytes).map_err(|error| Failure::usage(error.to_string()))?;
        bytes.truncate(length);
        let topic = down.topic(device).map_err(|error| Failure::usage(error.to_string()))?;
        let properties =
            PublishProperties { message_expiry_interval: expiry, ..PublishProperties::default() };
        let retain = down.is_retained();
        let (client, topic) = (&self.client, topic.as_str());
        client
            .try_publish_with_properties(topic, QoS::AtLeastOnce, retain, bytes, properties)
            .map_err(gone)
    }

    /// Waits until the gateway has what was sent; what else came is in `heard`.
    async fn acked(&mut self, mut heard: impl FnMut(Publish)) -> Done {
        let end = self.deadline();
        loop {
            match self.next(end).await? {
                Some(Packet::PubAck(ack)) => return taken(&ack),
                Some(Packet::Publish(message)) => heard(message),
                Some(_) => {}
                None => return Err(silent(&self.dial)),
            }
        }
    }

    /// All that the gateway retains under the filters: it is sent before the answer to what is asked
    /// behind the subscription.
    async fn retained(&mut self, filters: &[String]) -> Done<Vec<Publish>> {
        for filter in filters {
            self.client.try_unsubscribe(filter.clone()).map_err(gone)?;
        }
        let (end, mut left, mut all) = (self.deadline(), filters.len(), Vec::new());
        while left > 0 {
            match self.next(end).await? {
                Some(Packet::UnsubAck(_)) => left -= 1,
                Some(Packet::Publish(message)) => all.push(message),
                Some(_) => {}
                None => return Err(silent(&self.dial)),
            }
        }
        Ok(all)
    }

    async fn close(mut self) {
        leave(&self.client, &mut self.events).await;
    }
}

fn gone(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("cannot send: {error}"))
}

fn silent(dial: &Dial) -> Failure {
    Failure::new(Exit::Timeout, format!("{}: no answer in time", dial.address))
}

fn taken(ack: &PubAck) -> Done {
    if matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers) {
        return Ok(());
    }
    let words = ack.properties.as_ref().and_then(|it| it.reason_string.as_deref());
    let words = words.map(|words| format!(" ({})", clean(words))).unwrap_or_default();
    let problem = format!("the gateway refused it: {:?}{words}", ack.reason);
    Err(match ack.reason {
        PubAckReason::NotAuthorized => Failure::new(Exit::Denied, problem).next(GRANTS),
        _ => Failure::failed(problem),
    })
}

fn named(device: &str) -> Done<DeviceName> {
    DeviceName::new(device)
        .map_err(|error| Failure::usage(format!("`{}` is no device: {error}", clean(device))))
}

/// Bytes and schema as they were given.
fn given(body: &Body) -> Done<(SchemaId, Vec<u8>)> {
    let id = body.schema.as_deref().map(|id| {
        let digits = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(id, 16).ok().filter(|_| digits).map(SchemaId).ok_or_else(|| {
            Failure::usage(format!("`{}` is no schema: 16 hexadecimal digits", clean(id)))
        })
    });
    let schema = id.transpose()?.unwrap_or(SchemaId::RAW);
    let bytes = match (&body.text, &body.hex, body.u32) {
        (Some(text), _, _) => text.clone().into_bytes(),
        (_, Some(hex), _) => bytes_json::from_hex(hex)
            .ok_or_else(|| Failure::usage("`--hex` takes pairs of hexadecimal digits"))?,
        (_, _, Some(n)) => postcard::to_stdvec(&n).map_err(gone)?,
        (None, None, None) => Vec::new(),
    };
    Ok((schema, bytes))
}

fn up(device: &str, kind: &str) -> String {
    format!("{}{device}/{kind}", edge_agent::desk::UP)
}

/// `holm device command`
///
/// # Errors
/// The gateway cannot be reached or does not allow it; the device does not answer, or not with done.
pub(crate) fn command(args: &SendCommand, out: &Out) -> Done {
    let device = named(&args.device)?;
    let (schema, body) = given(&args.body)?;
    let id = u64::from_str_radix(&random_hex()?, 16).map_err(gone)?;
    let down = Down::Command(Command { id, name: &args.name, schema, body: &body });
    let dial = Dial::new(&args.broker)?;
    let answer = super::runtime()?.block_on(async {
        let mut line = Line::open(dial, &[up(&device, "response")]).await?;
        line.send(&down, &device, args.expiry)?;
        let mut early = None;
        line.acked(|message| early = early.take().or_else(|| answer_to(id, &message))).await?;
        let end = Instant::now() + Duration::from_secs(args.wait);
        while early.is_none() && args.wait > 0 {
            match line.next(end).await? {
                Some(Packet::Publish(message)) => early = answer_to(id, &message),
                Some(_) => {}
                None => break,
            }
        }
        line.close().await;
        Ok::<_, Failure>(early)
    })?;
    match answer {
        Some(answer) => answer.tell(args, out),
        None if args.wait == 0 => {
            let value = json!({ "device": args.device, "command": args.name, "id": id_text(id) });
            out.answer(&value, |text, _| {
                text.push_str(&format!("{}: the gateway has the command\n", args.device));
            })
        }
        None => {
            let problem = format!("{} did not answer within {} s", args.device, args.wait);
            let next = "the gateway keeps the command for a device that keeps its session; \
                        `edge-agent devices` shows who is connected, --wait waits longer";
            Err(Failure::new(Exit::Timeout, problem).next(next))
        }
    }
}

/// What a device answered.
struct Answer {
    id: u64,
    status: Status,
    schema: SchemaId,
    body: Vec<u8>,
}

fn answer_to(id: u64, message: &Publish) -> Option<Answer> {
    match Up::decode(&message.payload) {
        Ok(Up::Response(Response { id: found, status, schema, body })) if found == id => {
            Some(Answer { id, status, schema, body: body.to_owned() })
        }
        _ => None,
    }
}

impl Answer {
    fn tell(&self, args: &SendCommand, out: &Out) -> Done {
        let word = match self.status {
            Status::Done => "done",
            Status::Failed => "failed",
            Status::Unknown => "unknown command",
            Status::BadArgument => "bad argument",
            Status::Busy => "busy",
        };
        let said =
            if self.body.is_empty() { String::new() } else { format!(": {}", shown(&self.body)) };
        if self.status != Status::Done {
            return Err(Failure::failed(format!("{}: {word}{said}", args.device)));
        }
        let mut value = Map::new();
        value.insert("device".to_owned(), json!(args.device));
        value.insert("command".to_owned(), json!(args.name));
        value.insert("id".to_owned(), json!(id_text(self.id)));
        value.insert("status".to_owned(), json!(word));
        value.insert("schema".to_owned(), json!(self.schema.to_string()));
        bytes_json::put(&mut value, "body", &self.body);
        out.answer(&value, |text, _| text.push_str(&format!("{}: {word}{said}\n", args.device)))
    }
}

/// Bytes as text, or in hexadecimal where they are none.
fn shown(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes).map(|text| clean(text).into_owned());
    text.unwrap_or_else(|_| format!("0x{}", bytes_json::to_hex(bytes)))
}

fn id_text(id: u64) -> String {
    format!("{id:016x}")
}

/// A document as it was found.
enum Found {
    Nothing,
    Document { version: u32, schema: SchemaId, body: Vec<u8> },
    Unreadable(String),
}

impl Found {
    fn of(shadow: &Shadow<'_>) -> Self {
        let Shadow { version, schema, body } = *shadow;
        Self::Document { version, schema, body: body.to_owned() }
    }

    fn version(&self) -> u32 {
        if let Self::Document { version, .. } = self { *version } else { 0 }
    }

    fn json(&self) -> Value {
        match self {
            Self::Nothing => Value::Null,
            Self::Unreadable(why) => json!({ "unreadable": why }),
            Self::Document { version, schema, body } => {
                let mut value = Map::new();
                value.insert("version".to_owned(), json!(version));
                value.insert("schema".to_owned(), json!(schema.to_string()));
                bytes_json::put(&mut value, "document", body);
                Value::Object(value)
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Unreadable(why) => format!("unreadable: {why}"),
            Self::Document { version, schema, body } => {
                let schema = match *schema {
                    SchemaId::RAW => String::new(),
                    schema => format!(" (schema {schema})"),
                };
                format!("version {version}{schema}  {}", shown(body))
            }
        }
    }
}

/// Topics of the two sides of a shadow: desired, reported.
fn shadow_topics(device: &str) -> [String; 2] {
    [format!("{}{device}/desired", edge_core::claim::DOWN), up(device, "reported")]
}

/// Desired and reported, as the gateway retains them.
async fn both_sides(line: &mut Line, topics: &[String; 2]) -> Done<[Found; 2]> {
    let mut sides = [Found::Nothing, Found::Nothing];
    for message in line.retained(topics).await? {
        let desired = message.topic == topics[0].as_bytes();
        sides[usize::from(!desired)] = if desired {
            match Down::decode(&message.payload) {
                Ok(Down::Desired(shadow)) => Found::of(&shadow),
                Ok(_) => Found::Unreadable("a message of another kind".to_owned()),
                Err(error) => Found::Unreadable(error.to_string()),
            }
        } else {
            match Up::decode(&message.payload) {
                Ok(Up::Reported(shadow)) => Found::of(&shadow),
                Ok(_) => Found::Unreadable("a message of another kind".to_owned()),
                Err(error) => Found::Unreadable(error.to_string()),
            }
        };
    }
    Ok(sides)
}

/// `holm device desired`
///
/// # Errors
/// The gateway cannot be reached or does not allow it.
pub(crate) fn desired(args: &SetDesired, out: &Out) -> Done {
    let device = named(&args.device)?;
    let (schema, body) = given(&args.body)?;
    let dial = Dial::new(&args.broker)?;
    let topics = shadow_topics(&device);
    let version = super::runtime()?.block_on(async {
        let mut line = Line::open(dial, &topics).await?;
        let known = both_sides(&mut line, &topics).await?;
        let last = known.iter().map(Found::version).max().unwrap_or_default();
        let version = match args.version {
            Some(version) => version,
            None => last.checked_add(1).ok_or_else(|| {
                Failure::failed(format!("version {last} is the last one there can be"))
            })?,
        };
        let shadow = Shadow { version, schema, body: &body };
        line.send(&Down::Desired(shadow), &device, None)?;
        line.acked(drop).await?;
        line.close().await;
        Ok::<_, Failure>(version)
    })?;
    out.answer(&json!({ "device": args.device, "version": version }), |text, _| {
        text.push_str(&format!("{}: version {version} is desired\n", args.device));
    })
}

/// `holm device shadow`
///
/// # Errors
/// The gateway cannot be reached or does not allow it.
pub(crate) fn shadow(args: &OneDevice, out: &Out) -> Done {
    let device = named(&args.device)?;
    let dial = Dial::new(&args.broker)?;
    let topics = shadow_topics(&device);
    let [desired, reported] = super::runtime()?.block_on(async {
        let mut line = Line::open(dial, &topics).await?;
        let both = both_sides(&mut line, &topics).await?;
        line.close().await;
        Ok::<_, Failure>(both)
    })?;
    let value =
        json!({ "device": args.device, "desired": desired.json(), "reported": reported.json() });
    out.answer(&value, |text, _| {
        text.push_str(&format!("desired   {}\nreported  {}\n", desired.text(), reported.text()));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> Body {
        Body { text: None, hex: None, u32: None, schema: None }
    }

    #[test]
    fn a_body_is_text_bytes_or_a_number_of_the_protocol() {
        let text = Body { text: Some("x".to_owned()), ..body() };
        let hex =
            Body { hex: Some("0aFF".to_owned()), schema: Some("0".repeat(15) + "7"), ..body() };
        let number = Body { u32: Some(300), ..body() };
        assert_eq!(given(&text).unwrap(), (SchemaId::RAW, b"x".to_vec()));
        assert_eq!(given(&hex).unwrap(), (SchemaId(7), vec![0x0a, 0xff]));
        assert_eq!(given(&number).unwrap(), (SchemaId::RAW, vec![0xac, 0x02]));
        assert_eq!(given(&body()).unwrap(), (SchemaId::RAW, Vec::new()));
        let odd = Body { hex: Some("abc".to_owned()), ..body() };
        let schema = Body { schema: Some("+00000000000000f".to_owned()), ..body() };
        assert!(given(&odd).is_err() && given(&schema).is_err());
        assert!(named("press 7").is_err());
    }

    #[test]
    fn documents_that_are_no_text_are_shown_in_hexadecimal() {
        let shadow = Shadow { version: 3, schema: SchemaId(0xab), body: &[0xff, 1] };
        assert_eq!(Found::of(&shadow).text(), "version 3 (schema 00000000000000ab)  0xff01");
        assert_eq!(Found::of(&shadow).json()["document_hex"], "ff01");
        assert_eq!(Found::Nothing.text(), "nothing");
    }
}
