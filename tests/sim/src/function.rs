//! Scripted functions: what a component would do, as plain code behind the runtime's seam.
//!
//! `count`, `relay` and `tally` keep one state value, a chain over the numbers of all messages they
//! worked on in the lane; `note` keeps none. Each records what it worked on, `count` publishes it
//! again. So state, records and publishes can be held against each other.
//!
//! `tally` and `note` are given batches. They work on every event, also behind one that failed: it is
//! the gateway's to take no more of that than it may.

use std::sync::Arc;

use bytes::Bytes;
use edge_agent::runtime::{
    Attempt, FunctionProfile, PrepareError, Report, Runnable, StateDomain, Stats, Toolchain,
};
use edge_core::effect::{Member, Work};
use edge_core::id::DeviceId;
use edge_core::message::{Properties, QoS};
use edge_core::outcome::{
    BatchOutputs, Fault, FaultKind, ItemFailure, ItemFailureKind, Outcome, Outputs, Publish,
    Record, Segment, StateChange,
};
use edge_core::release::StateScope;
use edge_core::topic::Topic;

use crate::payload::{self, MARK, MessageNo, Wish};

/// Key of the one state value.
pub const CHAIN: &str = "chain";
/// Series of the records.
pub const SERIES: &str = "seen";
/// Series of the urgent ones.
pub const ALARMS: &str = "alarms";

/// State of a lane: how many messages, and a number over all of them in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Messages worked on.
    pub count: u64,
    /// Depends on each of them and on their order.
    pub sum: u64,
    /// The last one.
    pub last: MessageNo,
}

impl Chain {
    /// The chain after one more message.
    #[must_use]
    pub fn and(self, no: MessageNo) -> Self {
        let sum = (self.sum ^ no).wrapping_mul(0x100_0000_01b3).rotate_left(17);
        Self { count: self.count + 1, sum, last: no }
    }

    /// As it is stored; with the mark, so that the disk knows its last message.
    #[must_use]
    pub fn to_bytes(self) -> Bytes {
        let parts = [self.last.to_be_bytes(), self.count.to_be_bytes(), self.sum.to_be_bytes()];
        [MARK, parts.concat().as_slice()].concat().into()
    }

    /// Reads what [`Chain::to_bytes`] wrote.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MARK)?;
        let (last, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let sum = rest.try_into().ok()?;
        Some(Self {
            last: u64::from_be_bytes(*last),
            count: u64::from_be_bytes(*count),
            sum: u64::from_be_bytes(sum),
        })
    }
}

/// A component as the simulation writes it: what it does in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Works.
    Good,
    /// Traps at every event.
    Broken,
    /// Is refused by the toolchain.
    Unusable,
}

impl Component {
    /// The bytes of the artifact of one function.
    #[must_use]
    pub fn artifact(self, function: &str, version: u64) -> Vec<u8> {
        // Long enough to be fetched in several chunks.
        let mut bytes = format!("simulated {self:?} {function} {version} ").into_bytes();
        bytes.resize(150_000, b'.');
        bytes
    }

    fn of(artifact: &[u8]) -> Option<Self> {
        [Self::Good, Self::Broken, Self::Unusable]
            .into_iter()
            .find(|kind| artifact.starts_with(format!("simulated {kind:?} ").as_bytes()))
    }
}

/// Makes scripted functions.
#[derive(Clone, Copy, Debug)]
pub struct Scripts;

impl Toolchain for Scripts {
    fn prepare(
        &self,
        component: &[u8],
        profile: FunctionProfile,
    ) -> Result<Arc<dyn Runnable>, PrepareError> {
        match Component::of(component) {
            Some(Component::Unusable) | None => Err(PrepareError::NoHandler),
            Some(kind) => Ok(Arc::new(Script { profile: Arc::new(profile), kind })),
        }
    }
}

struct Script {
    profile: Arc<FunctionProfile>,
    kind: Component,
}

impl Runnable for Script {
    fn profile(&self) -> &Arc<FunctionProfile> {
        &self.profile
    }

    fn can_migrate(&self) -> bool {
        true
    }

    fn run(&self, attempt: &Attempt) -> Report {
        Report { outcome: self.outcome(attempt), logs: Vec::new(), stats: Stats::default() }
    }

    fn migrate(
        &self,
        _from_version: u32,
        _device: Option<&DeviceId>,
        entries: Vec<(String, Bytes)>,
    ) -> Result<Vec<(String, Bytes)>, Fault> {
        Ok(entries)
    }
}

fn fault(kind: FaultKind, message: String) -> Outcome {
    Outcome::Fault(Fault { kind, message })
}

impl Script {
    fn outcome(&self, attempt: &Attempt) -> Outcome {
        let mut chain = match self.chain(attempt) {
            Ok(chain) => chain,
            Err(error) => return fault(FaultKind::Host, error.to_string()),
        };
        match &attempt.work {
            Work::One(member) => {
                self.one(member, &mut chain).map_or_else(Outcome::from, Outcome::Done)
            }
            Work::Batch(members) => self.batch(members, &mut chain),
        }
    }

    fn batch(&self, members: &[Member], chain: &mut Option<Chain>) -> Outcome {
        let mut batch = BatchOutputs::default();
        for (index, member) in (0..).zip(members) {
            let (kind, reason) = match self.one(member, chain) {
                Ok(outputs) => {
                    batch.segments.push(Segment { of: Some(index), outputs });
                    continue;
                }
                Err(Trouble::Retry(reason)) => (ItemFailureKind::Retry, reason),
                Err(Trouble::Reject(reason)) => (ItemFailureKind::Reject, reason),
                Err(fault @ (Trouble::Trap(_) | Trouble::Spin(_))) => return fault.into(),
            };
            batch.failures.push(ItemFailure { index, kind, reason });
        }
        Outcome::BatchDone(batch)
    }

    fn one(&self, member: &Member, chain: &mut Option<Chain>) -> Result<Outputs, Trouble> {
        if member.event.payload.is_empty() {
            // A slot of the schedule: there is nothing to do.
            return Ok(Outputs::default());
        }
        let Some((no, wish)) = payload::decode(&member.event.payload) else {
            return Err(Trouble::Reject("no message of the simulation".to_owned()));
        };
        if self.kind == Component::Broken {
            return Err(Trouble::Trap(format!("broken at {no}")));
        }
        // Only the first function of a chain does as wished: the wish travels on.
        let wish = if member.event.hops == 0 { wish } else { Wish::Work };
        match wish {
            Wish::Retry(times) if member.tries <= times => {
                Err(Trouble::Retry(format!("{no} is not ready")))
            }
            Wish::Reject => Err(Trouble::Reject(format!("{no} is not wanted"))),
            Wish::Trap(times) if member.tries <= times => {
                Err(Trouble::Trap(format!("trapped at {no}")))
            }
            Wish::Spin => Err(Trouble::Spin(format!("no end at {no}"))),
            Wish::Urgent => Ok(self.work(no, member, chain, ALARMS)),
            Wish::Work | Wish::Retry(_) | Wish::Trap(_) | Wish::Linger | Wish::Kill => {
                Ok(self.work(no, member, chain, SERIES))
            }
        }
    }

    fn work(
        &self,
        no: MessageNo,
        member: &Member,
        chain: &mut Option<Chain>,
        series: &str,
    ) -> Outputs {
        let payload = payload::encode(no, Wish::Work, 0);
        let publishes = member.event.device.as_ref().filter(|_| self.is("count"));
        let publishes = publishes.into_iter().filter_map(|device| {
            Some(Publish {
                topic: Topic::new(&format!("echo/{device}")).ok()?,
                payload: payload.clone(),
                qos: QoS::AtLeastOnce,
                retain: false,
                properties: Properties::default(),
            })
        });
        let state = chain.iter_mut().map(|chain| {
            *chain = chain.and(no);
            StateChange { key: CHAIN.to_owned(), value: Some(chain.to_bytes()) }
        });
        Outputs {
            publishes: publishes.collect(),
            state: state.collect(),
            records: vec![Record {
                name: series.to_owned(),
                payload: payload.clone(),
                content_type: String::new(),
            }],
        }
    }

    fn is(&self, name: &str) -> bool {
        self.profile.function.as_str().ends_with(&format!("/{name}"))
    }

    /// The state of the lane; `None` for a function without any.
    fn chain(&self, attempt: &Attempt) -> std::io::Result<Option<Chain>> {
        if self.profile.grants.state == StateScope::None {
            return Ok(None);
        }
        let domain = StateDomain {
            function: self.profile.function.clone(),
            state_version: self.profile.state_version,
            lane: attempt.lane.clone(),
        };
        Ok(Some(match attempt.state.get(&domain.key(CHAIN))? {
            Some(bytes) => Chain::of(&bytes).ok_or(std::io::ErrorKind::InvalidData)?,
            None => Chain::default(),
        }))
    }
}

/// Why an event is not worked on.
enum Trouble {
    Retry(String),
    Reject(String),
    Trap(String),
    Spin(String),
}

impl From<Trouble> for Outcome {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Retry(reason) => Self::Retry { reason },
            Trouble::Reject(reason) => Self::Reject { reason },
            Trouble::Trap(message) => fault(FaultKind::Trap, message),
            Trouble::Spin(message) => fault(FaultKind::Timeout, message),
        }
    }
}
