//! One direction of a connection.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::time::Instant;

use super::WINDOW_BYTES;

/// Bytes that travel together.
const SEGMENT_BYTES: usize = 1_400;

/// Bytes on their way, in order.
#[derive(Debug)]
pub(super) struct Flow {
    /// When they arrive, and what.
    chunks: VecDeque<(Instant, Bytes)>,
    under_way: usize,
    /// When the link has carried what was written so far.
    free_at: Instant,
    /// Nothing arrives before this.
    last_at: Instant,
    /// The writer has ended it, or was cut off; told when all before it is read.
    end: Option<(Instant, End)>,
    /// Bytes until the connection is reset.
    cut_after: Option<u64>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How a direction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Fin,
    Reset,
}

/// What a reader gets.
#[derive(Debug)]
pub(super) enum Taken {
    Bytes(Bytes),
    End(End),
    Nothing,
}

impl Flow {
    pub(super) fn new(opens_at: Instant) -> Self {
        Self {
            chunks: VecDeque::new(),
            under_way: 0,
            free_at: opens_at,
            last_at: opens_at,
            end: None,
            cut_after: None,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn cut_after(&mut self, bytes: u64) {
        self.cut_after = Some(bytes);
    }

    /// Whether it was cut off.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.end, Some((_, End::Reset)))
    }

    /// Takes bytes to carry; returns how many.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        bytes_per_s: Option<u64>,
        latency: Duration,
    ) -> usize {
        let room = WINDOW_BYTES.saturating_sub(self.under_way).min(bytes.len());
        let most = self.cut_after.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let taken = room.min(most);
        if taken > 0 {
            self.free_at = self.free_at.max(Instant::now());
            for segment in bytes[..taken].chunks(SEGMENT_BYTES) {
                let micros = |rate: u64| segment.len() as u64 * 1_000_000 / rate.max(1);
                self.free_at += Duration::from_micros(bytes_per_s.map_or(0, micros));
                self.last_at = self.last_at.max(self.free_at + latency);
                self.chunks.push_back((self.last_at, Bytes::copy_from_slice(segment)));
            }
            self.under_way += taken;
        }
        if let Some(left) = &mut self.cut_after {
            *left -= taken as u64;
            if *left == 0 {
                self.cut_after = None;
                self.end(End::Reset, Duration::ZERO);
            }
        }
        taken
    }

    /// Nothing more is written.
    pub(super) fn end(&mut self, end: End, latency: Duration) {
        let at = self.last_at.max(Instant::now() + latency);
        self.end.get_or_insert((at, end));
    }

    /// What has arrived, at most `most` bytes.
    pub(super) fn read(&mut self, most: usize) -> Taken {
        let now = Instant::now();
        let Some((at, chunk)) = self.chunks.front_mut() else {
            return match self.end {
                Some((at, end)) if at <= now => Taken::End(end),
                _ => Taken::Nothing,
            };
        };
        if *at > now {
            return Taken::Nothing;
        }
        let bytes = chunk.split_to(chunk.len().min(most));
        if !chunk.has_remaining() {
            self.chunks.pop_front();
        }
        self.under_way -= bytes.len();
        self.writer.take().into_iter().for_each(Waker::wake);
        Taken::Bytes(bytes)
    }

    pub(super) fn wait_to_read(&mut self, waker: &Waker) {
        self.reader = Some(waker.clone());
    }

    pub(super) fn wait_to_write(&mut self, waker: &Waker) {
        self.writer = Some(waker.clone());
    }

    /// Wakes the reader if it would get something.
    pub(super) fn wake_reader(&mut self, now: Instant) {
        let first = self.chunks.front().map(|(at, _)| *at);
        let first = first.or(self.end.map(|(at, _)| at));
        if first.is_some_and(|at| at <= now) {
            self.reader.take().into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}
