//! Commands: done once, however often they come. Pure.
//!
//! # Invariants
//! - A command whose id is remembered is not done again. Each copy of it that comes after its response was sent brings one
//!   more response, after the acknowledgement of the one before; copies that come before share one.
//! - Only a command whose response has reached the gateway is forgotten. Where none has, a new one is told `Busy`.

use device_protocol::SchemaId;
use device_protocol::system::{Response, Status};
use heapless::Vec;

use crate::limits::{BUSY_MAX, COMMANDS_MAX, RESPONSE_MAX};

/// What is to be done about a command that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Do it, and tell the result to [`Commands::done`].
    Do,
    /// It was done before: nothing.
    Repeat,
    /// Too many at a time: nothing.
    Busy,
}

/// Result of a command: type and bytes.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) schema: SchemaId,
    pub(crate) body: Vec<u8, RESPONSE_MAX>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unsent,
    Sent,
    /// The command came again meanwhile: who sent it may not hear the answer that is on its way.
    SentAndAsked,
    Acked,
}

#[derive(Debug)]
struct Known {
    id: u64,
    stage: Stage,
    answer: Answer,
}

/// The last commands, oldest first.
#[derive(Debug)]
pub(crate) struct Commands {
    known: Vec<Known, COMMANDS_MAX>,
    busy: Vec<u64, BUSY_MAX>,
}

impl Commands {
    pub(crate) const fn new() -> Self {
        Self { known: Vec::new(), busy: Vec::new() }
    }

    /// A command came.
    pub(crate) fn receive(&mut self, id: u64) -> Verdict {
        if let Some(known) = self.known.iter_mut().find(|known| known.id == id) {
            known.stage = match known.stage {
                Stage::Unsent | Stage::Acked => Stage::Unsent,
                Stage::Sent | Stage::SentAndAsked => Stage::SentAndAsked,
            };
            return Verdict::Repeat;
        }
        if self.known.is_full() && !self.known.iter().any(|known| known.stage == Stage::Acked) {
            self.busy(id);
            return Verdict::Busy;
        }
        Verdict::Do
    }

    /// A command was not done for want of room; it may come again, so it is not remembered.
    pub(crate) fn busy(&mut self, id: u64) {
        if !self.busy.contains(&id) {
            // With no room for that either, the sender repeats the command after a while.
            let _ = self.busy.push(id);
        }
    }

    /// A command was done.
    pub(crate) fn done(&mut self, id: u64, answer: Answer) {
        if self.known.is_full() {
            let oldest = self.known.iter().position(|known| known.stage == Stage::Acked);
            self.known.remove(oldest.unwrap_or(0));
        }
        let _ = self.known.push(Known { id, stage: Stage::Unsent, answer });
    }

    /// The next response to send. It counts as sent.
    pub(crate) fn next(&mut self) -> Option<Response<'_>> {
        if let Some(id) = self.busy.pop() {
            return Some(Response { id, status: Status::Busy, schema: SchemaId::RAW, body: &[] });
        }
        let known = self.known.iter_mut().find(|known| known.stage == Stage::Unsent)?;
        known.stage = Stage::Sent;
        let Answer { status, schema, body } = &known.answer;
        Some(Response { id: known.id, status: *status, schema: *schema, body })
    }

    /// The response could not be sent.
    pub(crate) fn unsent(&mut self, id: u64) {
        for known in self.known.iter_mut().filter(|known| known.id == id) {
            known.stage = Stage::Unsent;
        }
    }

    /// The gateway has the response.
    pub(crate) fn acked(&mut self, id: u64) {
        for known in self.known.iter_mut().filter(|known| known.id == id) {
            known.stage = match known.stage {
                Stage::Sent => Stage::Acked,
                Stage::SentAndAsked => Stage::Unsent,
                other => other,
            };
        }
    }

    /// Whatever was sent and not acknowledged is lost.
    pub(crate) fn lost(&mut self) {
        for known in &mut self.known {
            if matches!(known.stage, Stage::Sent | Stage::SentAndAsked) {
                known.stage = Stage::Unsent;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer() -> Answer {
        Answer { status: Status::Done, schema: SchemaId::RAW, body: Vec::new() }
    }

    /// Receives and, where that is the verdict, does it.
    fn give(commands: &mut Commands, id: u64) -> Verdict {
        let verdict = commands.receive(id);
        if verdict == Verdict::Do {
            commands.done(id, answer());
        }
        verdict
    }

    #[test]
    fn a_repeat_is_answered_again_and_not_done_again() {
        let mut commands = Commands::new();
        assert_eq!(give(&mut commands, 7), Verdict::Do);
        assert_eq!(commands.next().map(|response| response.id), Some(7));
        assert_eq!(give(&mut commands, 7), Verdict::Repeat);
        assert!(commands.next().is_none(), "the response is still under way");
        commands.acked(7);
        assert_eq!(commands.next().map(|response| response.id), Some(7), "asked for meanwhile");
        commands.acked(7);
        assert!(commands.next().is_none(), "nobody asks");
        assert_eq!(give(&mut commands, 7), Verdict::Repeat);
        assert_eq!(give(&mut commands, 7), Verdict::Repeat);
        assert_eq!(commands.next().map(|response| response.id), Some(7));
        assert_eq!(give(&mut commands, 7), Verdict::Repeat);
        commands.lost();
        assert_eq!(commands.next().map(|response| response.id), Some(7));
        commands.acked(7);
        assert!(commands.next().is_none(), "one for all that came before it was sent");
    }

    #[test]
    fn with_no_response_gone_a_new_command_is_told_busy_and_may_come_again() {
        let mut commands = Commands::new();
        let most = COMMANDS_MAX as u64;
        for id in 0..most {
            assert_eq!(give(&mut commands, id), Verdict::Do);
        }
        assert_eq!(give(&mut commands, 99), Verdict::Busy);
        assert_eq!(commands.next().map(|it| (it.id, it.status)), Some((99, Status::Busy)));
        assert_eq!(commands.next().map(|it| it.id), Some(0));
        commands.acked(0);
        assert_eq!(give(&mut commands, 99), Verdict::Do);
    }

    proptest! {
        /// Within the memory of ids none is done twice, whatever comes in which order.
        #[test]
        fn none_is_done_twice_while_it_is_remembered(steps in prop::collection::vec((0_u64..12, 0..4), 0..200)) {
            let mut commands = Commands::new();
            let mut remembered = std::collections::VecDeque::new();
            for (id, step) in steps {
                match step {
                    0 | 1 => {
                        if give(&mut commands, id) == Verdict::Do {
                            prop_assert!(!remembered.contains(&id), "{} is done twice", id);
                            remembered.push_back(id);
                        }
                    }
                    2 => { let _ = commands.next(); }
                    _ => commands.acked(id),
                }
                let kept: std::vec::Vec<u64> = commands.known.iter().map(|known| known.id).collect();
                remembered.retain(|id| kept.contains(id));
                prop_assert!(kept.len() <= COMMANDS_MAX);
            }
        }
    }
}
