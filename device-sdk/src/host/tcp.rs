//! Connections over TCP.

use std::io;
use std::string::String;

use embedded_io_adapters::tokio_1::FromTokio;
use tokio::net::TcpStream;

use crate::dial::Dial;

/// Dials `host:port`.
#[derive(Clone, Debug)]
pub struct TcpDial {
    address: String,
}

impl TcpDial {
    /// `address` as `host:port`; names are looked up at each attempt.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into() }
    }
}

impl Dial for TcpDial {
    type Transport<'t> = FromTokio<TcpStream>;
    type Error = io::Error;

    async fn dial(&mut self) -> io::Result<FromTokio<TcpStream>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(FromTokio::new(stream))
    }
}
