//! The gateway's side of the conversation with its control plane, without clock and I/O.
//!
//! Order of a connection: `Hello` up, `Welcome` down, then records; `Hello` again every six hours,
//! because the time is told with the `Welcome` only. What the control plane says is
//! idempotent, so a lost or repeated message costs time only. Nothing is kept here that the store
//! does not hold: on a new connection everything unreceipted goes again (pitfall P1: an MQTT
//! client is never a buffer).

use std::collections::BTreeMap;

use edge_core::time::Millis;
use sync_protocol::fetch::{Arrived, Fetch};
use sync_protocol::id::Digest;
use sync_protocol::wire::{ChunkRequest, Command, Conflicts, Desired, Down, StreamMark, Up};

use super::RUN_BYTES_MAX;
use super::order::Order;
use super::rate::{Bucket, Rate};
use super::window::Window;

/// Time without a `Welcome` after which `Hello` is said again.
const HELLO_AGAIN_AFTER: Millis = Millis(10_000);

/// A link that stays up says `Hello` so often. The answer tells the time: in between a clock of
/// 50 ppm goes wrong by a second. It also tells of a certificate that is worn by now.
const HELLO_EVERY: Millis = Millis(6 * 3_600_000);

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The transport is connected and subscribed.
    Connected,
    /// The transport is gone.
    Disconnected,
    /// The control plane spoke.
    Down(Box<Down>),
    /// Records of a stream are durable up to here.
    Durable {
        /// Stream.
        stream: u8,
        /// Position.
        seq: u64,
    },
    /// At start: the store has receipted a stream up to here.
    Stored {
        /// Stream.
        stream: u8,
        /// Position.
        seq: u64,
    },
    /// Answer to [`Effect::Compare`].
    Compared {
        /// Stream.
        stream: u8,
        /// The store holds this record, of this process run.
        ours: bool,
    },
    /// An artifact is wanted; `have` bytes of it are on disk.
    Fetch {
        /// Which.
        digest: Digest,
        /// Bytes on disk.
        have: u64,
        /// More is refused.
        bytes_max: u64,
    },
    /// Nobody wants the artifact any more.
    CancelFetch,
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Publish the `Hello`, with the positions and states of this moment.
    SayHello,
    /// Read a run of records from the store and publish it, then call [`Session::sent`].
    SendRun {
        /// Stream.
        stream: u8,
        /// First position.
        from: u64,
        /// Last position that may be sent.
        to: u64,
    },
    /// Find out whether the store's record at this position is of this process run, and answer
    /// with [`Input::Compared`].
    Compare {
        /// Stream.
        stream: u8,
        /// Position.
        seq: u64,
        /// Process run.
        epoch: u64,
    },
    /// The control plane holds positions that this store never wrote: the stream goes on after
    /// them.
    GoOnAfter {
        /// Stream.
        stream: u8,
        /// Position.
        seq: u64,
    },
    /// The control plane holds other records at these positions: those of this store go again at
    /// positions of their own. Comes before the receipt for them.
    Renumber {
        /// Stream.
        stream: u8,
        /// Positions.
        positions: Vec<u64>,
    },
    /// The control plane shows a gap up to a position that it had receipted.
    Gap {
        /// Stream.
        stream: u8,
        /// Position.
        seq: u64,
    },
    /// Give this connection up and make a new one; the text says why.
    GiveUp(&'static str),
    /// Publish.
    Publish(Up),
    /// Records may be deleted up to here.
    Receipt {
        /// Stream.
        stream: u8,
        /// Position.
        seq: u64,
    },
    /// The control plane vouches for this time (milliseconds since 1970).
    Time(u64),
    /// What should run.
    Desired(Desired),
    /// Append to the artifact on disk; `complete` with the last bytes.
    Append {
        /// Which.
        digest: Digest,
        /// Bytes.
        bytes: Vec<u8>,
        /// That was all.
        complete: bool,
    },
    /// The artifact cannot be had.
    FetchFailed {
        /// Which.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// An operator asks something.
    Command(Command),
    /// Ask for a new certificate.
    RenewCertificate,
    /// Keep the new certificate (DER), and show it from the next connection on.
    Certificate(Vec<u8>),
}

/// The link, and when `Hello` was said or answered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Hello { said_at: Millis },
    Up { hello_at: Millis },
}

/// State of the conversation.
#[derive(Debug)]
pub struct Session {
    link: Link,
    windows: BTreeMap<u8, Window>,
    /// A run was asked for ([`Effect::SendRun`]) and not answered yet ([`Session::sent`]).
    run_is_open: bool,
    fetch: Option<Fetch>,
    order: Order,
    bucket: Option<Bucket>,
}

impl Session {
    /// A session over these streams.
    #[must_use]
    pub fn new(streams: impl IntoIterator<Item = u8>, rate: Option<Rate>) -> Self {
        let windows = streams.into_iter().map(|stream| (stream, Window::default())).collect();
        Self {
            link: Link::Down,
            windows,
            run_is_open: false,
            fetch: None,
            order: Order::default(),
            bucket: rate.map(Bucket::new),
        }
    }

    /// Whether records flow.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Per stream: number, last position stored there, last durable position here.
    pub fn positions(&self) -> impl Iterator<Item = (u8, u64, u64)> + '_ {
        self.windows
            .iter()
            .map(|(stream, window)| (*stream, window.stored_to(), window.durable_to()))
    }

    /// Takes an input; effects are appended.
    pub fn handle(&mut self, input: Input, now: Millis, effects: &mut Vec<Effect>) {
        match input {
            Input::Connected => {
                self.rewind(now);
                self.link = Link::Hello { said_at: now };
                effects.push(Effect::SayHello);
            }
            Input::Disconnected => self.link = Link::Down,
            Input::Down(down) => self.down(*down, now, effects),
            Input::Durable { stream, seq } => {
                self.windows.entry(stream).or_default().durable(seq);
            }
            Input::Stored { stream, seq } => {
                let window = self.windows.entry(stream).or_default();
                window.durable(seq);
                window.receipt(seq, now);
            }
            Input::Compared { stream, ours } => self.compared(stream, ours, now, effects),
            Input::Fetch { digest, have, bytes_max } => {
                self.fetch = Some(Fetch::new(digest, have, bytes_max, now));
            }
            Input::CancelFetch => self.fetch = None,
            Input::Tick => self.tick(now, effects),
        }
        self.pump(now, effects);
    }

    /// A run was handed to the transport; `last` is its last position, `None` when nothing of it
    /// was kept any more.
    pub fn sent(&mut self, stream: u8, last: Option<u64>, now: Millis, effects: &mut Vec<Effect>) {
        self.run_is_open = false;
        let window = self.windows.entry(stream).or_default();
        match last {
            Some(last) => window.sent(last, now),
            None => window.nothing_left(),
        }
        self.pump(now, effects);
    }

    /// The store could not be read for a run that was asked for: it is asked for again later.
    pub fn not_read(&mut self, stream: u8, now: Millis, effects: &mut Vec<Effect>) {
        self.run_is_open = false;
        self.windows.entry(stream).or_default().not_read(now);
        self.pump(now, effects);
    }

    /// Bytes that the run that was asked for may have; at least one record goes in any case.
    pub fn run_bytes_max(&mut self, now: Millis) -> usize {
        let left = self.bucket.as_mut().and_then(|bucket| bucket.available(now));
        left.map_or(RUN_BYTES_MAX, |left| {
            usize::try_from(left).unwrap_or(usize::MAX).min(RUN_BYTES_MAX)
        })
    }

    /// A message with records of so many bytes was handed to the transport.
    pub fn spent(&mut self, bytes: usize) {
        if let Some(bucket) = &mut self.bucket {
            bucket.spent(bytes as u64);
        }
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        match self.link {
            Link::Down => None,
            Link::Hello { said_at } => Some(said_at + HELLO_AGAIN_AFTER),
            Link::Up { hello_at } => {
                let windows = self.windows.values().filter_map(Window::deadline);
                windows
                    .chain(self.fetch.as_ref().map(Fetch::deadline))
                    .chain(self.held_until())
                    .chain([hello_at + HELLO_EVERY])
                    .min()
            }
        }
    }

    /// When the rate lets a record go that waits for nothing else.
    fn held_until(&self) -> Option<Millis> {
        let waits = !self.run_is_open && self.windows.values().any(|w| w.next_from().is_some());
        self.bucket.as_ref().filter(|_| waits).map(Bucket::ready_at)
    }

    fn rewind(&mut self, now: Millis) {
        self.windows.values_mut().for_each(Window::rewind);
        if let Some(fetch) = &mut self.fetch {
            fetch.rewind(now);
        }
    }

    fn tick(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        self.hello_again(now, effects);
        self.windows.values_mut().for_each(|window| window.read_again(now));
        for window in self.windows.values_mut().filter(|window| window.is_overdue(now)) {
            window.rewind();
            if window.is_contested() {
                // A late receipt must not be taken for one of what is sent next.
                self.link = Link::Down;
                effects.push(Effect::GiveUp("no receipt while positions are contested"));
            }
        }
        if let Some(fetch) = &mut self.fetch {
            fetch.tick(now);
        }
    }

    /// Says `Hello` again where it is not answered, or where the last answer is old.
    fn hello_again(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        match &mut self.link {
            Link::Hello { said_at: at } if *at + HELLO_AGAIN_AFTER <= now => *at = now,
            Link::Up { hello_at: at } if *at + HELLO_EVERY <= now => *at = now,
            Link::Down | Link::Hello { .. } | Link::Up { .. } => return,
        }
        effects.push(Effect::SayHello);
    }

    fn down(&mut self, down: Down, now: Millis, effects: &mut Vec<Effect>) {
        match down {
            Down::Welcome(welcome) => {
                effects.push(Effect::Time(welcome.unix_ms));
                // The answer to a repeated hello says nothing new of positions.
                if !self.is_up() {
                    welcome.stored.into_iter().for_each(|mark| self.claimed(mark, effects));
                }
                self.link = Link::Up { hello_at: now };
            }
            Down::Receipt(receipt) => self.receipt(receipt.stream, receipt.seq, now, effects),
            Down::Conflicts(Conflicts { stream, seq, positions }) => {
                effects.push(Effect::Renumber { stream, positions });
                self.receipt(stream, seq, now, effects);
            }
            Down::Desired(desired) => effects.push(Effect::Desired(desired)),
            Down::Chunk(chunk) => {
                let Some(fetch) = &mut self.fetch else { return };
                let digest = chunk.digest;
                match fetch.arrived(&chunk, now) {
                    Arrived::Ignored => {}
                    Arrived::Append => {
                        effects.push(Effect::Append {
                            digest,
                            bytes: chunk.bytes,
                            complete: false,
                        });
                    }
                    Arrived::Complete => {
                        self.fetch = None;
                        effects.push(Effect::Append { digest, bytes: chunk.bytes, complete: true });
                    }
                    Arrived::Bad(why) => self.fail_fetch(digest, why.to_owned(), effects),
                }
            }
            Down::ChunkRefused(refused) => {
                if self.fetch.as_ref().is_some_and(|fetch| fetch.digest() == refused.digest) {
                    self.fail_fetch(refused.digest, refused.reason, effects);
                }
            }
            Down::Command(command) => effects.push(Effect::Command(command)),
            Down::RenewCertificate => effects.push(Effect::RenewCertificate),
            Down::Certificate(der) => effects.push(Effect::Certificate(der)),
        }
    }

    fn fail_fetch(&mut self, digest: Digest, reason: String, effects: &mut Vec<Effect>) {
        self.fetch = None;
        effects.push(Effect::FetchFailed { digest, reason });
    }

    /// What the control plane holds, as it says at the begin of a connection.
    fn claimed(&mut self, mark: StreamMark, effects: &mut Vec<Effect>) {
        let StreamMark { stream, seq, epoch } = mark;
        let Some(window) = self.windows.get_mut(&stream) else { return };
        if epoch == 0 && seq > 0 && seq == window.stored_to() {
            effects.push(Effect::Gap { stream, seq });
        }
        if window.claimed(seq) {
            effects.push(Effect::Compare { stream, seq, epoch });
            if seq > window.durable_to() {
                effects.push(Effect::GoOnAfter { stream, seq });
            }
        }
    }

    fn compared(&mut self, stream: u8, ours: bool, now: Millis, effects: &mut Vec<Effect>) {
        let Some(window) = self.windows.get_mut(&stream) else { return };
        let receipted = window.judged(ours, now);
        effects.extend(receipted.map(|seq| Effect::Receipt { stream, seq }));
    }

    fn receipt(&mut self, stream: u8, seq: u64, now: Millis, effects: &mut Vec<Effect>) {
        let Some(window) = self.windows.get_mut(&stream) else { return };
        let receipted = window.receipt(seq, now);
        effects.extend(receipted.map(|seq| Effect::Receipt { stream, seq }));
    }

    fn pump(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        if !self.is_up() {
            return;
        }
        // One run at a time: the next is asked for when this one was handed over. None before it is
        // known of every stream what the control plane holds: urgent ones go first.
        let held = self.bucket.as_mut().is_some_and(|bucket| bucket.available(now).is_none());
        if !self.run_is_open && !held && !self.windows.values().any(Window::is_being_compared) {
            let next = self.next_run();
            self.run_is_open = next.is_some();
            effects.extend(next);
        }
        if let Some(fetch) = &mut self.fetch {
            let requests = std::iter::from_fn(|| fetch.next_request());
            effects.extend(
                requests.map(|request: ChunkRequest| Effect::Publish(Up::ChunkRequest(request))),
            );
        }
    }

    fn next_run(&mut self) -> Option<Effect> {
        let waiting = self.windows.iter().filter(|(_, window)| window.next_from().is_some());
        let waiting: Vec<u8> = waiting.map(|(stream, _)| *stream).collect();
        let stream = self.order.choose(&waiting)?;
        let window = &self.windows[&stream];
        Some(Effect::SendRun { stream, from: window.next_from()?, to: window.durable_to() })
    }
}

#[cfg(test)]
mod tests;
