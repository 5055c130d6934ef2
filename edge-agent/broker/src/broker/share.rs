//! Shared subscriptions (4.8.2): one member of each gets a message.
//!
//! # Who gets it
//! Members that are connected come before those that are away. Among them the one gets it that
//! loses least of the message's quality of service, then the one with the fewest messages that
//! wait, then the next in turn. The members of a share may belong to different identities: each
//! needs the grant for the filter behind `$share/NAME/`.
//!
//! # What becomes of a message whose member goes
//! - Its connection breaks and its session stays: what was sent waits for its return
//!   [MQTT-4.8.2-4]; what was never sent goes to another member that is connected.
//! - Its session ends: what was never sent, or sent with QoS 1, goes to another member, connected
//!   or not. What was sent with QoS 2 may have arrived and goes to nobody [MQTT-4.8.2-5].
//! - It refuses the message with a reason code: that is the end of it [MQTT-4.8.2-6].
//! - It unsubscribes: what is queued for it stays with it (3.10.4).
//!
//! QoS 0 is never passed on.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use edge_core::message::{Message, QoS};
use edge_core::topic::{FilterTrie, Topic, TopicFilter};

use super::queue::{Body, MessageCopy};
use super::session::Subscription;
use super::timers::Timer;
use super::{Broker, SessionId, Turn};

/// Messages of one session passed on in one turn.
const PASSED_ON_PER_TURN: usize = 256;

/// All shared subscriptions.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// By the whole filter, `$share/NAME/FILTER`.
    groups: BTreeMap<TopicFilter, Group>,
    /// The whole filters, by the part behind the name.
    index: FilterTrie<TopicFilter>,
    members: usize,
}

#[derive(Debug, Default)]
struct Group {
    members: BTreeMap<SessionId, Subscription>,
    /// The last that was given a message.
    last: SessionId,
}

impl Shares {
    /// Memberships of all sessions.
    pub(super) fn len(&self) -> usize {
        self.members
    }

    /// Members of one share.
    pub(super) fn members(&self, share: &TopicFilter) -> usize {
        self.groups.get(share).map_or(0, |group| group.members.len())
    }

    /// Adds a member or changes its subscription. `share` is a shared filter.
    pub(super) fn join(&mut self, share: &TopicFilter, id: SessionId, subscription: Subscription) {
        let Some(filter) = share.shared() else { return };
        let group = self.groups.entry(share.clone()).or_default();
        if group.members.is_empty() {
            self.index.insert(&filter, share.clone());
        }
        if group.members.insert(id, subscription).is_none() {
            self.members += 1;
        }
    }

    /// Takes a member away.
    pub(super) fn leave(&mut self, share: &TopicFilter, id: SessionId) {
        let (Some(filter), Some(group)) = (share.shared(), self.groups.get_mut(share)) else {
            return;
        };
        if group.members.remove(&id).is_some() {
            self.members -= 1;
        }
        if group.members.is_empty() {
            self.groups.remove(share);
            self.index.remove(&filter, share);
        }
    }

    /// The shares that want messages of `topic`, in order.
    fn wanting(&self, topic: &Topic) -> Vec<TopicFilter> {
        self.index.matches(topic).into_iter().cloned().collect()
    }
}

impl Broker {
    /// One copy for a member of each share that wants the message.
    pub(super) fn shared_copies(
        &mut self,
        message: &Arc<Message>,
    ) -> Vec<(SessionId, MessageCopy)> {
        let shares = self.shares.wanting(&message.topic);
        shares.into_iter().filter_map(|share| self.shared_copy(&share, message, None)).collect()
    }

    /// The copy for the member whose turn it is; not for `except`.
    fn shared_copy(
        &mut self,
        share: &TopicFilter,
        message: &Arc<Message>,
        except: Option<SessionId>,
    ) -> Option<(SessionId, MessageCopy)> {
        let group = self.shares.groups.get_mut(share)?;
        let ranked = group.members.iter().filter_map(|(id, subscription)| {
            let session = self.sessions.get(id).filter(|_| Some(*id) != except)?;
            let qos = subscription.options.qos.min(message.qos);
            let waiting = Reverse(session.queue.unsent().messages);
            let turn = (*id > group.last, Reverse(*id));
            Some(((session.conn.is_some(), qos, waiting, turn), *id, *subscription))
        });
        let (_, id, subscription) = ranked.max_by_key(|(rank, ..)| *rank)?;
        group.last = id;
        Some((id, MessageCopy { share: Some(share.clone()), ..subscription.copy_of(message) }))
    }

    /// The connection of a member is gone: what was never sent to it goes to others that are
    /// connected, in the open batch; a bounded number in one turn, the rest soon.
    pub(super) fn pass_on_unsent(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.conn.is_none()) else {
            return;
        };
        let mut wanted: BTreeMap<&TopicFilter, bool> = BTreeMap::new();
        let passed: Vec<(u64, TopicFilter, Arc<Message>)> = session
            .queue
            .unsent_shared()
            .filter(|(_, share, _)| {
                *wanted.entry(share).or_insert_with(|| self.has_taker(share, id))
            })
            .take(PASSED_ON_PER_TURN)
            .map(|(n, share, message)| (n, share.clone(), Arc::clone(message)))
            .collect();
        if passed.len() == PASSED_ON_PER_TURN {
            self.timers.set(Timer::PassOn(id), turn.now.at);
        }
        for (n, share, message) in passed {
            if let Some((to, copy)) = self.shared_copy(&share, &message, Some(id)) {
                self.take_back(id, n, turn);
                self.hand_over(to, copy, turn);
            }
        }
    }

    /// Whether a member other than `except` is connected and keeps what it is sent.
    fn has_taker(&self, share: &TopicFilter, except: SessionId) -> bool {
        let Some(group) = self.shares.groups.get(share) else { return false };
        group.members.iter().any(|(id, subscription)| {
            *id != except
                && subscription.options.qos > QoS::AtMostOnce
                && self.sessions.get(id).is_some_and(|session| session.conn.is_some())
        })
    }

    fn take_back(&mut self, id: SessionId, n: u64, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let before = session.queue.size();
        let taken = session.queue.remove(n);
        assert!(
            taken.is_some_and(|item| !item.sent && matches!(item.body, Body::Publish(_))),
            "invariant: only what was never sent is taken back"
        );
        self.account_removed(id, before);
        self.delete_message(id, n, turn);
    }

    /// The session of a member has ended, and it is no member any more: what another may still
    /// get goes there.
    pub(super) fn pass_on_rest(&mut self, queue: super::queue::Queue, turn: &mut Turn<'_>) {
        for copy in queue.into_shared() {
            let Some(share) = &copy.share else { continue };
            if let Some((to, passed)) = self.shared_copy(share, &copy.message, None) {
                self.hand_over(to, passed, turn);
            }
        }
    }
}
