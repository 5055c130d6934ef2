//! What the loop does with messages of gateways and with answers to them.

use std::sync::Arc;

use bytes::Bytes;
use edge_broker::codec::ReasonCode;
use edge_broker::{AckToken, Delivery, Input, Settlement};
use edge_core::id::DeviceId;
use edge_core::message::{Message, Origin, Properties, QoS};
use edge_core::time::Now;
use edge_core::topic::Topic;
use sync_protocol::enroll::{EnrollReply, EnrollRequest};
use sync_protocol::topics;
use sync_protocol::wire::{Down, Message as _, Presence, Up};

use super::Hub;
use crate::ingest::{Answer, Inbound, Note, alarm};
use crate::mqtt::chunks::Ask;
use crate::mqtt::event::Event;
use crate::mqtt::inbox::{self, Mail};

impl Hub {
    pub(super) fn deliver(&mut self, delivery: Delivery, now: Now) {
        let Delivery { token, message, .. } = delivery;
        match inbox::read(message.topic.as_str(), &message.payload) {
            Mail::Up { gateway, up } => self.take_up(gateway, *up, token, now),
            Mail::Presence { gateway, presence } => {
                if presence == Presence::Offline {
                    tracing::debug!(gateway, "a gateway says goodbye");
                }
                self.settle(token, Settlement::Accepted, now);
            }
            Mail::Enrol { gateway, request } => self.enrol(gateway, request, token, now),
            Mail::Unreadable { gateway, error } => {
                tracing::warn!(gateway, error, "a message of a gateway cannot be read");
                self.settle(token, Settlement::Accepted, now);
            }
            Mail::Refused(reason) => self.settle(token, Settlement::Refused(reason), now),
        }
    }

    /// Signing takes a while, and few gateways enrol at once: who comes over the bound tries
    /// again.
    fn enrol(&mut self, gateway: String, request: EnrollRequest, token: AckToken, now: Now) {
        let Ok(place) = Arc::clone(&self.enrolling).try_acquire_owned() else {
            return self.settle(token, Settlement::Refused(ReasonCode::ServerBusy), now);
        };
        let (office, store) = (Arc::clone(&self.parts.office), Arc::clone(&self.parts.store));
        let (events, now_ms) = (self.handle.0.clone(), now.wall.unix_ms);
        let live = Arc::clone(&self.parts.live);
        tokio::task::spawn_blocking(move || {
            let reply = Box::new(office.enrol(&*store, &gateway, &request, now_ms));
            if matches!(*reply, EnrollReply::Accepted(_)) {
                live.access_ended();
            }
            drop(place);
            drop(events.blocking_send(Event::Enrolled { gateway, token, reply }));
        });
    }

    /// As [`Hub::enrol`], with the old certificate in place of a token, for who was told to renew it.
    /// One too many gets no answer and is told again at its next connection: to refuse its message
    /// would cut the connection, which is of MQTT 3.1.1, and all its records would wait for a new one.
    fn renew(&mut self, gateway: String, request: EnrollRequest, token: AckToken, now: Now) {
        let Some(series) = self.parts.live.take_renewal(&gateway) else {
            tracing::warn!(gateway, "a gateway asks for a certificate and was not told to");
            return self.settle(token, Settlement::Accepted, now);
        };
        let Ok(place) = Arc::clone(&self.enrolling).try_acquire_owned() else {
            tracing::debug!(gateway, "no place is free to renew a certificate");
            return self.settle(token, Settlement::Accepted, now);
        };
        let (office, store) = (Arc::clone(&self.parts.office), Arc::clone(&self.parts.store));
        let (events, now_ms) = (self.handle.0.clone(), now.wall.unix_ms);
        tokio::task::spawn_blocking(move || {
            let certificate = match office.renew(&*store, &gateway, series, &request, now_ms) {
                Ok(certificate) => Some(certificate),
                Err(failure) => {
                    tracing::warn!(gateway, error = failure.error, "no certificate was renewed");
                    None
                }
            };
            drop(place);
            drop(events.blocking_send(Event::Renewed { gateway, token, certificate }));
        });
    }

    fn take_up(&mut self, gateway: String, up: Up, token: AckToken, now: Now) {
        self.parts.live.heard(&gateway, now.at.0);
        let note = match up {
            Up::ChunkRequest(request) => {
                // A full queue forgets the request; the gateway asks again.
                let _ = self.asks.try_send(Ask { gateway, request });
                return self.settle(token, Settlement::Accepted, now);
            }
            Up::Reply(reply) => {
                self.parts.commands.answer(&gateway, reply);
                return self.settle(token, Settlement::Accepted, now);
            }
            Up::Logs(logs) => {
                self.parts.logs.publish(&gateway, logs);
                return self.settle(token, Settlement::Accepted, now);
            }
            Up::CertificateRequest(request) => return self.renew(gateway, request, token, now),
            Up::Hello(ref hello) => {
                if self.parts.live.tell_renewal(&gateway, now.wall.unix_ms) {
                    self.tell(&gateway, &Down::RenewCertificate, now);
                }
                self.suspicion(&gateway, hello.epoch)
            }
            Up::Records(_) | Up::StateReport(_) | Up::Health(_) => None,
        };
        let inbound = Inbound { gateway, up: Box::new(up), note, ticket: token };
        if let Err(full) = self.inbound.try_send(inbound) {
            // It is not acked: a gateway of MQTT 5 waits, an older one connects again.
            let Inbound { gateway, ticket, .. } = full.into_inner();
            tracing::warn!(gateway, "the store does not keep up, a message is refused");
            self.settle(ticket, Settlement::Refused(ReasonCode::QuotaExceeded), now);
        }
    }

    fn suspicion(&self, gateway: &str, epoch: u64) -> Option<Note> {
        let other = self.parts.live.stated(gateway, epoch)?;
        let text = format!(
            "process run {epoch:016x} took the connection of run {other:016x}, which was alive: \
             two machines use this gateway's certificate; enrol one of them under another name"
        );
        Some(Note { code: alarm::TWO_GATEWAYS, text })
    }

    fn disconnect(&mut self, gateway: &str, now: Now) {
        let identity = DeviceId::new(gateway);
        let reason = ReasonCode::AdministrativeAction;
        self.with_broker(now, |broker, turn| broker.disconnect(&identity, reason, turn));
    }

    fn settle(&mut self, token: AckToken, settlement: Settlement, now: Now) {
        self.with_broker(now, |broker, turn| broker.settle(token, settlement, turn));
    }

    pub(super) fn take_event(&mut self, event: Event, now: Now) {
        match event {
            Event::Authenticated { conn, request, ends, outcome } => {
                if outcome.is_ok() && ends != self.parts.live.ends() {
                    // Somebody's access was ended meanwhile, and this may be who.
                    return self.authenticate(conn, request);
                }
                self.broker_handle(Input::AuthDone { conn, outcome }, now);
            }
            Event::Disconnect { gateway } => self.disconnect(&gateway, now),
            Event::Answers(batch) => {
                for Answer { gateway, downs, ticket } in batch {
                    self.settle(ticket, Settlement::Accepted, now);
                    for down in &downs {
                        self.tell(&gateway, down, now);
                    }
                }
            }
            Event::Enrolled { gateway, token, reply } => {
                self.settle(token, Settlement::Accepted, now);
                if matches!(*reply, EnrollReply::Accepted(_)) {
                    self.disconnect(&gateway, now); // It came with a certificate that is void now.
                }
                match reply.encode() {
                    Ok(payload) => self.publish(&topics::enroll_reply(&gateway), payload, now),
                    Err(error) => tracing::error!(%error, gateway, "an enrolment reply"),
                }
            }
            Event::Renewed { gateway, token, certificate } => {
                self.settle(token, Settlement::Accepted, now);
                if let Some(der) = certificate {
                    tracing::info!(gateway, "a gateway has a new certificate");
                    self.tell(&gateway, &Down::Certificate(der), now);
                }
            }
            Event::Tell { gateway, down } => self.tell(&gateway, &down, now),
        }
    }

    fn tell(&mut self, gateway: &str, down: &Down, now: Now) {
        match down.encode() {
            Ok(payload) => self.publish(&topics::down(gateway), payload, now),
            Err(error) => tracing::error!(%error, gateway, "a statement cannot be encoded"),
        }
    }

    fn publish(&mut self, topic: &str, payload: Vec<u8>, now: Now) {
        let Ok(topic) = Topic::new(topic) else { return };
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
        self.with_broker(now, |broker, turn| broker.route(&message, turn));
    }
}
