//! A visitor: connects, publishes one message, waits for its ack, says goodbye; again and again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use edge_broker::codec::{Disconnect, Packet, PacketId, Publish, ReasonCode};
use edge_core::message::{Properties, QoS};
use edge_core::topic::Topic;

use crate::mqtt::{Client, Login};

/// Account of the visitors.
pub(super) const VISITOR: &str = "visitor";
/// From one visit to the next.
const EVERY: Duration = Duration::from_millis(250);
/// Longest wait for an ack; a gateway that was just killed is waited for at its door instead.
const ACK_MAX: Duration = Duration::from_secs(30);

/// A visit, from the connect to the ack. While the gateway is down there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    pub(super) at: Instant,
    pub(super) took: Duration,
}

/// Visits on a thread of their own.
pub(super) struct Visits {
    stop: Arc<AtomicBool>,
    visits: Arc<Mutex<Vec<Visit>>>,
    thread: JoinHandle<()>,
}

impl Visits {
    /// Starts visiting.
    pub(super) fn start(address: SocketAddr, password: &str) -> Result<Self> {
        let login =
            Login { password: Some(password.to_owned()), ..Login::anonymous(address, VISITOR) };
        let (stop, visits) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Visit>>>::default());
        let (stopped, made) = (Arc::clone(&stop), Arc::clone(&visits));
        let visit = move || {
            while !stopped.load(Ordering::Relaxed) {
                let at = Instant::now();
                if visit(&login).is_ok() {
                    let visit = Visit { at, took: at.elapsed() };
                    made.lock().unwrap_or_else(PoisonError::into_inner).push(visit);
                }
                std::thread::sleep(EVERY.saturating_sub(at.elapsed()));
            }
        };
        let thread = std::thread::Builder::new().name("visitor".to_owned()).spawn(visit)?;
        Ok(Self { stop, visits, thread })
    }

    /// Stops, and hands out the visits.
    pub(super) fn finish(self) -> Result<Vec<Visit>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the visitor panicked"))?;
        Ok(std::mem::take(&mut *self.visits.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn visit(login: &Login) -> Result<()> {
    let mut client = Client::connect(login)?;
    client.queue(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        // Two levels below `sensors`: no function hears it.
        topic: Topic::new("sensors/visit/note")?,
        packet_id: PacketId::new(1),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Properties::default(),
        payload: Bytes::from_static(b"was here"),
    }));
    client.flush()?;
    match client.next(ACK_MAX)?.context("no ack")? {
        Packet::PubAck(ack) if !ack.reason.is_error() => {}
        other => bail!("not an ack: {other:?}"),
    }
    client.queue(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
    client.flush()
}
