//! Answers that wait until what they tell is durable.
//!
//! # Invariants
//! - Who asked for a change hears "done" only after its batch is durable, like a device its ack.
//!   Where the store fails instead, local askers hear that the gateway left, and those behind the
//!   control plane time out: the change may then have happened or not, as a whole.
//! - At most [`WAITING_MAX`] answers wait; whoever comes then is told to ask again, before
//!   anything was changed.

use std::collections::VecDeque;

use edge_core::effect::Pace;
use edge_core::id::BatchSeq;
use sync_protocol::limits::REPLY_BYTES_MAX;
use sync_protocol::wire::Reply;
use tokio::sync::oneshot;

use super::gateway::Gateway;
use crate::control::Answer;
use crate::uplink::Say;

/// Answers that wait.
pub(super) const WAITING_MAX: usize = 1_024;

/// Who asked.
#[derive(Debug)]
pub(super) enum Asker {
    /// A client of the control socket.
    Here(oneshot::Sender<Answer>),
    /// The control plane, by the id of its command.
    Cloud(u64),
}

/// Answers by the ticket they wait for, oldest first.
#[derive(Debug, Default)]
pub(super) struct Answers(VecDeque<(BatchSeq, Asker, Answer)>);

impl Answers {
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= WAITING_MAX
    }
}

impl Gateway {
    /// Answers once everything that was decided until now is durable.
    pub(super) fn answer_when_durable(&mut self, asker: Asker, answer: Answer) {
        self.commit.awaited(Pace::Prompt, self.now.at);
        self.answers.0.push_back((self.commit.open(), asker, answer));
    }

    /// Gives the answers that waited for a ticket.
    pub(super) fn give_answers(&mut self, durable: BatchSeq) {
        while self.answers.0.front().is_some_and(|(at, ..)| *at <= durable)
            && let Some((_, asker, answer)) = self.answers.0.pop_front()
        {
            self.answer(asker, answer);
        }
    }

    pub(super) fn answer(&self, asker: Asker, answer: Answer) {
        match asker {
            // A client that left is no error.
            Asker::Here(client) => drop(client.send(answer)),
            Asker::Cloud(id) => {
                let text = answer.map(|value| value.to_string());
                let result = text.and_then(|text| match text.len() {
                    0..=REPLY_BYTES_MAX => Ok(text),
                    bytes => Err(format!("the answer is too long for one message: {bytes} bytes")),
                });
                self.say(Say::Reply(Reply { id, result }));
            }
        }
    }
}
