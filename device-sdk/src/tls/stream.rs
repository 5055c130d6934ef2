//! The open connection.

use embedded_io_async::{ErrorType, Read, Write};
use embedded_tls::{TlsConnection, TlsError};

use super::Error;
use super::gate::Gate;
use super::link::Link;
use super::suite::Suite;

/// An open TLS connection. Reads may be cancelled; after a cancelled write it says [`Error::Cancelled`] from then on, as
/// after any other error it says that error.
pub struct Stream<'m, T: Read + Write + 'm> {
    tls: TlsConnection<'m, Gate<'m, T>, Suite>,
    link: &'m Link,
    /// Why it cannot go on. While a write is under way: that it was cancelled.
    over: Option<Error>,
}

impl<'m, T: Read + Write + 'm> Stream<'m, T> {
    pub(super) fn new(tls: TlsConnection<'m, Gate<'m, T>, Suite>, link: &'m Link) -> Self {
        Self { tls, link, over: None }
    }

    /// Says goodbye (close_notify). The transport is dropped.
    ///
    /// # Errors
    /// The transport fails, or the connection was over before.
    pub async fn close(mut self) -> Result<(), Error> {
        self.begin_write()?;
        match self.tls.close().await {
            Ok(_) => Ok(()),
            Err((_, error)) => Err(Error::new(error, self.link)),
        }
    }

    /// From here to [`Self::end_write`] the connection counts as cancelled.
    fn begin_write(&mut self) -> Result<(), Error> {
        match self.over.replace(Error::Cancelled) {
            None => Ok(()),
            Some(error) => {
                self.over = Some(error);
                Err(error)
            }
        }
    }

    fn end_write<V>(&mut self, result: Result<V, TlsError>) -> Result<V, Error> {
        self.over = None;
        result.map_err(|error| self.end(error))
    }

    fn end(&mut self, error: TlsError) -> Error {
        let error = Error::new(error, self.link);
        self.over = Some(error);
        error
    }
}

impl<'m, T: Read + Write + 'm> core::fmt::Debug for Stream<'m, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stream").field("over", &self.over).finish_non_exhaustive()
    }
}

impl<'m, T: Read + Write + 'm> ErrorType for Stream<'m, T> {
    type Error = Error;
}

impl<'m, T: Read + Write + 'm> Read for Stream<'m, T> {
    /// 0 when the gateway said goodbye.
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        match self.over {
            None => {}
            Some(Error::Closed) => return Ok(0),
            Some(error) => return Err(error),
        }
        match self.tls.read(out).await {
            Ok(length) => Ok(length),
            Err(TlsError::ConnectionClosed) => {
                self.over = Some(Error::Closed);
                Ok(0)
            }
            Err(error) => Err(self.end(error)),
        }
    }
}

impl<'m, T: Read + Write + 'm> Write for Stream<'m, T> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.begin_write()?;
        let result = self.tls.write(bytes).await;
        self.end_write(result)
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.begin_write()?;
        let result = self.tls.flush().await;
        self.end_write(result)
    }
}
