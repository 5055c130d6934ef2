//! Reading without a buffer of one's own and writing many chunks at once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::READ_BYTES;

/// Most chunks of one vectored write.
const CHUNKS_PER_WRITE: usize = 64;

thread_local! {
    /// Every connection of a thread reads into this and keeps only what came: an idle connection
    /// holds no buffer. The copy costs less than the system call.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// What a stream has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// This many bytes were read; 0 at the end.
    Read(usize),
    /// This many bytes were written.
    Wrote(usize),
    /// All that was written is on its way.
    Flushed,
}

/// What is wanted of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) read: bool,
    /// Something was written since the last flush.
    pub(super) flush: bool,
    /// Which of reading and writing is tried first: to be alternated, so that neither starves.
    pub(super) read_first: bool,
}

/// Reads into `buf` (at most [`READ_BYTES`]) or writes from the front of `out`, whichever the
/// stream can do. Cancel safe.
pub(super) async fn progress(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    buf: &mut BytesMut,
    out: &mut VecDeque<Bytes>,
    wanted: Wanted,
) -> io::Result<Progress> {
    poll_fn(|cx| {
        let mut stream = Pin::new(&mut *stream);
        if wanted.read && wanted.read_first {
            let read = poll_read(stream.as_mut(), cx, buf);
            if read.is_ready() {
                return read;
            }
        }
        let written = poll_write(stream.as_mut(), cx, out, wanted.flush);
        if written.is_ready() || !wanted.read || wanted.read_first {
            return written;
        }
        poll_read(stream, cx, buf)
    })
    .await
}

fn poll_read(
    stream: Pin<&mut (impl AsyncRead + ?Sized)>,
    cx: &mut Context<'_>,
    buf: &mut BytesMut,
) -> Poll<io::Result<Progress>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut scratch = ReadBuf::new(scratch);
        stream.poll_read(cx, &mut scratch).map_ok(|()| {
            buf.extend_from_slice(scratch.filled());
            Progress::Read(scratch.filled().len())
        })
    })
}

fn poll_write(
    stream: Pin<&mut (impl AsyncWrite + ?Sized)>,
    cx: &mut Context<'_>,
    out: &mut VecDeque<Bytes>,
    flush: bool,
) -> Poll<io::Result<Progress>> {
    if out.is_empty() {
        return if flush {
            stream.poll_flush(cx).map_ok(|()| Progress::Flushed)
        } else {
            Poll::Pending
        };
    }
    let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE];
    let count = out.len().min(CHUNKS_PER_WRITE);
    for (slice, chunk) in slices.iter_mut().zip(out.iter()) {
        *slice = IoSlice::new(chunk);
    }
    stream.poll_write_vectored(cx, &slices[..count]).map(|written| match written? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        written => {
            remove_front(out, written);
            Ok(Progress::Wrote(written))
        }
    })
}

fn remove_front(out: &mut VecDeque<Bytes>, bytes: usize) {
    let mut left = bytes;
    while let Some(first) = out.front_mut()
        && left > 0
    {
        if left < first.len() {
            return first.advance(left);
        }
        left -= first.len();
        out.pop_front();
    }
    if out.is_empty() {
        // An idle connection keeps no room for chunks either.
        *out = VecDeque::new();
    }
}
