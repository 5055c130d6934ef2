//! Clients that mean no good: a storm of connects, and one that subscribes and does not read.

use bytes::Bytes;
use edge_broker::codec::{Connect, Packet, PacketId, Subscribe, SubscribeOptions, Version, encode};
use edge_core::message::QoS;
use edge_core::topic::TopicFilter;
use simulator::device::token;
use simulator::time::SECOND;

use super::{GATEWAY_ADDRESS, Sim};
use crate::net::{LinkId, SimStream};

/// The account of the client that does not read.
pub(super) const DEAF: &str = "deaf";
/// Connects of a storm, at most: more than the transport has places for handshakes.
const STORM_MAX: u64 = 500;

/// A client that says something once, or nothing, and reads nothing.
pub(super) struct Stranger {
    stream: SimStream,
    out: Vec<u8>,
    until_us: u64,
    is_deaf: bool,
}

impl Sim {
    pub(super) fn storm(&mut self) {
        self.count("connect-storm");
        for _ in 0..self.chaos.within(STORM_MAX / 2, STORM_MAX) {
            let name = format!("s{}", self.chaos.below(1_000));
            let mut out = connect(&name, &name, "wrong");
            let said = match self.chaos.below(3) {
                0 => 0,
                1 => self.chaos.index(out.len()),
                _ => out.len(),
            };
            out.truncate(said);
            let until_us = self.now_us + self.chaos.within(SECOND, 30 * SECOND);
            self.arrive(out, until_us, false);
        }
    }

    pub(super) fn deaf(&mut self) {
        self.count("deaf-client");
        self.next_conn += 1;
        let name = format!("{DEAF}{}", self.next_conn);
        let mut out = connect(&name, DEAF, &token(DEAF));
        let filter = TopicFilter::new("in/#").expect("invariant: a filter");
        // With QoS 1 the send window fills, with QoS 0 what waits to be written.
        let qos = if self.chaos.chance(500_000) { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let options = SubscribeOptions { qos, ..Default::default() };
        let packet_id = PacketId::new(1).expect("invariant: not zero");
        let filters = vec![(filter, options)];
        let subscribe = Subscribe { packet_id, subscription_id: None, filters };
        encode(&Packet::Subscribe(subscribe), Version::V5, &mut out);
        let until_us = self.now_us + self.chaos.within(100 * SECOND, 140 * SECOND);
        self.arrive(out, until_us, true);
    }

    fn arrive(&mut self, out: Vec<u8>, until_us: u64, is_deaf: bool) {
        let stream = self.net.dial(LinkId::Crowd, GATEWAY_ADDRESS.into());
        self.strangers.push(Stranger { stream, out, until_us, is_deaf });
    }

    pub(super) fn step_strangers(&mut self) {
        let now = self.now_us;
        let mut closed = 0;
        self.strangers.retain_mut(|stranger| match stranger.stream.send(&stranger.out) {
            Ok(sent) => {
                stranger.out.drain(..sent);
                now < stranger.until_us
            }
            Err(_) => {
                closed += u32::from(stranger.is_deaf);
                false
            }
        });
        (0..closed).for_each(|_| self.count("deaf-client-closed"));
    }
}

fn connect(client_id: &str, user: &str, password: &str) -> Vec<u8> {
    let connect = Connect {
        username: Some(user.to_owned()),
        password: Some(Bytes::from(password.to_owned())),
        ..Connect::new(Version::V5, client_id)
    };
    let mut bytes = Vec::new();
    encode(&Packet::Connect(Box::new(connect)), Version::V5, &mut bytes);
    bytes
}
