//! One end of a connection: for tokio, and for clients that look now and then.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flow::{End, Taken};
use super::{Net, Side, reset};

/// One end of a connection. Dropped, it ends as a socket of an ended process: the other side reads
/// an end, and a reset where it writes.
#[derive(Debug)]
pub struct SimStream {
    net: Net,
    id: u64,
    side: Side,
}

impl SimStream {
    pub(super) fn new(net: Net, id: u64, side: Side) -> Self {
        Self { net, id, side }
    }

    /// What has come: at the end no bytes, `None` where nothing is there.
    ///
    /// # Errors
    /// The connection was reset.
    pub fn take(&mut self) -> io::Result<Option<Bytes>> {
        self.read_some(usize::MAX, None)
    }

    /// Sends what fits the window; returns how many bytes.
    ///
    /// # Errors
    /// The connection was reset.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.write_some(bytes, None)?.unwrap_or(0))
    }

    /// This end falls silent, as of a host without power: the other side is told nothing.
    pub fn vanish(self) {
        if let Some(conn) = self.net.state().conns.get_mut(&self.id) {
            conn.is_vanished = true;
        }
    }

    fn read_some(&mut self, most: usize, waker: Option<&Waker>) -> io::Result<Option<Bytes>> {
        let mut state = self.net.state();
        let Some(conn) = state.conns.get(&self.id) else { return Err(reset()) };
        let link = conn.link;
        let is_silent = conn.is_vanished || state.link(link).is_down;
        // Now and then a read gives a few bytes only, so that packets come in pieces.
        let is_piece = state.rng.chance(50_000);
        let most = if is_piece { most.min(7) } else { most };
        let Some(conn) = state.conns.get_mut(&self.id) else { return Err(reset()) };
        let was_reset = conn.is_reset;
        let flow = conn.flow(self.side.other());
        if is_silent {
            waker.into_iter().for_each(|waker| flow.wait_to_read(waker));
            return Ok(None);
        }
        if was_reset {
            return Err(reset());
        }
        match flow.read(most) {
            Taken::Bytes(bytes) => Ok(Some(bytes)),
            Taken::End(End::Fin) => Ok(Some(Bytes::new())),
            Taken::End(End::Reset) => {
                conn.is_reset = true;
                conn.wake();
                Err(reset())
            }
            Taken::Nothing => {
                waker.into_iter().for_each(|waker| flow.wait_to_read(waker));
                Ok(None)
            }
        }
    }

    fn write_some(&mut self, bytes: &[u8], waker: Option<&Waker>) -> io::Result<Option<usize>> {
        let mut state = self.net.state();
        let Some(conn) = state.conns.get(&self.id) else { return Err(reset()) };
        let link = conn.link;
        let is_silent = conn.is_vanished || state.link(link).is_down;
        let (latency, bytes_per_s) = (state.latency(link), state.link(link).bytes_per_s);
        let Some(conn) = state.conns.get_mut(&self.id) else { return Err(reset()) };
        let peer_is_gone = conn.gone[self.side.other() as usize];
        if !is_silent && (conn.is_reset || peer_is_gone) {
            conn.is_reset = true;
            conn.wake();
            return Err(reset());
        }
        let flow = conn.flow(self.side);
        if flow.is_cut() {
            return Err(reset());
        }
        let taken = flow.write(bytes, bytes_per_s, latency);
        if taken == 0 && !bytes.is_empty() {
            waker.into_iter().for_each(|waker| flow.wait_to_write(waker));
            return Ok(None);
        }
        Ok(Some(taken))
    }

    fn end(&self) {
        let mut state = self.net.state();
        let Some(link) = state.conns.get(&self.id).map(|conn| conn.link) else { return };
        let latency = state.latency(link);
        if let Some(conn) = state.conns.get_mut(&self.id) {
            conn.flow(self.side).end(End::Fin, latency);
        }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.end();
        if let Some(conn) = self.net.state().conns.get_mut(&self.id) {
            conn.gone[self.side as usize] = true;
        }
    }
}

fn ready<T>(result: io::Result<Option<T>>) -> Poll<io::Result<T>> {
    match result {
        Ok(Some(value)) => Poll::Ready(Ok(value)),
        Ok(None) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.read_some(buf.remaining(), Some(context.waker()));
        ready(read).map_ok(|bytes| buf.put_slice(&bytes))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready(self.write_some(bytes, Some(context.waker())))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}
