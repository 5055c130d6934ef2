//! Between the task that runs the device and the one that updates it: what one hears, and what the other wants said. Pure.
//!
//! # Invariants
//! - One offer of each kind, one chunk and one message wait at most. A newer offer takes the place of an older one; a chunk
//!   that nobody waits for is not kept.

use device_protocol::Up;
use device_protocol::limits::WORD_MAX;
use device_protocol::update::{Chunk, Digest, Offer, Progress, Stage, Want};
use heapless::String;

use super::fetch::Fetch;

/// An offer, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptOffer {
    digest: Digest,
    length: u32,
    board: String<WORD_MAX>,
    version: u32,
    floor: u32,
    signature: [u8; 64],
}

impl KeptOffer {
    pub(super) fn new(offer: &Offer<'_>) -> Option<Self> {
        let Offer { digest, length, version, floor, .. } = *offer;
        let board = String::try_from(offer.board).ok()?;
        let signature = offer.signature.try_into().ok()?;
        Some(Self { digest, length, board, version, floor, signature })
    }

    pub(super) fn offer(&self) -> Offer<'_> {
        let Self { digest, length, version, floor, .. } = *self;
        Offer { digest, length, board: &self.board, version, floor, signature: &self.signature }
    }
}

/// What is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The firmware itself.
    Firmware,
    /// A function that the firmware runs.
    Function,
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Say {
    Want(Want),
    Progress { image: [u8; 8], stage: Stage, offset: u32, reason: &'static str },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    buffer: &'a mut [u8],
    /// By [`Kind`].
    offers: [Option<KeptOffer>; 2],
    /// By [`Kind`]: whether a task takes such offers.
    is_attended: [bool; 2],
    /// The question whose answer is waited for.
    fetch: Option<Fetch>,
    /// Length of the chunk in the buffer.
    chunk: Option<usize>,
    say: Option<Say>,
    /// What was said last, in case it could not be sent.
    said: Option<Say>,
    /// Messages that are on their way and must arrive before the device restarts.
    on_the_way: u32,
}

impl Kind {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Firmware => Self::Function,
            Self::Function => Self::Firmware,
        }
    }
}

impl<'a> Exchange<'a> {
    pub(crate) const fn new(buffer: &'a mut [u8]) -> Self {
        let (fetch, chunk, say, said) = (None, None, None, None);
        let is_attended = [false; 2];
        Self { buffer, offers: [None, None], is_attended, fetch, chunk, say, said, on_the_way: 0 }
    }

    /// An offer was heard; whether it can be kept.
    pub(crate) fn offered(&mut self, kind: Kind, offer: &Offer<'_>) -> bool {
        let kept = KeptOffer::new(offer);
        let is_kept = kept.is_some();
        if is_kept {
            self.offers[kind as usize] = kept;
        }
        is_kept
    }

    /// A chunk was heard; whether it was waited for.
    pub(crate) fn arrived(&mut self, chunk: &Chunk<'_>) -> bool {
        let is_wanted = self.fetch.as_ref().is_some_and(|fetch| fetch.accepts(chunk));
        let Some(place) = self.buffer.get_mut(..chunk.bytes.len()) else { return false };
        if !is_wanted || self.chunk.is_some() {
            return false;
        }
        place.copy_from_slice(chunk.bytes);
        self.chunk = Some(chunk.bytes.len());
        true
    }

    /// What is to be said next. It counts as on its way.
    pub(crate) fn next(&mut self) -> Option<Up<'static>> {
        let say = self.say.take()?;
        self.said = Some(say);
        self.on_the_way += 1;
        Some(match say {
            Say::Want(want) => Up::Want(want),
            Say::Progress { image, stage, offset, reason } => {
                Up::Progress(Progress { image, stage, offset, reason })
            }
        })
    }

    /// A message that was on its way has arrived, or was given up.
    pub(crate) const fn settled(&mut self) {
        self.on_the_way = self.on_the_way.saturating_sub(1);
    }

    /// The last message could not be sent now: it is to be said again, unless there is a newer one.
    pub(crate) const fn unsent(&mut self) {
        self.settled();
        if self.say.is_none() {
            self.say = self.said;
        }
    }

    /// What was on its way is lost. A question is asked again by its time; a stage is to be said again, unless there is
    /// something newer to say.
    pub(crate) const fn lost(&mut self) {
        let was_on_the_way = core::mem::replace(&mut self.on_the_way, 0) > 0;
        if let (true, None, Some(Say::Progress { .. })) = (was_on_the_way, self.say, self.said) {
            self.say = self.said;
        }
    }

    pub(super) const fn take_offer(&mut self, kind: Kind) -> Option<KeptOffer> {
        self.offers[kind as usize].take()
    }

    /// An offer that was taken, and for which nothing was done to the end, waits again; not beside a newer one.
    pub(super) fn put_back(&mut self, kind: Kind, offer: KeptOffer) {
        self.offers[kind as usize].get_or_insert(offer);
    }

    pub(super) const fn has_offer(&self, kind: Kind) -> bool {
        self.offers[kind as usize].is_some()
    }

    /// A task takes offers of this kind from now on.
    pub(super) const fn attend(&mut self, kind: Kind) {
        self.is_attended[kind as usize] = true;
    }

    /// Whether an offer of this kind waits, and a task for its turn to take it.
    pub(super) const fn is_awaited(&self, kind: Kind) -> bool {
        self.is_attended[kind as usize] && self.has_offer(kind)
    }

    /// Waits for the answer to the open question of `fetch`, or for nothing.
    pub(super) fn expect(&mut self, fetch: Option<&Fetch>) {
        self.fetch = fetch.copied();
        self.chunk = None;
    }

    pub(super) const fn has_chunk(&self) -> bool {
        self.chunk.is_some()
    }

    /// Copies the chunk that has arrived, so that it can be written while the next one may come.
    pub(super) fn take_chunk(&mut self, out: &mut [u8]) -> Option<usize> {
        let length = self.chunk.take()?;
        out[..length].copy_from_slice(&self.buffer[..length]);
        Some(length)
    }

    pub(super) const fn say(&mut self, say: Say) {
        self.say = Some(say);
    }

    /// Whether everything was said and has arrived.
    pub(super) const fn is_said(&self) -> bool {
        self.say.is_none() && self.on_the_way == 0
    }

    /// Longest chunk that there is room for.
    pub(super) const fn room(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::plan::Plan;

    #[test]
    fn only_the_answer_to_the_open_question_is_kept_and_only_once() {
        let mut buffer = [0; 64];
        let mut exchange = Exchange::new(&mut buffer);
        let plan = Plan { digest: [3; 32], length: 100, version: 1, floor: 0 };
        let bytes = [7; 64];
        let answer = Chunk { image: [3; 8], offset: 0, bytes: &bytes };
        assert!(!exchange.arrived(&answer), "nobody asked");
        let mut fetch = Fetch::new(&plan, 0, 64, 4_096, 3_000);
        assert!(fetch.want(0).is_some());
        exchange.expect(Some(&fetch));
        assert!(!exchange.arrived(&Chunk { image: [4; 8], ..answer }));
        assert!(!exchange.arrived(&Chunk { bytes: &[0; 200], ..answer }));
        assert!(exchange.arrived(&answer));
        assert!(!exchange.arrived(&answer), "the buffer is taken");
        let mut out = [0; 64];
        assert_eq!(exchange.take_chunk(&mut out), Some(64));
        assert_eq!(out, bytes);
    }

    #[test]
    fn offers_of_both_kinds_wait_side_by_side() {
        let mut buffer = [0; 64];
        let mut exchange = Exchange::new(&mut buffer);
        let offer = |digest: u8| Offer {
            digest: [digest; 32],
            length: 1,
            board: "b",
            version: 1,
            floor: 0,
            signature: &[0; 64],
        };
        for (kind, digest) in [(Kind::Firmware, 1), (Kind::Function, 2), (Kind::Function, 3)] {
            assert!(exchange.offered(kind, &offer(digest)));
        }
        let mut image = |kind| exchange.take_offer(kind).map(|kept| kept.offer().image());
        assert_eq!(image(Kind::Function), Some([3; 8]), "the newer one");
        assert_eq!((image(Kind::Function), image(Kind::Firmware)), (None, Some([1; 8])));
    }

    #[test]
    fn nobody_gives_way_to_an_offer_that_no_task_takes() {
        let mut buffer = [0; 64];
        let mut exchange = Exchange::new(&mut buffer);
        let offer = Offer {
            digest: [1; 32],
            length: 1,
            board: "b",
            version: 1,
            floor: 0,
            signature: &[0; 64],
        };
        assert!(exchange.offered(Kind::Function, &offer));
        assert!(!exchange.is_awaited(Kind::Function));
        exchange.attend(Kind::Function);
        assert!(exchange.is_awaited(Kind::Function) && !exchange.is_awaited(Kind::Firmware));
    }

    #[test]
    fn it_is_said_only_when_it_has_arrived() {
        let mut buffer = [0; 64];
        let mut exchange = Exchange::new(&mut buffer);
        assert!(exchange.is_said());
        exchange.say(Say::Progress {
            image: [1; 8],
            stage: Stage::Verified,
            offset: 9,
            reason: "",
        });
        assert!(!exchange.is_said());
        assert!(matches!(exchange.next(), Some(Up::Progress(_))));
        assert!(!exchange.is_said() && exchange.next().is_none());
        exchange.settled();
        assert!(exchange.is_said());
        exchange.lost();
        assert!(exchange.is_said(), "it had arrived");
    }

    #[test]
    fn a_stage_that_was_lost_with_the_session_is_said_again() {
        let mut buffer = [0; 64];
        let mut exchange = Exchange::new(&mut buffer);
        exchange.say(Say::Progress {
            image: [1; 8],
            stage: Stage::TakenBack,
            offset: 9,
            reason: "",
        });
        assert!(exchange.next().is_some());
        exchange.lost();
        assert!(!exchange.is_said());
        assert!(matches!(exchange.next(), Some(Up::Progress(_))));
    }
}
