//! The control plane's MQTT side: the broker and transport that `cloud-sync` has, with its limits,
//! over the simulated network and with TLS; behind them the simulator's scripted control plane.
//!
//! The loop is stepped by the simulation. What `cloud-sync` does with threads (asking the store who
//! may connect, storing) is done at once or a little later in virtual time.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use edge_broker::broker::Turn;
use edge_broker::codec::ReasonCode;
use edge_broker::transport::{Listener, Port, Transport, TransportLimits};
use edge_broker::{
    AckToken, AuthRequest, Broker, Delivery, Effect, Input, Limits, Principal, Settlement,
};
use edge_core::id::{BatchSeq, DeviceId};
use edge_core::message::{Message, Origin, Properties, QoS};
use edge_core::time::{Millis, Now, WallTime};
use edge_core::topic::{Topic, TopicFilter};
use sync_protocol::limits::MESSAGE_BYTES_MAX;
use sync_protocol::topics;
use sync_protocol::wire::{Down, Message as _, Up};

use crate::net::Net;
use crate::pki::pki;

/// Name of the gateway.
pub const GATEWAY: &str = "simulated";

/// One life of the control plane's process.
pub struct Hub {
    broker: Broker,
    port: Port,
    open: BatchSeq,
    /// What came and is not stored yet.
    taken: Vec<(AckToken, Up)>,
    _listener: Listener,
    _transport: Transport,
}

impl Hub {
    /// Starts to listen.
    #[must_use]
    pub fn start(net: &Net, address: SocketAddr, seed: u64) -> Self {
        let limits = Limits {
            session_expiry_s_max: 0,
            message_bytes_max: MESSAGE_BYTES_MAX,
            retained_messages_max: 0,
            ..Limits::default()
        };
        let packet_bytes_max = limits.packet_bytes_max();
        let (transport, port) =
            Transport::new(TransportLimits { packet_bytes_max, ..TransportLimits::default() });
        let tls = Some(Arc::clone(&pki().server));
        let listener = transport.serve(net.listen(address), address, tls);
        Self {
            broker: Broker::new(limits, seed),
            port,
            open: BatchSeq(1),
            taken: Vec::new(),
            _listener: listener,
            _transport: transport,
        }
    }

    /// Takes what has come. Returns messages of the gateway, to be stored and then
    /// [`Hub::answer`]ed.
    pub fn step(&mut self, now_ms: u64) -> Vec<(AckToken, Up)> {
        let now = Now { at: Millis(now_ms), wall: WallTime::default() };
        let mut inputs: Vec<Input> = std::iter::from_fn(|| self.port.try_recv()).collect();
        if self.broker.next_deadline().is_some_and(|at| at <= now.at) {
            inputs.push(Input::Tick);
        }
        if !inputs.is_empty() {
            self.turn(now, |hub| {
                for input in inputs {
                    hub.with_broker(now, |broker, turn| broker.handle(input, turn));
                }
            });
        }
        std::mem::take(&mut self.taken)
    }

    /// A message is stored: it is acked, and these are its answers.
    pub fn answer(&mut self, token: AckToken, answers: &[Down], now_ms: u64) {
        let now = Now { at: Millis(now_ms), wall: WallTime::default() };
        self.turn(now, |hub| {
            hub.with_broker(now, |broker, turn| {
                broker.settle(token, Settlement::Accepted, turn);
            });
            answers.iter().for_each(|down| hub.publish(down, now));
        });
    }

    /// Tells the gateway something, if it is connected.
    pub fn tell(&mut self, down: &Down, now_ms: u64) {
        let now = Now { at: Millis(now_ms), wall: WallTime::default() };
        self.turn(now, |hub| hub.publish(down, now));
    }

    /// Connections whose CONNACK left.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.broker.status().connected
    }

    /// As `cloud-sync`: every batch is durable as soon as it is open.
    fn turn(&mut self, now: Now, work: impl FnOnce(&mut Self)) {
        work(self);
        let open = self.open;
        self.with_broker(now, |broker, turn| broker.durable(open, turn));
        self.open = open.next();
        let mut effects = Vec::new();
        self.broker.flush(&mut effects);
        self.carry_out(effects, now);
    }

    fn with_broker(&mut self, now: Now, work: impl FnOnce(&mut Broker, &mut Turn<'_>)) {
        let mut effects = Vec::new();
        work(&mut self.broker, &mut Turn { now, open: self.open, effects: &mut effects });
        self.carry_out(effects, now);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, now: Now) {
        for effect in effects {
            match self.port.apply(effect) {
                Some(Effect::Authenticate { conn, request }) => {
                    let outcome = admit(&request);
                    self.with_broker(now, |broker, turn| {
                        broker.handle(Input::AuthDone { conn, outcome }, turn);
                    });
                }
                Some(Effect::Deliver(delivery)) => self.deliver(delivery, now),
                _ => {}
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery, now: Now) {
        let Delivery { token, message, .. } = delivery;
        if message.topic.as_str() == topics::up(GATEWAY) {
            let up = Up::decode(&message.payload);
            return self.taken.push((token, up.expect("invariant: the gateway speaks well")));
        }
        // Presence: the end of the connection says the same.
        self.with_broker(now, |broker, turn| broker.settle(token, Settlement::Accepted, turn));
    }

    fn publish(&mut self, down: &Down, now: Now) {
        let payload = down.encode().expect("invariant: the scripted cloud keeps the bounds");
        let topic = Topic::new(&topics::down(GATEWAY)).expect("invariant: a topic");
        let message = Arc::new(Message {
            topic,
            payload: Bytes::from(payload),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: Properties::default(),
            expiry_s: None,
            origin: Origin::Gateway,
            device: None,
            hops: 0,
            at: now.at,
            wall: now.wall,
        });
        self.with_broker(now, |broker, turn| {
            let _report = broker.route(&message, turn);
        });
    }
}

/// By certificate, as `cloud-sync` does.
fn admit(request: &AuthRequest) -> Result<Arc<Principal>, ReasonCode> {
    let name = request.peer.certificate.as_ref().map(|certificate| &certificate.common_name);
    if name.is_none_or(|name| name != GATEWAY || *name != request.client_id) {
        return Err(ReasonCode::NotAuthorized);
    }
    let filters = |texts: &[String]| -> Vec<TopicFilter> {
        let filter = |text: &String| TopicFilter::new(text).expect("invariant: a filter");
        texts.iter().map(filter).collect()
    };
    Ok(Arc::new(Principal {
        identity: DeviceId::new(GATEWAY),
        publish: filters(&[topics::up(GATEWAY), topics::presence(GATEWAY)]),
        subscribe: filters(&[topics::down(GATEWAY)]),
    }))
}
