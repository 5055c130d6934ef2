//! What is queued for one session and under way to it.
//!
//! # Invariants
//! - Messages of QoS 1 and 2 are sent in order of their place `n`; those sent before are a prefix.
//! - The packet id follows from the place, so that it survives a restart without being stored: a
//!   QoS 2 message keeps its id whatever happens. A place whose id is in use is left out.
//! - Only messages never sent are dropped by policy: a client may hold the id of one that was.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use edge_core::id::BatchSeq;
use edge_core::message::{Message, QoS};
use edge_core::topic::TopicFilter;

use crate::codec::{PacketId, SubscriptionId};

/// Number and bytes of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Size {
    pub(super) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    pub(super) fn sub(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes;
    }
}

/// A message as one session gets it.
#[derive(Clone, Debug)]
pub(super) struct MessageCopy {
    pub(super) message: Arc<Message>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// Of all its subscriptions that match; one may stand in it more than once (3.3.4).
    pub(super) subscription_ids: Vec<SubscriptionId>,
    /// The shared subscription it is for: another member may get it instead.
    pub(super) share: Option<TopicFilter>,
}

impl MessageCopy {
    /// Bytes it counts for in a queue.
    pub(super) fn cost_bytes(&self) -> usize {
        self.message.cost_bytes() + size_of_val(self.subscription_ids.as_slice())
    }
}

/// A message of QoS 1 or 2 in a queue.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) body: Body,
    /// Nothing of it leaves before this batch is durable.
    pub(super) batch: BatchSeq,
    /// It may have been sent before.
    pub(super) sent: bool,
}

#[derive(Debug)]
pub(super) enum Body {
    /// PUBLISH is to be sent, or was and is not acked.
    Publish(MessageCopy),
    /// QoS 2: PUBREC was received, PUBREL is to be sent or was.
    Release,
}

impl Body {
    fn bytes(&self) -> usize {
        match self {
            Self::Publish(copy) => copy.cost_bytes(),
            Self::Release => 0,
        }
    }
}

/// A QoS 0 message that waits for its batch.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) copy: MessageCopy,
    pub(super) batch: BatchSeq,
}

#[derive(Debug)]
pub(super) struct Queue {
    items: BTreeMap<u64, Item>,
    next_n: u64,
    /// Places from here on have not been sent on this connection.
    next_send: u64,
    /// Places from here on have never been sent.
    first_unsent: u64,
    /// Under way on this connection, by packet id.
    window: BTreeMap<PacketId, u64>,
    /// Bytes of the messages under way.
    window_bytes: usize,
    unsent: Size,
    /// All messages in it, sent or not, and QoS 0.
    size: Size,
    live: VecDeque<Live>,
    live_bytes: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            next_n: 1,
            next_send: 1,
            first_unsent: 1,
            window: BTreeMap::new(),
            window_bytes: 0,
            unsent: Size::default(),
            size: Size::default(),
            live: VecDeque::new(),
            live_bytes: 0,
        }
    }
}

/// The packet id of a place.
pub(super) fn packet_id(n: u64) -> PacketId {
    let number = u16::try_from((n - 1) % 65_535 + 1).expect("invariant: 1..=65535");
    PacketId::new(number).expect("invariant: not zero")
}

impl Queue {
    /// Appends a message of QoS 1 or 2 and returns its place.
    pub(super) fn push(&mut self, copy: MessageCopy, batch: BatchSeq) -> u64 {
        let mut n = self.next_n;
        while self.is_id_in_use(n) {
            n += 1;
        }
        self.next_n = n + 1;
        let bytes = copy.cost_bytes();
        self.unsent.add(bytes);
        self.size.add(bytes);
        self.items.insert(n, Item { body: Body::Publish(copy), batch, sent: false });
        n
    }

    /// Whether an older message holds the packet id of place `n`: one that the client has left
    /// unacked for 65,535 messages.
    fn is_id_in_use(&self, n: u64) -> bool {
        let Some(oldest) = n.checked_sub(65_535) else { return false };
        self.items.range(..=oldest).any(|(old, _)| packet_id(*old) == packet_id(n))
    }

    /// Puts back a row after a restart.
    pub(super) fn restore(&mut self, n: u64, body: Body, sent: bool) {
        if let Body::Publish(copy) = &body {
            let bytes = copy.cost_bytes();
            self.size.add(bytes);
            if !sent {
                self.unsent.add(bytes);
            }
        }
        self.items.insert(n, Item { body, batch: BatchSeq::default(), sent });
        self.next_n = self.next_n.max(n + 1);
        if sent {
            self.first_unsent = self.first_unsent.max(n + 1);
        }
        self.rewind();
    }

    /// Begins again with the first unacked message, on a new connection [MQTT-4.4.0-1].
    pub(super) fn rewind(&mut self) {
        self.window.clear();
        self.window_bytes = 0;
        self.next_send = self.items.first_key_value().map_or(self.next_n, |(n, _)| *n);
    }

    /// The next message to send on this connection.
    pub(super) fn next(&self) -> Option<(u64, &Item)> {
        self.items.range(self.next_send..).next().map(|(n, item)| (*n, item))
    }

    /// Notes that place `n`, the next one, is under way.
    pub(super) fn sent(&mut self, n: u64) {
        self.next_send = n + 1;
        self.window.insert(packet_id(n), n);
        let Some(item) = self.items.get_mut(&n) else { return };
        let bytes = item.body.bytes();
        self.window_bytes += bytes;
        if !item.sent {
            item.sent = true;
            self.first_unsent = n + 1;
            if matches!(item.body, Body::Publish(_)) {
                self.unsent.sub(bytes);
            }
        }
    }

    /// Messages under way on this connection, and their bytes.
    pub(super) fn under_way(&self) -> Size {
        Size { messages: self.window.len(), bytes: self.window_bytes }
    }

    /// PUBACK, or a PUBREC that refuses: the message is done. Its place, unless the client acks
    /// what it was not sent with that quality of service.
    pub(super) fn acked(&mut self, id: PacketId, with: QoS) -> Option<u64> {
        let n = *self.window.get(&id)?;
        match &self.items.get(&n)?.body {
            Body::Publish(copy) if copy.qos == with => {
                self.remove(n);
                Some(n)
            }
            _ => None,
        }
    }

    /// PUBREC: PUBREL follows, after `batch`. The place, and whether this is news.
    pub(super) fn received(&mut self, id: PacketId, batch: BatchSeq) -> Option<(u64, bool)> {
        let n = *self.window.get(&id)?;
        let item = self.items.get_mut(&n)?;
        match &item.body {
            Body::Publish(copy) if copy.qos == QoS::ExactlyOnce => {
                let bytes = copy.cost_bytes();
                self.size.sub(bytes);
                self.window_bytes -= bytes;
                item.body = Body::Release;
                item.batch = batch;
                Some((n, true))
            }
            Body::Release => Some((n, false)),
            Body::Publish(_) => None,
        }
    }

    /// The batch that the PUBREL of place `n` waits for.
    pub(super) fn batch_of(&self, n: u64) -> Option<BatchSeq> {
        self.items.get(&n).map(|item| item.batch)
    }

    /// PUBCOMP: the message is done. Its place.
    pub(super) fn completed(&mut self, id: PacketId) -> Option<u64> {
        let n = *self.window.get(&id)?;
        matches!(self.items.get(&n)?.body, Body::Release).then(|| self.remove(n))?.map(|_| n)
    }

    /// Removes place `n`, wherever it stands.
    pub(super) fn remove(&mut self, n: u64) -> Option<Item> {
        let item = self.items.remove(&n)?;
        let bytes = item.body.bytes();
        if self.window.remove(&packet_id(n)).is_some() {
            self.window_bytes -= bytes;
        }
        if matches!(item.body, Body::Publish(_)) {
            self.size.sub(bytes);
            if !item.sent {
                self.unsent.sub(bytes);
            }
        }
        Some(item)
    }

    /// Drops the oldest message never sent. Its place.
    pub(super) fn drop_oldest(&mut self) -> Option<u64> {
        let n = *self.items.range(self.first_unsent..).next()?.0;
        self.remove(n);
        Some(n)
    }

    /// The messages of shared subscriptions that were never sent, with place and share, in order.
    pub(super) fn unsent_shared(&self) -> impl Iterator<Item = (u64, &TopicFilter, &Arc<Message>)> {
        self.items.range(self.first_unsent..).filter_map(|(n, item)| match &item.body {
            Body::Publish(copy) => Some((*n, copy.share.as_ref()?, &copy.message)),
            Body::Release => None,
        })
    }

    /// What of shared subscriptions another member may still get when this session has ended, in
    /// order: not what may have arrived with QoS 2 [MQTT-4.8.2-5].
    pub(super) fn into_shared(self) -> impl Iterator<Item = MessageCopy> {
        self.items.into_values().filter_map(|item| match item.body {
            Body::Publish(copy) if copy.share.is_some() => {
                (!item.sent || copy.qos < QoS::ExactlyOnce).then_some(copy)
            }
            Body::Publish(_) | Body::Release => None,
        })
    }

    /// Messages never sent: what the queue bounds are held against.
    pub(super) fn unsent(&self) -> Size {
        self.unsent
    }

    /// Everything in it.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// Highest place that may have been sent.
    pub(super) fn sent_to(&self) -> u64 {
        self.first_unsent - 1
    }

    /// Places and whether they wait for a PUBCOMP, in order: the rows of the queue.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u64, bool)> + '_ {
        self.items.iter().map(|(n, item)| (*n, matches!(item.body, Body::Release)))
    }

    /// Appends a QoS 0 message, unless that makes more than `bytes_max`.
    pub(super) fn push_live(&mut self, live: Live, bytes_max: usize) -> bool {
        let bytes = live.copy.cost_bytes();
        if self.live_bytes + bytes > bytes_max && !self.live.is_empty() {
            return false;
        }
        self.live_bytes += bytes;
        self.size.add(bytes);
        self.live.push_back(live);
        true
    }

    /// Batch of the first waiting QoS 0 message.
    pub(super) fn live_batch(&self) -> Option<BatchSeq> {
        self.live.front().map(|live| live.batch)
    }

    pub(super) fn pop_live(&mut self) -> Option<Live> {
        let live = self.live.pop_front()?;
        let bytes = live.copy.cost_bytes();
        self.live_bytes -= bytes;
        self.size.sub(bytes);
        Some(live)
    }
}
