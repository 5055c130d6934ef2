//! The event heap: what is to happen, by virtual time; at the same time in the order it was put in.

use std::collections::BTreeMap;

use edge_agent::agent::stepped::Task;
use edge_agent::runtime::Invocation;
use edge_broker::broker::ConnId;

use crate::payload::MessageNo;
use crate::timeline::Deed;

/// Something to happen. What belongs to one life of the gateway, or to one connection, carries its
/// number and is void in the next.
pub enum Event {
    /// The gateway starts, or opens its store again.
    Open,
    /// The batch at the store is committed.
    Commit {
        /// Of this life.
        life: u64,
    },
    /// An attempt ends.
    Attempt {
        /// Of this life.
        life: u64,
        /// The attempt.
        invocation: Box<Invocation>,
    },
    /// A long task ends.
    Task {
        /// Of this life.
        life: u64,
        /// The task.
        task: Box<Task>,
    },
    /// Bytes reach the gateway.
    ToGateway(ConnId, Vec<u8>),
    /// Bytes reach a device.
    ToDevice(usize, ConnId, Vec<u8>),
    /// A device learns that its connection is gone.
    Closed(usize, ConnId),
    /// A device connects.
    Connect(usize),
    /// A device publishes.
    Publish(usize),
    /// A device sends again what was acked.
    Repeat(usize, MessageNo),
    /// The link is made.
    LinkConnect {
        /// Of this life.
        life: u64,
    },
    /// A message reaches the control plane over this connection.
    LinkUp(u64, Vec<u8>),
    /// A message of the control plane arrives over this connection.
    LinkDown(u64, Vec<u8>),
    /// The checkpoint thread of a real store would look whether there is something to do.
    Checkpoint,
    /// Something goes wrong.
    Fault(Fault),
    /// From now on the disk fails now and then.
    Faulty,
    /// Something is done to the world, once.
    Deed(Deed),
    /// So is what stands at this index of the plan's timeline, once or again and again.
    Entry(usize),
    /// From now on nothing goes wrong.
    Quiet,
    /// Has everything come to rest?
    Look,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A connection of a device breaks.
    Cut,
    /// The process is killed.
    Kill,
    /// The power goes.
    Power,
    /// The process or the power ends within a disk operation soon.
    Dies,
    /// The disk fills up, or is read-only.
    Full,
    /// The wall clock jumps.
    Clock,
    /// The control plane asks for something else.
    Desire,
    /// The control plane is restored from a backup.
    Restore,
    /// A graceful stop.
    Stop,
}

/// The heap.
#[derive(Default)]
pub struct Heap {
    events: BTreeMap<(u64, u64), Event>,
    order: u64,
}

impl Heap {
    /// Puts an event in.
    pub fn put(&mut self, at_us: u64, event: Event) {
        self.order += 1;
        self.events.insert((at_us, self.order), event);
    }

    /// When the next one is.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<(u64, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
