//! What happens in a script.

use edge_core::message::QoS;
use proptest::prelude::*;

use super::CLIENTS;

#[derive(Clone, Debug)]
pub(super) enum Act {
    Publish { by: usize, to_a: bool, qos: QoS },
    PublisherReads(usize),
    SubscriberReads(usize),
    SubscriberAnswers(usize, usize),
    Break(usize),
    Dial(usize),
    Settle { at: prop::sample::Index, accept: bool },
    Seal,
    Sync,
    Crash,
    Wait(u64),
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    let qos = prop::sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
    prop_oneof![
        8 => (0..2_usize, any::<bool>(), qos)
            .prop_map(|(by, to_a, qos)| Act::Publish { by, to_a, qos }),
        4 => (0..2_usize).prop_map(Act::PublisherReads),
        8 => (0..4_usize).prop_map(Act::SubscriberReads),
        8 => (0..4_usize, 1..5_usize).prop_map(|(by, n)| Act::SubscriberAnswers(by, n)),
        3 => (0..CLIENTS).prop_map(Act::Break),
        6 => (0..CLIENTS).prop_map(Act::Dial),
        8 => (any::<prop::sample::Index>(), prop::bool::weighted(0.9))
            .prop_map(|(at, accept)| Act::Settle { at, accept }),
        4 => Just(Act::Seal),
        4 => Just(Act::Sync),
        1 => Just(Act::Crash),
        1 => (1..100_000_u64).prop_map(Act::Wait),
    ]
}
