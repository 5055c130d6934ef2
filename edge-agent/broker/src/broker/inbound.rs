//! Publishes received from one session and not yet acked.
//!
//! # Invariants
//! - Acks leave in the order in which the publishes arrived on the connection [MQTT-4.6.0-2],
//!   [MQTT-4.6.0-3], and only on a connection on which they arrived.
//! - A QoS 1 publish whose connection broke before its PUBACK was handed over is expected to be
//!   repeated: the repeat takes the place of the first copy and is not delivered again.
//! - A repeat has the DUP flag, the packet id *and* the content of the first copy. After the
//!   PUBACK the same packet id is a new message, whatever its DUP flag says (4.3.2).
//! - QoS 2: a packet id is taken from its admission until PUBREL (4.3.3); any publish with a taken
//!   id is a repeat.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use edge_core::id::BatchSeq;
use edge_core::message::{Message, QoS};
use edge_core::topic::Topic;

use crate::codec::{PacketId, ReasonCode};

/// The owner's word on a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// None yet.
    Waiting,
    /// Ack it when this batch is durable.
    Accepted(BatchSeq),
    /// Tell the client why not: the code, and a text unless it is empty.
    Refused(ReasonCode, &'static str),
}

#[derive(Debug)]
struct Pending {
    qos: QoS,
    packet_id: Option<PacketId>,
    verdict: Verdict,
    /// Its ack is owed on the present connection.
    owed: bool,
    content: Content,
    /// Bytes it counts for against the ingress budget.
    cost_bytes: usize,
}

/// What to recognise a repeat by.
#[derive(Debug)]
enum Content {
    Message(Arc<Message>),
    Hash(u64),
    /// QoS 2 repeats are known by their packet id alone.
    None,
}

/// How a publish of QoS 1 or 2 relates to earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Deliver it.
    New,
    /// Its first copy is in work; an ack will come.
    Repeat,
}

/// An ack that may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) qos: QoS,
    pub(super) packet_id: PacketId,
    pub(super) reason: ReasonCode,
    pub(super) text: &'static str,
}

/// What stands at the head of the acks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Due(Due),
    /// Nothing can leave before this batch is durable.
    Parked(BatchSeq),
    /// Nothing is owed, or the owner has not spoken.
    Idle,
}

#[derive(Debug)]
pub(super) struct Inbound {
    pending: BTreeMap<u64, Pending>,
    /// Acks owed on this connection, in order of arrival.
    order: VecDeque<u64>,
    /// The latest unacked publish with a packet id.
    by_id: BTreeMap<PacketId, u64>,
    /// QoS 2 packet ids taken, and the batch in which that stands.
    taken: BTreeMap<PacketId, BatchSeq>,
    /// Unowed QoS 1 publishes whose repeat is expected.
    expected: VecDeque<u64>,
    /// The last batch in which a taken id was given back.
    released_in: BatchSeq,
    /// Most repeats expected; the oldest is forgotten.
    expected_max: usize,
    bytes: usize,
}

impl Inbound {
    pub(super) fn new(expected_max: usize) -> Self {
        Self {
            pending: BTreeMap::new(),
            order: VecDeque::new(),
            by_id: BTreeMap::new(),
            taken: BTreeMap::new(),
            expected: VecDeque::new(),
            released_in: BatchSeq::default(),
            expected_max,
            bytes: 0,
        }
    }

    /// Bytes of publishes not yet acked.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Looks a QoS 1 or 2 publish up; a repeat takes its place among the acks of this connection.
    pub(super) fn arrive(
        &mut self,
        serial: u64,
        id: PacketId,
        qos: QoS,
        dup: bool,
        topic: &Topic,
        payload: &Bytes,
    ) -> Arrival {
        if qos == QoS::ExactlyOnce
            && let Some(&batch) = self.taken.get(&id)
        {
            let still_owed = self.by_id.get(&id).is_some_and(|first| self.is_owed(*first));
            if !still_owed {
                self.owe(serial, qos, Some(id), Verdict::Accepted(batch), Content::None, 0);
            }
            return Arrival::Repeat;
        }
        let Some(&first) = self.by_id.get(&id) else { return Arrival::New };
        let Some(pending) = self.pending.get_mut(&first) else { return Arrival::New };
        let same = match qos {
            QoS::ExactlyOnce => pending.qos == qos,
            _ => dup && pending.qos == qos && pending.content.is(topic, payload),
        };
        if !same {
            self.forget_expected(first);
            return Arrival::New;
        }
        if !pending.owed {
            pending.owed = true;
            self.order.push_back(first);
            self.expected.retain(|serial| *serial != first);
        }
        Arrival::Repeat
    }

    /// Notes a delivery that waits for the owner's word.
    pub(super) fn deliver(
        &mut self,
        serial: u64,
        id: Option<PacketId>,
        qos: QoS,
        message: &Arc<Message>,
    ) {
        let content = Content::Message(Arc::clone(message));
        self.owe(serial, qos, id, Verdict::Waiting, content, message.cost_bytes());
    }

    /// Notes a publish refused without asking the owner; its ack has its place in the order.
    pub(super) fn refuse(
        &mut self,
        serial: u64,
        id: PacketId,
        qos: QoS,
        reason: ReasonCode,
        cost_bytes: usize,
    ) {
        self.owe(serial, qos, Some(id), Verdict::Refused(reason, ""), Content::None, cost_bytes);
    }

    fn owe(
        &mut self,
        serial: u64,
        qos: QoS,
        packet_id: Option<PacketId>,
        verdict: Verdict,
        content: Content,
        cost_bytes: usize,
    ) {
        if let Some(id) = packet_id {
            self.order.push_back(serial);
            self.by_id.insert(id, serial);
        }
        self.bytes += cost_bytes;
        let owed = packet_id.is_some();
        self.pending.insert(serial, Pending { qos, packet_id, verdict, owed, content, cost_bytes });
    }

    fn is_owed(&self, serial: u64) -> bool {
        self.pending.get(&serial).is_some_and(|pending| pending.owed)
    }

    /// Whether a publish waits for the owner's word.
    pub(super) fn awaits(&self, serial: u64) -> bool {
        self.pending.get(&serial).is_some_and(|pending| pending.verdict == Verdict::Waiting)
    }

    /// The owner's word. Returns the QoS 2 packet id that is taken from now on, if any.
    pub(super) fn settle(&mut self, serial: u64, verdict: Verdict) -> Option<PacketId> {
        let pending = self.pending.get_mut(&serial)?;
        if pending.verdict != Verdict::Waiting {
            return None;
        }
        let (qos, packet_id, owed) = (pending.qos, pending.packet_id, pending.owed);
        pending.verdict = verdict;
        let Some(id) = packet_id else {
            self.remove(serial);
            return None;
        };
        let taken = match (qos, verdict) {
            (QoS::ExactlyOnce, Verdict::Accepted(batch)) => {
                self.taken.insert(id, batch);
                Some(id)
            }
            _ => None,
        };
        if !owed {
            self.expect_repeat(serial);
        }
        taken
    }

    /// What the head of the acks says, given what is durable.
    pub(super) fn head(&self, durable: BatchSeq) -> Head {
        let Some(pending) = self.order.front().and_then(|serial| self.pending.get(serial)) else {
            return Head::Idle;
        };
        let Some(packet_id) = pending.packet_id else { return Head::Idle };
        let due = |reason, text| Head::Due(Due { qos: pending.qos, packet_id, reason, text });
        match pending.verdict {
            Verdict::Waiting => Head::Idle,
            Verdict::Accepted(batch) if batch > durable => Head::Parked(batch),
            Verdict::Accepted(_) => due(ReasonCode::Success, ""),
            Verdict::Refused(reason, text) => due(reason, text),
        }
    }

    /// Takes the head away: its ack is handed over.
    pub(super) fn pop(&mut self) {
        if let Some(serial) = self.order.pop_front() {
            self.remove(serial);
        }
    }

    /// The connection broke: no ack is owed any more.
    pub(super) fn disconnected(&mut self) {
        for serial in std::mem::take(&mut self.order) {
            if let Some(pending) = self.pending.get_mut(&serial) {
                pending.owed = false;
                self.expect_repeat(serial);
            }
        }
    }

    /// A settled publish without a connection to ack it on: QoS 1 waits for its repeat, by hash;
    /// QoS 2 is known by its taken id; a refused one is judged anew when it comes again.
    fn expect_repeat(&mut self, serial: u64) {
        let Some(pending) = self.pending.get_mut(&serial) else { return };
        let latest = pending.packet_id.is_some_and(|id| self.by_id.get(&id) == Some(&serial));
        match (pending.qos, pending.verdict) {
            (_, Verdict::Waiting) => {}
            (QoS::AtLeastOnce, Verdict::Accepted(_)) if latest => {
                if let Content::Message(message) = &pending.content {
                    pending.content = Content::Hash(hash(&message.topic, &message.payload));
                }
                self.bytes -= std::mem::take(&mut pending.cost_bytes);
                self.expected.push_back(serial);
                if self.expected.len() > self.expected_max
                    && let Some(oldest) = self.expected.pop_front()
                {
                    self.remove(oldest);
                }
            }
            _ => self.remove(serial),
        }
    }

    /// A new message came under the packet id of a publish whose repeat was expected.
    fn forget_expected(&mut self, serial: u64) {
        if self.expected.contains(&serial) {
            self.expected.retain(|expected| *expected != serial);
            self.remove(serial);
        }
    }

    fn remove(&mut self, serial: u64) {
        let Some(pending) = self.pending.remove(&serial) else { return };
        self.bytes -= pending.cost_bytes;
        if let Some(id) = pending.packet_id
            && self.by_id.get(&id) == Some(&serial)
        {
            self.by_id.remove(&id);
        }
    }

    /// PUBREL: gives the id back, in batch `open`. False if it was not taken.
    pub(super) fn release(&mut self, id: PacketId, open: BatchSeq) -> bool {
        let taken = self.taken.remove(&id).is_some();
        if taken {
            self.released_in = open;
        }
        taken
    }

    /// The batch that a PUBCOMP has to wait for.
    pub(super) fn released_in(&self) -> BatchSeq {
        self.released_in
    }

    /// Puts back a taken id after a restart.
    pub(super) fn restore(&mut self, id: PacketId) {
        self.taken.insert(id, BatchSeq::default());
    }

    /// How many ids are taken.
    pub(super) fn taken_count(&self) -> usize {
        self.taken.len()
    }

    /// The taken ids: the rows of this table.
    pub(super) fn taken(&self) -> impl Iterator<Item = PacketId> + '_ {
        self.taken.keys().copied()
    }
}

impl Content {
    fn is(&self, topic: &Topic, payload: &Bytes) -> bool {
        match self {
            Self::Message(message) => message.topic == *topic && message.payload == *payload,
            Self::Hash(known) => *known == hash(topic, payload),
            Self::None => false,
        }
    }
}

fn hash(topic: &Topic, payload: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    topic.hash(&mut hasher);
    payload.hash(&mut hasher);
    hasher.finish()
}
