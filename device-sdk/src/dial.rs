//! How the client reaches the gateway: the board's part.

use core::future::Future;

use embedded_io_async::{Read, Write};

/// Makes connections to the gateway: TCP, TLS over it, or whatever carries a stream of bytes.
///
/// ```ignore
/// struct Tcp<'a> { stack: embassy_net::Stack<'a>, rx: &'a mut [u8], tx: &'a mut [u8] }
///
/// impl Dial for Tcp<'_> {
///     type Transport<'t> = TcpSocket<'t> where Self: 't;
///     type Error = ConnectError;
///
///     async fn dial(&mut self) -> Result<TcpSocket<'_>, ConnectError> {
///         let mut socket = TcpSocket::new(self.stack, self.rx, self.tx);
///         socket.connect((GATEWAY, 1883)).await?;
///         Ok(socket)
///     }
/// }
/// ```
pub trait Dial {
    /// A connection.
    ///
    /// A read that is dropped before it ends must not have taken bytes: the client reads and waits for other things at
    /// the same time. Writes must go on without a flush in between, and fail after a while if nobody takes the bytes.
    type Transport<'t>: Read + Write
    where
        Self: 't;
    /// Why there is none; the client only tries again.
    type Error;

    /// Connects once. The client drops the future after [`crate::Config::answer_timeout_ms`], and calls again after a
    /// wait.
    fn dial(&mut self) -> impl Future<Output = Result<Self::Transport<'_>, Self::Error>>;
}
