//! Packets of clients as words: `publish topic=a payload=x qos=1 id=5`.

use std::str::FromStr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use edge_broker::codec::{
    Ack, Connect, Disconnect, Packet, PacketId, PublishHead, ReasonCode, RetainHandling, Subscribe,
    SubscribeOptions, SubscriptionId, TopicForm, Unsubscribe, Version, Will, encode,
    encode_publish,
};
use edge_core::message::{Message, Origin, Properties, QoS};
use edge_core::time::{Millis, WallTime};
use edge_core::topic::Topic;

/// What a line sends.
#[derive(Debug)]
pub enum Sent {
    /// The first bytes of a new connection.
    Open {
        /// Of what the broker will send.
        version: Version,
        /// Topic aliases the client accepts.
        topic_alias_max: u16,
        /// The bytes; empty for `open`.
        bytes: Vec<u8>,
    },
    /// More bytes.
    Bytes(Vec<u8>),
}

/// The words after the first: flags, and values by name.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn flag(&self, name: &str) -> bool {
        self.0.contains(&name)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let number = self.text(name).map(str::parse).transpose();
        number.with_context(|| format!("{name} is no number"))
    }

    /// Words that are neither flags nor values: filters.
    fn rest(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().copied().filter(|word| !word.contains('='))
    }

    fn qos(&self, name: &str) -> Result<QoS> {
        qos(self.text(name).unwrap_or("0"))
    }

    fn reason(&self) -> Result<ReasonCode> {
        let Some(text) = self.text("code") else { return Ok(ReasonCode::Success) };
        let number = u8::from_str_radix(text.trim_start_matches("0x"), 16)?;
        ReasonCode::from_u8(number).context("no reason code")
    }

    fn id(&self, last: u16) -> Result<PacketId> {
        let number = match self.text("id") {
            Some("last") => last,
            _ => self.number("id")?.context("a packet id is wanted")?,
        };
        PacketId::new(number).context("packet id 0: write it as hex")
    }

    fn properties(&self) -> Properties {
        Properties {
            payload_is_utf8: self.flag("utf8"),
            content_type: self.text("ctype").map(str::to_owned),
            response_topic: self.text("resp").map(str::to_owned),
            correlation_data: self.text("corr").map(|data| Bytes::from(data.to_owned())),
            user: self
                .text("user")
                .into_iter()
                .flat_map(|pairs| pairs.split(','))
                .filter_map(|pair| pair.split_once(':'))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        }
    }
}

fn qos(text: &str) -> Result<QoS> {
    Ok(match text {
        "0" => QoS::AtMostOnce,
        "1" => QoS::AtLeastOnce,
        "2" => QoS::ExactlyOnce,
        _ => bail!("QoS {text}: write it as hex"),
    })
}

/// Reads a line of a client that speaks `version` and received a PUBLISH with the id `last`.
///
/// # Errors
/// The words are no packet.
pub fn parse(text: &str, version: Version, last: u16) -> Result<Sent> {
    let mut words = text.split_whitespace();
    let kind = words.next().context("what is sent?")?;
    let words = Words(words.collect());
    let packet = match kind {
        "hex" => return Ok(Sent::Bytes(hex(&words.0)?)),
        "open" | "connect" => return connect(kind, &words),
        "publish" => return publish(&words, version).map(Sent::Bytes),
        "puback" | "pubrec" | "pubrel" | "pubcomp" => {
            let ack = Ack { packet_id: words.id(last)?, reason: words.reason()? };
            match kind {
                "puback" => Packet::PubAck(ack),
                "pubrec" => Packet::PubRec(ack),
                "pubrel" => Packet::PubRel(ack),
                _ => Packet::PubComp(ack),
            }
        }
        "subscribe" => Packet::Subscribe(Subscribe {
            packet_id: words.id(last)?,
            subscription_id: words.number("sid")?.and_then(SubscriptionId::new),
            filters: words.rest().map(subscription).collect::<Result<_>>()?,
        }),
        "unsubscribe" => Packet::Unsubscribe(Unsubscribe {
            packet_id: words.id(last)?,
            filters: words.rest().map(str::parse).collect::<Result<_, _>>()?,
        }),
        "pingreq" => Packet::PingReq,
        "disconnect" => Packet::Disconnect(Disconnect {
            session_expiry_s: words.number("expiry")?,
            ..Disconnect::new(words.reason()?)
        }),
        _ => bail!("no packet of a client: {kind}"),
    };
    let mut bytes = Vec::new();
    encode(&packet, version, &mut bytes);
    Ok(Sent::Bytes(bytes))
}

fn hex(words: &[&str]) -> Result<Vec<u8>> {
    words.iter().map(|byte| Ok(u8::from_str_radix(byte, 16)?)).collect()
}

fn connect(kind: &str, words: &Words<'_>) -> Result<Sent> {
    let version = if words.flag("v311") { Version::V311 } else { Version::V5 };
    let topic_alias_max = words.number("alias")?.unwrap_or_default();
    if kind == "open" {
        return Ok(Sent::Open { version, topic_alias_max, bytes: Vec::new() });
    }
    let resume = words.flag("resume");
    let kept = if version == Version::V311 && resume { u32::MAX } else { 0 };
    let connect = Connect {
        clean_start: !resume,
        keep_alive_s: words.number("keep")?.unwrap_or_default(),
        username: words.text("user").map(str::to_owned),
        password: words.text("password").map(|word| Bytes::from(word.to_owned())),
        will: will(words)?,
        session_expiry_s: words.number("expiry")?.unwrap_or(kept),
        receive_max: words.number("receive")?.unwrap_or(u16::MAX),
        packet_bytes_max: words.number("max")?,
        topic_alias_max,
        request_problem_info: !words.flag("quiet"),
        auth_method: words.text("auth").map(str::to_owned),
        ..Connect::new(version, words.text("id").unwrap_or_default())
    };
    let mut bytes = Vec::new();
    encode(&Packet::Connect(Box::new(connect)), version, &mut bytes);
    Ok(Sent::Open { version, topic_alias_max, bytes })
}

fn will(words: &Words<'_>) -> Result<Option<Will>> {
    let Some(topic) = words.text("will") else { return Ok(None) };
    Ok(Some(Will {
        topic: Topic::new(topic)?,
        payload: Bytes::from(words.text("last").unwrap_or_default().to_owned()),
        qos: words.qos("willqos")?,
        retain: words.flag("willretain"),
        delay_s: words.number("delay")?.unwrap_or_default(),
        expiry_s: None,
        properties: Properties { user: Vec::new(), ..words.properties() },
    }))
}

/// With `alias` and no topic, the alias stands for it.
fn publish(words: &Words<'_>, version: Version) -> Result<Vec<u8>> {
    let (name, alias) = (words.text("topic"), words.number("alias")?);
    let topic_form = match (name, alias) {
        (_, None) => TopicForm::Name,
        (Some(_), Some(alias)) => TopicForm::Gives(alias),
        (None, Some(alias)) => TopicForm::Alias(alias),
    };
    let qos = words.qos("qos")?;
    let expiry_s = words.number("expiry")?;
    let message = Message {
        topic: Topic::new(name.unwrap_or("unnamed"))?,
        payload: Bytes::from(words.text("payload").unwrap_or_default().to_owned()),
        qos,
        retain: words.flag("retain"),
        properties: words.properties(),
        expiry_s,
        origin: Origin::Gateway,
        device: None,
        hops: 0,
        at: Millis::default(),
        wall: WallTime::default(),
    };
    let head = PublishHead {
        dup: words.flag("dup"),
        qos,
        retain: message.retain,
        packet_id: if qos > QoS::AtMostOnce { Some(words.id(0)?) } else { None },
        expiry_s,
        topic_form,
        subscription_ids: &[],
    };
    let mut bytes = Vec::new();
    encode_publish(head, version, &message, &mut bytes);
    bytes.extend_from_slice(&message.payload);
    Ok(bytes)
}

/// `filter:qos` and options: `a/+:1,nl,rap,once`.
fn subscription(text: &str) -> Result<(edge_core::topic::TopicFilter, SubscribeOptions)> {
    let (filter, options) = text.split_once(':').context("a filter wants `:qos`")?;
    let mut options = options.split(',');
    let mut parsed =
        SubscribeOptions { qos: qos(options.next().unwrap_or("0"))?, ..Default::default() };
    for option in options {
        match option {
            "nl" => parsed.no_local = true,
            "rap" => parsed.retain_as_published = true,
            "once" => parsed.retain_handling = RetainHandling::SendIfNew,
            "never" => parsed.retain_handling = RetainHandling::Never,
            _ => bail!("no option of a subscription: {option}"),
        }
    }
    Ok((filter.parse()?, parsed))
}
