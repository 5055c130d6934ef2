//! The connection as the MQTT client underneath is given it.
//!
//! # Invariants
//! - Whether a write is under way can be told from outside: such a one is not to be dropped, as a transport with TLS is of
//!   no use after half a record.

use core::cell::Cell;

use embedded_io_async::{ErrorType, Read, Write};
use minimq::Session;

/// CONNACK: success, no session, no properties (MQTT 5, 3.2).
const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];

/// See the module.
pub(super) enum Wire<'w, T> {
    /// To a gateway.
    Real { transport: T, is_writing: &'w Cell<bool> },
    /// To nobody: [`claim_session`]. What is left to be heard from there.
    Played(&'static [u8]),
}

/// Makes the client underneath ask for the session that a gateway may still have, with the commands that it kept in it.
///
/// It asks only if it was connected before (`clean_start` otherwise), and a restart of the device makes it forget that. So it
/// is connected once to a gateway that is played.
pub(super) async fn claim_session<T: Read + Write>(session: &mut Session<'_>) {
    // A CONNECT that is too long fails at each gateway as well, and is told there.
    let _ = session.connect(Wire::<T>::Played(CONNACK)).await;
}

impl<T: ErrorType> ErrorType for Wire<'_, T> {
    type Error = T::Error;
}

impl<T: Read> Read for Wire<'_, T> {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, T::Error> {
        match self {
            Self::Real { transport, .. } => transport.read(out).await,
            Self::Played(rest) => {
                let (now, later) = rest.split_at(rest.len().min(out.len()));
                out[..now.len()].copy_from_slice(now);
                *rest = later;
                Ok(now.len())
            }
        }
    }
}

impl<T: Write> Write for Wire<'_, T> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, T::Error> {
        match self {
            Self::Real { transport, is_writing } => {
                is_writing.set(true);
                let written = transport.write(bytes).await;
                is_writing.set(false);
                written
            }
            Self::Played(_) => Ok(bytes.len()),
        }
    }

    async fn flush(&mut self) -> Result<(), T::Error> {
        match self {
            Self::Real { transport, is_writing } => {
                is_writing.set(true);
                let flushed = transport.flush().await;
                is_writing.set(false);
                flushed
            }
            Self::Played(_) => Ok(()),
        }
    }
}
