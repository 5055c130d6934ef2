//! What is written is read back as it was, whole or byte by byte, and no bytes at all make the
//! decoder panic.

use bytes::Bytes;
use edge_core::message::{Message, Origin, Properties, QoS};
use edge_core::time::{Millis, WallTime};
use edge_core::topic::{Topic, TopicFilter};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    vec(prop::sample::select(vec!['a', 'ä', '/', ' ', '€', '𝄞']), 0..6)
        .prop_map(|chars| chars.into_iter().collect())
}

fn binary() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn qos() -> impl Strategy<Value = QoS> {
    prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn id() -> impl Strategy<Value = PacketId> {
    (1_u16..).prop_map(|id| PacketId::new(id).unwrap())
}

fn topic() -> impl Strategy<Value = Topic> {
    text().prop_map(|text| Topic::new(&format!("t{text}")).unwrap())
}

fn filter() -> impl Strategy<Value = TopicFilter> {
    prop::sample::select(vec!["a", "a/#", "+/b", "#", "$share/g/x", "ä"])
        .prop_map(|text| TopicFilter::new(text).unwrap())
}

fn properties() -> impl Strategy<Value = Properties> {
    let texts = (option::of(text()), option::of(text()), option::of(binary()));
    (any::<bool>(), texts, vec((text(), text()), 0..4)).prop_map(
        |(payload_is_utf8, (content_type, response_topic, correlation_data), user)| Properties {
            payload_is_utf8,
            content_type,
            response_topic,
            correlation_data,
            user,
        },
    )
}

fn will() -> impl Strategy<Value = Will> {
    (topic(), binary(), qos(), any::<bool>(), any::<u32>(), option::of(any::<u32>()), properties())
        .prop_map(|(topic, payload, qos, retain, delay_s, expiry_s, properties)| Will {
            topic,
            payload,
            qos,
            retain,
            delay_s,
            expiry_s,
            properties,
        })
}

fn connect() -> impl Strategy<Value = Packet> {
    let numbers = (any::<u16>(), any::<u32>(), 1_u16.., option::of(1_u32..), any::<u16>());
    let texts = (text(), option::of(text()), option::of(binary()), option::of(text()));
    (any::<bool>(), numbers, texts, option::of(will()), any::<bool>()).prop_map(
        |(clean_start, numbers, texts, will, request_problem_info)| {
            let (keep_alive_s, session_expiry_s, receive_max, packet_bytes_max, topic_alias_max) =
                numbers;
            let (client_id, username, password, auth_method) = texts;
            Packet::Connect(Box::new(Connect {
                version: Version::V5,
                clean_start,
                keep_alive_s,
                client_id,
                username,
                password,
                will,
                session_expiry_s,
                receive_max,
                packet_bytes_max,
                topic_alias_max,
                request_problem_info,
                auth_method,
            }))
        },
    )
}

fn publish() -> impl Strategy<Value = Packet> {
    (any::<bool>(), qos(), any::<bool>(), topic(), id(), option::of(any::<u32>()), properties())
        .prop_flat_map(|fields| (Just(fields), binary()))
        .prop_map(|((dup, qos, retain, topic, id, expiry_s, properties), payload)| {
            Packet::Publish(Publish {
                dup: dup && qos > QoS::AtMostOnce,
                qos,
                retain,
                topic,
                packet_id: (qos > QoS::AtMostOnce).then_some(id),
                expiry_s,
                subscription_ids: Vec::new(),
                properties,
                payload,
            })
        })
}

fn subscription_id() -> impl Strategy<Value = SubscriptionId> {
    (1..=0x0FFF_FFFF_u32).prop_map(|number| SubscriptionId::new(number).unwrap())
}

/// A PUBLISH of a server: it says for which subscriptions it is.
fn sent_publish() -> impl Strategy<Value = Packet> {
    (publish(), vec(subscription_id(), 0..4)).prop_map(|(packet, subscription_ids)| {
        let Packet::Publish(publish) = packet else { unreachable!() };
        Packet::Publish(Publish { subscription_ids, ..publish })
    })
}

fn options() -> impl Strategy<Value = SubscribeOptions> {
    let handling = prop::sample::select(vec![
        RetainHandling::Send,
        RetainHandling::SendIfNew,
        RetainHandling::Never,
    ]);
    (qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        |(qos, no_local, retain_as_published, retain_handling)| SubscribeOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        },
    )
}

fn from_client() -> impl Strategy<Value = Packet> {
    let ack = |reason: ReasonCode| id().prop_map(move |packet_id| Ack { packet_id, reason });
    prop_oneof![
        connect(),
        publish(),
        ack(ReasonCode::NotAuthorized).prop_map(Packet::PubAck),
        ack(ReasonCode::Success).prop_map(Packet::PubRec),
        ack(ReasonCode::PacketIdentifierNotFound).prop_map(Packet::PubRel),
        ack(ReasonCode::Success).prop_map(Packet::PubComp),
        (id(), option::of(subscription_id()), vec((filter(), options()), 1..4)).prop_map(
            |(packet_id, subscription_id, mut filters)| {
                // [MQTT-3.8.3-4]
                filters.iter_mut().for_each(|(filter, it)| it.no_local &= !filter.is_shared());
                Packet::Subscribe(Subscribe { packet_id, subscription_id, filters })
            }
        ),
        (id(), vec(filter(), 1..4)).prop_map(|(packet_id, filters)| Packet::Unsubscribe(
            Unsubscribe { packet_id, filters }
        )),
        Just(Packet::PingReq),
        option::of(any::<u32>()).prop_map(|session_expiry_s| Packet::Disconnect(Disconnect {
            reason: ReasonCode::DisconnectWithWill,
            session_expiry_s,
            reason_string: None,
        })),
    ]
}

fn from_server() -> impl Strategy<Value = Packet> {
    let reasons =
        vec(prop::sample::select(vec![ReasonCode::GrantedQoS1, ReasonCode::NotAuthorized]), 1..4);
    let connack =
        (any::<bool>(), option::of(any::<u32>()), option::of(text()), option::of(1_u16..));
    prop_oneof![
        connack.prop_map(|(session_present, expiry, text, number)| {
            Packet::ConnAck(Box::new(ConnAck {
                session_present,
                reason: ReasonCode::Success,
                properties: ConnAckProperties {
                    session_expiry_s: expiry,
                    receive_max: number,
                    packet_bytes_max: expiry,
                    assigned_client_id: text.clone(),
                    topic_alias_max: number,
                    retain_available: Some(session_present),
                    subscription_ids_available: Some(false),
                    shared_available: Some(session_present),
                    keep_alive_s: number,
                    reason_string: text,
                },
            }))
        }),
        sent_publish(),
        (id(), reasons)
            .prop_map(|(packet_id, reasons)| Packet::SubAck(AckList { packet_id, reasons })),
        id().prop_map(|packet_id| Packet::UnsubAck(AckList {
            packet_id,
            reasons: vec![ReasonCode::NoSubscriptionExisted]
        })),
        Just(Packet::PingResp),
        text().prop_map(|text| Packet::Disconnect(Disconnect {
            reason: ReasonCode::SessionTakenOver,
            session_expiry_s: None,
            reason_string: Some(text),
        })),
    ]
}

fn decoder(packet: &Packet, side: Side) -> Decoder {
    match (side, packet) {
        (Side::Server, Packet::Connect(_)) => Decoder::server(1 << 20),
        (Side::Server, _) => {
            let mut decoder = connected(Version::V5);
            decoder.set_packet_bytes_max(1 << 20);
            decoder
        }
        (Side::Client, _) => Decoder::client(Version::V5, 1 << 20),
    }
}

proptest! {
    #[test]
    fn a_packet_comes_back(packet in from_client(), other in from_server()) {
        for (side, packet) in [(Side::Server, packet), (Side::Client, other)] {
            let mut bytes = Vec::new();
            encode(&packet, Version::V5, &mut bytes);
            let mut buf = BytesMut::from(&bytes[..]);
            prop_assert_eq!(decoder(&packet, side).decode(&mut buf).unwrap(), Some(packet.clone()));
            prop_assert!(buf.is_empty());
            // Byte by byte: nothing before the last one.
            let (mut trickle, mut decoder) = (BytesMut::new(), decoder(&packet, side));
            for (at, byte) in bytes.iter().enumerate() {
                trickle.extend_from_slice(&[*byte]);
                let decoded = decoder.decode(&mut trickle).unwrap();
                prop_assert_eq!(decoded.is_some(), at + 1 == bytes.len());
            }
        }
    }

    #[test]
    fn a_packet_of_3_1_1_comes_back_without_what_only_5_has(packet in publish()) {
        let mut bytes = Vec::new();
        encode(&packet, Version::V311, &mut bytes);
        let mut decoder = connected(Version::V311);
        let decoded = decoder.decode(&mut BytesMut::from(&bytes[..])).unwrap();
        let Packet::Publish(publish) = packet else { unreachable!() };
        let plain = Publish { properties: Properties::default(), expiry_s: None, ..publish };
        prop_assert_eq!(decoded, Some(Packet::Publish(plain)));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..80), v5 in any::<bool>()) {
        let version = if v5 { Version::V5 } else { Version::V311 };
        for mut decoder in [
            Decoder::server(64), connected(version), Decoder::client(version, 64),
        ] {
            let mut buf = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decoder.decode(&mut buf) {}
        }
    }

    #[test]
    fn a_damaged_packet_does_not_make_it_panic(
        packet in from_client(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = Vec::new();
        encode(&packet, Version::V5, &mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let mut buf = BytesMut::from(&bytes[..]);
        let mut decoder = decoder(&packet, Side::Server);
        while let Ok(Some(_)) = decoder.decode(&mut buf) {}
    }
}

/// Each form of the topic has the length it says and is read back as the same topic.
#[test]
fn a_topic_goes_by_name_and_by_alias() {
    let message = Message {
        topic: Topic::new("farm/barn").unwrap(),
        payload: Bytes::new(),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::default(),
        expiry_s: None,
        origin: Origin::Gateway,
        device: None,
        hops: 0,
        at: Millis::default(),
        wall: WallTime::default(),
    };
    let mut decoder = Decoder::client(Version::V5, 1_024);
    decoder.accept_topic_aliases(1, 64);
    let forms = [(TopicForm::Name, 14), (TopicForm::Gives(1), 17), (TopicForm::Alias(1), 8)];
    for (topic_form, len) in forms {
        let head = PublishHead {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            packet_id: None,
            expiry_s: None,
            topic_form,
            subscription_ids: &[],
        };
        let mut bytes = Vec::new();
        encode_publish(head, Version::V5, &message, &mut bytes);
        assert_eq!(bytes.len(), len, "{topic_form:?}");
        assert_eq!(publish_packet_bytes(head, Version::V5, &message), len);
        let packet = decoder.decode(&mut BytesMut::from(&bytes[..])).unwrap();
        let Some(Packet::Publish(publish)) = packet else { panic!("{packet:?}") };
        assert_eq!(publish.topic, message.topic);
    }
}

#[test]
fn a_payload_is_a_slice_of_the_read_buffer() {
    let mut decoder = connected(Version::V311);
    let packet = frame(0x30, &[&field("a"), b"payload"]);
    let mut buf = BytesMut::from(&packet[..]);
    let range = buf.as_ptr_range();
    let Ok(Some(Packet::Publish(publish))) = decoder.decode(&mut buf) else { panic!() };
    assert!(range.contains(&publish.payload.as_ptr()));
}
