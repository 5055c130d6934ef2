//! A device and the bridge's side of it, with a broker that answers when it is told to.

mod live;

use bytes::BytesMut;
use device_protocol::serial::{
    Deframer, Device, DeviceConfig, FromDevice, FromGateway, Refusal, State, Timing, WIRE_MAX,
};
use device_protocol::system::{Command, TimeRequest};
use device_protocol::{Down, Envelope, SchemaId, Timestamp, Up};
use edge_broker::codec::{
    Ack, AckList, ConnAck, ConnAckProperties, Decoder, Disconnect, Packet, PacketId, Publish,
    ReasonCode, Version, encode,
};
use edge_core::message::QoS;
use edge_core::topic::Topic;

use super::member::{Member, MemberConfig};
use super::roster::Roster;
use crate::settings::Settings;

const PAYLOAD_BYTES_MAX: usize = 200;
const TIMING: Timing = Timing::for_baud(115_200);
const SETTINGS: &str = "name = \"g\"\n[[devices]]\nname = \"press\"\n\
    token_sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n\
    [[buses]]\nname = \"x\"\ndevice = \"d\"\n";

struct Rig {
    device: Device<'static, 1_024, 1_024>,
    member: Member,
    roster: Roster,
    deframer: Deframer,
    decoder: Decoder,
    to_broker: BytesMut,
    /// What it says in CONNACK.
    packet_bytes_max: Option<u32>,
    /// What the broker got and did not answer.
    got: Vec<Packet>,
    /// On the line, behind a message that the device has not taken.
    line: Vec<u8>,
    now: u64,
}

fn rig(token: &'static [u8]) -> Rig {
    let settings = Settings::parse(SETTINGS).expect("valid");
    let name = "press";
    let config = DeviceConfig { address: None, name, credential: token, timing: TIMING, seed: 7 };
    Rig {
        device: Device::new(config),
        member: Member::new(MemberConfig {
            bus: "x".to_owned(),
            address: None,
            timing: TIMING,
            seed: 9,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
        }),
        roster: Roster::new(&settings, &settings.buses[0]),
        deframer: Deframer::new(),
        decoder: Decoder::server(65_536),
        to_broker: BytesMut::new(),
        packet_bytes_max: None,
        got: Vec::new(),
        line: Vec::new(),
        now: 0,
    }
}

impl Rig {
    fn turn(&mut self) {
        self.now += 5;
        let mut out = [0; WIRE_MAX];
        while let length @ 1.. = self.device.transmit(self.now, &mut out) {
            for byte in &out[..length] {
                if let Some(Ok((header, payload))) = self.deframer.push(*byte) {
                    self.member.frame(&header, payload, &self.roster, self.now);
                }
            }
        }
        self.member.work(self.now);
        if self.member.call().is_some() {
            (self.decoder, self.to_broker) = (Decoder::server(65_536), BytesMut::new());
        }
        self.to_broker.extend_from_slice(&self.member.take_bytes());
        while let Some(packet) = self.decoder.decode(&mut self.to_broker).expect("good packets") {
            self.broker(packet);
        }
        while let length @ 1.. = self.member.transmit(self.now, &mut out) {
            self.line.extend_from_slice(&out[..length]);
        }
        let taken = self.device.receive(&self.line, self.now);
        self.line.drain(..taken);
    }

    fn broker(&mut self, packet: Packet) {
        match packet {
            Packet::Connect(connect) => {
                assert_eq!((connect.client_id.as_str(), connect.clean_start), ("press", false));
                let reason = ReasonCode::Success;
                let packet_bytes_max = self.packet_bytes_max;
                let properties = ConnAckProperties { packet_bytes_max, ..Default::default() };
                self.say(&Packet::ConnAck(Box::new(ConnAck {
                    session_present: false,
                    reason,
                    properties,
                })));
            }
            Packet::Subscribe(subscribe) => {
                assert_eq!(subscribe.filters[0].0.to_string(), "$holm/v1/down/press/+");
                let reasons = vec![ReasonCode::GrantedQoS1];
                self.say(&Packet::SubAck(AckList { packet_id: subscribe.packet_id, reasons }));
            }
            packet => self.got.push(packet),
        }
    }

    fn say(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        encode(packet, Version::V5, &mut bytes);
        self.member.hear_broker(&bytes, self.now);
    }

    fn turns(&mut self, count: u32) {
        (0..count).for_each(|_| self.turn());
    }

    fn connect(&mut self) {
        self.turns(10);
        assert_eq!(self.device.state(), State::Up);
        assert!(self.member.is_up());
    }

    fn publish(&mut self, id: u32, device: &str) {
        self.publish_body(id, device, b"21.5");
    }

    fn publish_body(&mut self, id: u32, device: &str, body: &[u8]) {
        let mut envelope = [0; 512];
        let length = Envelope {
            device,
            boot: 0xAB,
            sequence: u64::from(id),
            schema: SchemaId::RAW,
            time: Timestamp::uptime(1),
            body,
        }
        .encode(&mut envelope)
        .expect("it fits");
        let envelope = &envelope[..length];
        self.device
            .send(&FromDevice::Publish { id, topic: "readings/press", envelope })
            .expect("room");
    }

    /// The broker delivers a command on a topic; gives back its payload.
    fn say_command(&mut self, topic: &str, packet_id: Option<PacketId>) -> Vec<u8> {
        let mut down = [0; 64];
        let command = Command { id: 5, name: "rate", schema: SchemaId::RAW, body: b"9" };
        let length = Down::Command(command).encode(&mut down).expect("it fits");
        let payload = down[..length].to_vec();
        self.say(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Topic::new(topic).expect("a topic"),
            packet_id,
            expiry_s: None,
            subscription_ids: Vec::new(),
            properties: Default::default(),
            payload: payload.clone().into(),
        }));
        payload
    }

    fn publishes(&self) -> Vec<&Publish> {
        let publishes = self.got.iter().filter_map(|packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        });
        publishes.collect()
    }
}

#[test]
fn durable_is_said_after_the_puback_and_not_before() {
    let mut rig = rig(b"test");
    rig.connect();
    rig.publish(41, "press");
    rig.turns(20);
    assert!(rig.device.message().is_none(), "received, but not durable");
    assert_eq!(rig.device.messages_acked(), 1);
    let publishes = rig.publishes();
    let publish = publishes[0];
    assert_eq!((publish.topic.as_str(), publish.qos), ("readings/press", QoS::AtLeastOnce));
    assert_eq!(
        publish.properties.user,
        [
            ("holm-boot-id".to_owned(), "00000000000000ab".to_owned()),
            ("holm-sequence".to_owned(), "41".to_owned())
        ]
    );
    let packet_id = publish.packet_id.expect("QoS 1");
    rig.say(&Packet::PubAck(Ack::ok(packet_id)));
    rig.turn();
    assert_eq!(rig.device.message(), Some(Ok(FromGateway::Durable { id: 41 })));
}

#[test]
fn what_is_refused_is_said_with_its_reason() {
    let mut rig = rig(b"test");
    rig.connect();
    rig.publish(1, "another");
    rig.device
        .send(&FromDevice::Publish { id: 2, topic: "readings/press", envelope: b"none" })
        .expect("room");
    let mut answers = Vec::new();
    for _ in 0..10 {
        rig.turn();
        if let Some(Ok(FromGateway::Rejected { id, reason })) = rig.device.message() {
            answers.push((id, reason));
            rig.device.take();
        }
    }
    assert_eq!(answers, [(1, 0x87), (2, 0x99)]);
    assert!(rig.publishes().is_empty());
}

#[test]
fn a_command_is_acked_when_the_device_has_taken_it() {
    let mut rig = rig(b"test");
    rig.connect();
    let packet_id = PacketId::new(77);
    let payload = rig.say_command("$holm/v1/down/press/command", packet_id);
    rig.turns(20);
    assert_eq!(rig.device.message(), Some(Ok(FromGateway::System { down: &payload })));
    assert!(rig.got.is_empty(), "the device has not worked on it");
    rig.device.take();
    rig.turns(5);
    assert_eq!(rig.got, [Packet::PubAck(Ack::ok(packet_id.expect("not 0")))]);
}

#[test]
fn a_time_request_waits_for_no_disk() {
    let mut rig = rig(b"test");
    rig.connect();
    let mut up = [0; 16];
    let length = Up::TimeRequest(TimeRequest { uptime_ms: 5 }).encode(&mut up).expect("it fits");
    rig.device.send(&FromDevice::System { id: 3, up: &up[..length] }).expect("room");
    rig.turns(5);
    assert_eq!(rig.publishes()[0].qos, QoS::AtMostOnce);
    assert_eq!(rig.publishes()[0].topic.as_str(), "$holm/v1/up/press/time");
    assert_eq!(rig.device.message(), Some(Ok(FromGateway::Durable { id: 3 })));
}

#[test]
fn a_wrong_token_gets_no_session() {
    let mut rig = rig(b"tost");
    rig.turns(10);
    assert_eq!(rig.device.state(), State::Refused(Refusal::Credential));
    assert!(rig.member.is_silent());
}

/// Who may send a firmware offer may not send commands for that.
#[test]
fn a_command_on_the_topic_of_another_kind_goes_nowhere() {
    let mut rig = rig(b"test");
    rig.connect();
    let packet_id = PacketId::new(78);
    let topics = ["$holm/v1/down/press/offer", "commands/command", "$holm/v1/down/drill/command"];
    for (count, topic) in (1..).zip(topics) {
        rig.say_command(topic, packet_id);
        rig.turns(20);
        assert_eq!(rig.device.message(), None, "{topic}");
        assert_eq!(rig.got.pop(), Some(Packet::PubAck(Ack::ok(packet_id.expect("not 0")))));
        assert_eq!(rig.member.figures.undelivered, count);
    }
}

#[test]
fn what_is_too_long_for_the_broker_is_refused_and_the_session_goes_on() {
    // By the size of its packets, and by that of its messages.
    for packet_bytes_max in [Some(150), None] {
        let mut rig = rig(b"test");
        rig.packet_bytes_max = packet_bytes_max;
        rig.connect();
        let body = if packet_bytes_max.is_some() { 100 } else { PAYLOAD_BYTES_MAX };
        rig.publish_body(1, "press", &vec![7; body]);
        rig.publish(2, "press");
        rig.turns(20);
        assert_eq!(
            rig.device.message(),
            Some(Ok(FromGateway::Rejected { id: 1, reason: 0x95 })),
            "{packet_bytes_max:?}"
        );
        rig.device.take();
        rig.turns(5);
        assert_eq!(rig.publishes().len(), 1);
        assert_eq!((rig.device.state(), rig.member.figures.rejected), (State::Up, 1));
    }
}

/// Another connection takes the session away again and again: the device waits longer each time.
#[test]
fn two_devices_of_one_name_do_not_fight_at_the_speed_of_the_line() {
    let mut rig = rig(b"test");
    let mut waits = Vec::new();
    for _ in 0..4 {
        rig.connect();
        rig.say(&Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver)));
        rig.turns(10);
        assert_eq!(rig.device.state(), State::Refused(Refusal::Busy));
        let since = rig.now;
        while rig.device.state() != State::Up {
            rig.turn();
        }
        waits.push((rig.now - since).div_ceil(1_000));
    }
    assert_eq!(waits, [1, 2, 4, 8]);
}

#[test]
fn when_the_broker_goes_the_device_begins_anew() {
    let mut rig = rig(b"test");
    rig.connect();
    rig.publish(1, "press");
    rig.turns(5);
    let life = rig.device.counters().lives;
    rig.member.hung_up("the store failed", rig.now);
    rig.turns(20);
    assert_eq!(rig.device.state(), State::Refused(Refusal::Busy), "not at once");
    rig.turns(300);
    assert_eq!(rig.device.state(), State::Up);
    assert_eq!(
        rig.device.counters().lives,
        life + 1,
        "so that it sends again what was not answered"
    );
}

/// Far more than fits: the device waits, the bridge holds no more than its window.
#[test]
fn a_broker_that_does_not_answer_pushes_back() {
    let mut rig = rig(b"test");
    rig.connect();
    let mut sent = 0;
    for _ in 0..2_000 {
        while sent < 200 {
            let before = rig.device.counters();
            let mut envelope = [0; 96];
            let length = Envelope {
                device: "press",
                boot: 1,
                sequence: u64::from(sent),
                schema: SchemaId::RAW,
                time: Timestamp::uptime(1),
                body: &[7; 40],
            }
            .encode(&mut envelope)
            .expect("it fits");
            let envelope = &envelope[..length];
            let publish = FromDevice::Publish { id: sent, topic: "t", envelope };
            if rig.device.send(&publish).is_err() {
                break;
            }
            assert_eq!(before, rig.device.counters());
            sent += 1;
        }
        rig.turn();
    }
    assert!(sent < 60, "{sent} taken");
    assert_eq!(rig.publishes().len(), super::client::IN_FLIGHT_MAX);
    assert_eq!(rig.device.state(), State::Up);
}
