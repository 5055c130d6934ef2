//! What is on its way to the gateway and not acknowledged yet. Pure.
//!
//! # Invariants
//! - Entries end in the order they were sent (MQTT-4.6.0-2): a later acknowledgement waits for the earlier ones, so that
//!   the queue is always popped at its front.
//! - The entries that are [`Load::Record`] stand for the first records of the queue, in order.

use heapless::Deque;

use crate::limits::IN_FLIGHT_MAX;

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// A record of the queue.
    Record,
    /// A record that the full queue has dropped since.
    Dropped,
    /// The response to a command.
    Response(u64),
    /// What needs nothing done when it has arrived: `Busy` for a command, or a record that is sent again since the memory of
    /// the queue has failed.
    Other,
    /// A report of the shadow.
    #[cfg(feature = "shadow")]
    Report,
    /// A request for the time.
    #[cfg(feature = "time")]
    Time,
    /// A line of the log or a metric.
    #[cfg(feature = "logs")]
    Note,
    /// A question or a message of the update.
    #[cfg(feature = "update")]
    Update,
}

/// That so many records are dropped: all of them may be, as the memory of the queue has failed.
pub(crate) const UNKNOWN: u32 = u32::MAX;

/// `O`: how the MQTT client names a message.
#[derive(Debug)]
pub(crate) struct Flight<O> {
    entries: Deque<(O, Load), IN_FLIGHT_MAX>,
}

impl<O> Flight<O> {
    pub(crate) const fn new() -> Self {
        Self { entries: Deque::new() }
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.entries.is_full()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A message was sent. The caller has looked whether there is room.
    pub(crate) fn sent(&mut self, message: O, load: Load) {
        let taken = self.entries.push_back((message, load));
        debug_assert!(taken.is_ok(), "more messages in flight than the MQTT client keeps");
    }

    /// How many records of the queue are on their way: the next to send is that one.
    pub(crate) fn records(&self) -> u32 {
        let count = self.entries.iter().filter(|(_, load)| *load == Load::Record).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How many notes are on their way.
    #[cfg(feature = "logs")]
    pub(crate) fn notes(&self) -> u32 {
        let count = self.entries.iter().filter(|(_, load)| *load == Load::Note).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether this holds for any message that is on its way.
    pub(crate) fn any(&self, is_so: impl Fn(&O) -> bool) -> bool {
        self.entries.iter().any(|(message, _)| is_so(message))
    }

    /// What a message that is on its way carries.
    #[cfg(feature = "serial")]
    pub(crate) fn load(&self, message: &O) -> Option<Load>
    where
        O: PartialEq,
    {
        self.entries.iter().find(|(other, _)| other == message).map(|(_, load)| *load)
    }

    /// The queue has dropped its oldest `count` records, or [`UNKNOWN`].
    pub(crate) fn dropped(&mut self, count: u32) {
        let fate = if count == UNKNOWN { Load::Other } else { Load::Dropped };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let records = self.entries.iter_mut().filter(|(_, load)| *load == Load::Record);
        for (_, load) in records.take(count) {
            *load = fate;
        }
    }

    /// Takes the oldest entry if it is acknowledged.
    pub(crate) fn settle(&mut self, is_acked: impl Fn(&O) -> bool) -> Option<Load> {
        self.entries.pop_front_if(|(message, _)| is_acked(message)).map(|(_, load)| load)
    }

    /// Whether the oldest entry is acknowledged, and waits to be taken.
    pub(crate) fn is_settled(&self, is_acked: impl Fn(&O) -> bool) -> bool {
        self.entries.front().is_some_and(|(message, _)| is_acked(message))
    }

    /// The session is gone, and everything in flight with it: it has to be sent again.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_in_order_of_sending() {
        let mut flight = Flight::new();
        flight.sent(1, Load::Record);
        flight.sent(2, Load::Response(9));
        assert_eq!(flight.settle(|message| *message == 2), None, "the first is still under way");
        assert!(!flight.is_settled(|message| *message == 2) && flight.is_settled(|_| true));
        assert_eq!(flight.settle(|_| true), Some(Load::Record));
        assert_eq!(flight.settle(|_| true), Some(Load::Response(9)));
        assert_eq!(flight.settle(|_| true), None);
    }

    #[test]
    fn a_record_that_the_queue_dropped_pops_nothing_when_its_ack_comes() {
        let mut flight = Flight::new();
        for message in 0..3 {
            flight.sent(message, Load::Record);
        }
        flight.dropped(2);
        assert_eq!(flight.records(), 1);
        let ends = core::array::from_fn(|_| flight.settle(|_| true));
        assert_eq!(ends, [Some(Load::Dropped), Some(Load::Dropped), Some(Load::Record)]);
    }

    #[test]
    fn after_a_failure_of_the_queue_no_ack_pops_anything_and_drops_are_still_drops() {
        let mut flight = Flight::new();
        for (message, load) in [Load::Record, Load::Record, Load::Other].into_iter().enumerate() {
            flight.sent(message, load);
        }
        flight.dropped(1);
        flight.dropped(UNKNOWN);
        assert_eq!(flight.records(), 0);
        let ends = core::array::from_fn(|_| flight.settle(|_| true));
        assert_eq!(ends, [Some(Load::Dropped), Some(Load::Other), Some(Load::Other)]);
    }

    #[test]
    fn the_window_is_that_of_the_mqtt_client() {
        let mut flight = Flight::new();
        for message in 0..IN_FLIGHT_MAX {
            assert!(flight.has_room());
            flight.sent(message, Load::Record);
        }
        assert!(!flight.has_room());
        flight.clear();
        assert!(flight.is_empty() && flight.records() == 0);
    }
}
