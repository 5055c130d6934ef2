//! The task of one connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::accept::Places;
use super::mailbox::Mailbox;
use super::port::Arrival;
use super::stream::{Progress, Wanted, progress};
use super::{READ_BYTES, Shared};
use crate::broker::{ConnId, Input, Peer};
use crate::codec::{DecodeError, Decoder, Packet};

/// The owner is told of written bytes in steps of this,
const REPORT_BYTES: usize = 32 * 1_024;

/// or of this, if nothing is left to write.
const REPORT_LAST_BYTES: usize = 4 * 1_024;

/// Packets of one input: small ones would take far more memory than their bytes.
const PACKETS_PER_INPUT: usize = 256;

/// Runs a connection from its CONNECT to its end.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared>,
    stream: S,
    peer: Peer,
    places: Places,
    deadline: Instant,
) {
    let Places { connection, handshake } = places;
    let id = shared.conn_id();
    let mailbox = Arc::new(Mailbox::default());
    let opened = Input::Opened { conn: id, peer: Arc::new(peer) };
    if shared.ingress.send(Arrival::Opened(opened, Arc::clone(&mailbox))).await.is_err() {
        return;
    }
    let decoder = Decoder::server(shared.limits.connect_bytes_max);
    let mut task = Task {
        shared,
        id,
        mailbox,
        stream,
        decoder,
        buf: BytesMut::new(),
        next: None,
        broken: false,
        room: None,
    };
    if tokio::time::timeout_at(deadline, task.connect()).await.is_ok_and(|sent| sent) {
        drop::<OwnedSemaphorePermit>(handshake);
        task.serve().await;
    }
    // The place is free only when the owner knows.
    let _ = task.shared.ingress.send(Arrival::Closed(id)).await;
    drop(connection);
}

struct Task<S> {
    shared: Arc<Shared>,
    id: ConnId,
    mailbox: Arc<Mailbox>,
    stream: S,
    decoder: Decoder,
    /// Received bytes that are not decoded: an incomplete packet, or packets without credit.
    buf: BytesMut,
    /// An input that the owner has no room for yet.
    next: Option<Arrival>,
    /// What came was no packet: the connection is not read again.
    broken: bool,
    /// Room for the incomplete large packet in `buf`, and until when it has to be complete.
    room: Option<(OwnedSemaphorePermit, Instant)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    /// Reads up to the CONNECT and hands it over, or the error instead. False if the connection
    /// ends before.
    async fn connect(&mut self) -> bool {
        loop {
            match self.decoder.decode(&mut self.buf) {
                Ok(Some(packet)) => {
                    let limits = &self.shared.limits;
                    self.decoder.set_packet_bytes_max(limits.packet_bytes_max);
                    let (aliases, bytes) = (limits.topic_alias_max, limits.topic_alias_bytes_max);
                    self.decoder.accept_topic_aliases(aliases, bytes);
                    // Nothing more is read until the owner has answered.
                    self.mailbox.set_paused(true);
                    let arrival = self.packets(vec![packet]);
                    return self.shared.ingress.send(arrival).await.is_ok();
                }
                Ok(None) => {}
                Err(error) => {
                    let arrival = self.malformed(error);
                    return self.shared.ingress.send(arrival).await.is_ok();
                }
            }
            let wanted = Wanted { read: true, flush: false, read_first: true };
            let out = &mut VecDeque::new();
            match progress(&mut self.stream, &mut self.buf, out, wanted).await {
                Ok(Progress::Read(1..)) => {}
                Ok(_) | Err(_) => return false,
            }
        }
    }

    /// Reads and writes until one side closes.
    async fn serve(&mut self) {
        let mailbox = Arc::clone(&self.mailbox);
        let mut out = VecDeque::new();
        let mut wanted = Wanted { read: false, flush: false, read_first: false };
        let mut unreported = 0;
        loop {
            let (may_read, close) = mailbox.collect(&mut out);
            if close {
                break;
            }
            wanted.read = may_read && !self.broken && self.next.is_none();
            if wanted.read && self.decode() {
                continue;
            }
            let large = self.large_packet().filter(|_| wanted.read);
            let complete_by = self.complete_by(wanted.read);
            wanted.read &= large.is_none();
            wanted.read_first = !wanted.read_first;
            let step = if out.is_empty() { REPORT_LAST_BYTES } else { REPORT_BYTES };
            let report = self.next.is_none() && unreported >= step;
            tokio::select! {
                moved = progress(&mut self.stream, &mut self.buf, &mut out, wanted) => match moved {
                    Ok(Progress::Read(0)) | Err(_) => return,
                    Ok(Progress::Read(_)) => {}
                    Ok(Progress::Wrote(bytes)) => {
                        unreported += bytes;
                        wanted.flush = true;
                    }
                    Ok(Progress::Flushed) => wanted.flush = false,
                },
                permit = self.shared.ingress.reserve(), if self.next.is_some() || report => {
                    let Ok(permit) = permit else { break };
                    permit.send(self.next.take().unwrap_or_else(|| {
                        let bytes = std::mem::take(&mut unreported);
                        Arrival::Other(Input::Written { conn: self.id, bytes })
                    }));
                }
                room = self.shared.room(large.unwrap_or_default()), if large.is_some() => {
                    let Some(room) = room else { return };
                    self.buf.reserve(large.unwrap_or_default().saturating_sub(self.buf.len()));
                    self.room = Some((room, self.patience()));
                }
                () = sleep_until(complete_by), if complete_by.is_some() => return,
                () = mailbox.changed() => {}
            }
        }
        // The owner has closed it, or is gone and has left its last word.
        mailbox.collect(&mut out);
        self.close(out).await;
    }

    /// Size of the incomplete packet in `buf`, if it needs room and has none.
    fn large_packet(&self) -> Option<usize> {
        if self.room.is_some() {
            return None;
        }
        self.decoder.packet_bytes(&self.buf).filter(|bytes| *bytes > READ_BYTES)
    }

    /// When the large packet has to be there. The time stands still while it is not read.
    fn complete_by(&mut self, reading: bool) -> Option<Instant> {
        let later = self.room.is_some().then(|| self.patience())?;
        let (_, until) = self.room.as_mut()?;
        if !reading {
            *until = later;
        }
        Some(*until)
    }

    fn patience(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.shared.limits.packet_ms_max)
    }

    /// Decodes what was read into the next input. False if no packet is complete.
    fn decode(&mut self) -> bool {
        let mut packets = Vec::new();
        while packets.len() < PACKETS_PER_INPUT {
            match self.decoder.decode(&mut self.buf) {
                Ok(Some(packet)) => {
                    packets.push(packet);
                    self.room = None;
                }
                Ok(None) => break,
                // The packets before the error are handed over first.
                Err(_) if !packets.is_empty() => break,
                Err(error) => {
                    self.next = Some(self.malformed(error));
                    return true;
                }
            }
        }
        if self.buf.is_empty() {
            self.buf = BytesMut::new();
        }
        if packets.is_empty() {
            return false;
        }
        self.next = Some(self.packets(packets));
        true
    }

    fn packets(&self, packets: Vec<Packet>) -> Arrival {
        self.mailbox.handed_over();
        Arrival::Packets(self.id, Input::Packets { conn: self.id, packets })
    }

    /// The last input of a connection.
    fn malformed(&mut self, error: DecodeError) -> Arrival {
        self.buf = BytesMut::new();
        self.broken = true;
        Arrival::Other(Input::Malformed { conn: self.id, error })
    }

    /// Writes the last bytes and closes, within a bounded time.
    async fn close(&mut self, mut out: VecDeque<Bytes>) {
        let wanted = Wanted { read: false, flush: true, read_first: false };
        let last = async {
            while progress(&mut self.stream, &mut self.buf, &mut out, wanted).await?
                != Progress::Flushed
            {}
            self.stream.shutdown().await
        };
        let patience = Duration::from_millis(self.shared.limits.close_ms_max);
        // Whether the peer took the last bytes does not matter any more.
        let _ = tokio::time::timeout(patience, last).await;
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
