//! Asking for the bytes of an image, one question at a time. Pure: time is passed in.
//!
//! # Invariants
//! - Bytes are taken in order, without gaps, and never more than the image has; those of a chunk stay within a page.
//! - At most one question is open; it is asked again after a wait that doubles up to a minute, and that begins with twice what
//!   the last answer took: on a slow line no question is asked twice for each answer.

use device_protocol::update::{Chunk, Want};

use super::plan::Plan;

/// First and shortest wait for an answer, in milliseconds.
pub(super) const ANSWER_MS: u64 = 3_000;
/// Longest wait before a question is asked again, in milliseconds.
const ANSWER_MS_MAX: u64 = 60_000;

/// Where the fetching of an image stands.
#[derive(Clone, Copy, Debug)]
pub struct Fetch {
    image: [u8; 8],
    length: u32,
    offset: u32,
    chunk: u16,
    page: u32,
    /// Uptime until which an answer is waited for.
    open_until_ms: Option<u64>,
    /// Uptime at which it was asked for the first time.
    asked_ms: u64,
    wait_ms: u64,
}

impl Fetch {
    /// Begins at `offset`, what is kept already, and asks for at most `chunk` bytes at a time, and for none beyond the end of
    /// a page of `page` bytes. `wait_ms` is the first wait for an answer, in milliseconds.
    ///
    /// # Panics
    /// With an offset behind the end, or with no bytes to ask for.
    #[must_use]
    pub fn new(plan: &Plan, offset: u32, chunk: u16, page: u32, wait_ms: u64) -> Self {
        assert!(offset <= plan.length && chunk > 0 && page > 0);
        let (image, length) = (plan.image(), plan.length);
        Self { image, length, offset, chunk, page, open_until_ms: None, asked_ms: 0, wait_ms }
    }

    /// Bytes that are kept.
    #[must_use]
    pub const fn offset(&self) -> u32 {
        self.offset
    }

    /// Whether all bytes are there.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.offset == self.length
    }

    /// The question to ask now. It counts as asked.
    pub fn want(&mut self, now_ms: u64) -> Option<Want> {
        if self.is_whole() || now_ms < self.due_ms() {
            return None;
        }
        match self.open_until_ms {
            Some(_) => self.silent(),
            None => self.asked_ms = now_ms,
        }
        self.open_until_ms = Some(now_ms + self.wait_ms);
        Some(Want { image: self.image, offset: self.offset, length: self.asked() })
    }

    /// Uptime from which on [`Fetch::want`] has a question.
    #[must_use]
    pub const fn due_ms(&self) -> u64 {
        match self.open_until_ms {
            Some(until_ms) => until_ms,
            None => 0,
        }
    }

    /// Whether a chunk is the answer to the open question: all of what was asked for.
    #[must_use]
    pub fn accepts(&self, chunk: &Chunk<'_>) -> bool {
        self.open_until_ms.is_some()
            && chunk.image == self.image
            && chunk.offset == self.offset
            && chunk.bytes.len() == usize::from(self.asked())
            && !chunk.bytes.is_empty()
    }

    /// No answer came in time: the next one is waited for twice as long.
    pub(super) fn silent(&mut self) {
        self.wait_ms = (self.wait_ms * 2).min(ANSWER_MS_MAX);
    }

    /// The open question is lost: it is to be asked again at once.
    pub(super) fn lost(&mut self) {
        self.open_until_ms = None;
    }

    /// How long the next answer is waited for, in milliseconds.
    #[must_use]
    pub const fn wait_ms(&self) -> u64 {
        self.wait_ms
    }

    /// The accepted chunk is kept.
    pub fn kept(&mut self, now_ms: u64) {
        let took_ms = now_ms.saturating_sub(self.asked_ms);
        self.offset += u32::from(self.asked());
        self.open_until_ms = None;
        self.wait_ms = (2 * took_ms.min(ANSWER_MS_MAX)).clamp(ANSWER_MS, ANSWER_MS_MAX);
        assert!(self.offset <= self.length, "more bytes than the image has");
    }

    fn asked(&self) -> u16 {
        let of_page = self.page - self.offset % self.page;
        let left = of_page.min(self.length - self.offset);
        u16::try_from(left).unwrap_or(u16::MAX).min(self.chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u32 = 4_096;
    const PLAN: Plan = Plan { digest: [9; 32], length: 2_500, version: 1, floor: 0 };

    #[test]
    fn a_question_is_repeated_with_doubling_waits_and_only_its_answer_is_taken() {
        let mut fetch = Fetch::new(&PLAN, 0, 1_024, PAGE, ANSWER_MS);
        let want = fetch.want(10).unwrap();
        assert_eq!((want.offset, want.length), (0, 1_024));
        assert_eq!(fetch.want(10 + ANSWER_MS - 1), None);
        assert_eq!(fetch.want(10 + ANSWER_MS), Some(want));
        assert_eq!(fetch.want(10 + 2 * ANSWER_MS), None, "the wait has doubled");
        let bytes = [0; 1_024];
        let answer = Chunk { image: [9; 8], offset: 0, bytes: &bytes };
        assert!(!fetch.accepts(&Chunk { image: [8; 8], ..answer }));
        assert!(!fetch.accepts(&Chunk { offset: 1, ..answer }));
        assert!(!fetch.accepts(&Chunk { bytes: &bytes[1..], ..answer }));
        assert!(fetch.accepts(&answer));
        fetch.kept(10 + 2 * ANSWER_MS);
        assert!(!fetch.accepts(&answer), "an answer that comes twice");
    }

    #[test]
    fn on_a_slow_line_answers_are_waited_for_as_long_as_the_last_ones_took() {
        let mut fetch = Fetch::new(&PLAN, 0, 1_024, PAGE, ANSWER_MS);
        let took_ms = 2 * ANSWER_MS;
        assert!(fetch.want(0).is_some() && fetch.want(ANSWER_MS).is_some());
        fetch.kept(took_ms);
        assert!(fetch.want(took_ms).is_some());
        assert_eq!(fetch.want(3 * took_ms - 1), None, "the second answer has its time");
        fetch.kept(took_ms + 1);
        assert_eq!(fetch.wait_ms(), ANSWER_MS, "the line is fast again");
        // What it has learned survives the turn of the other kind.
        fetch.silent();
        let mut again = Fetch::new(&PLAN, fetch.offset(), 1_024, PAGE, fetch.wait_ms());
        assert!(again.want(0).is_some() && again.want(2 * ANSWER_MS - 1).is_none());
    }

    proptest! {
        #[test]
        fn every_byte_is_kept_once_whatever_is_lost(
            length in 1u32..5_000, chunk in 1u16..1_024, start in 0u32..5_000, page in 1u32..5_000,
            events in prop::collection::vec(0u8..4, 0..200),
        ) {
            let plan = Plan { length, ..PLAN };
            let mut fetch = Fetch::new(&plan, start.min(length), chunk, page, ANSWER_MS);
            let mut now_ms = 0;
            let mut kept = start.min(length);
            let bytes = [0; 1_024];
            for event in events.into_iter().chain(core::iter::repeat_n(0, 5_000)) {
                if fetch.is_whole() {
                    break;
                }
                if let Some(want) = fetch.want(now_ms) {
                    prop_assert_eq!(want.offset, kept);
                    let end = want.offset + u32::from(want.length);
                    prop_assert!(end <= length && (end - 1) / page == want.offset / page);
                    let bytes = &bytes[..usize::from(want.length)];
                    let answer = Chunk { image: want.image, offset: want.offset, bytes };
                    if event == 0 {
                        prop_assert!(fetch.accepts(&answer));
                        kept += u32::from(want.length);
                        fetch.kept(now_ms);
                    }
                }
                now_ms += 1_000;
                now_ms = now_ms.max(fetch.due_ms().min(now_ms + ANSWER_MS_MAX));
            }
            prop_assert!(fetch.is_whole());
            prop_assert_eq!(kept, length);
        }
    }
}
