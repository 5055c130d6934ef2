//! A small blocking MQTT 5 client that knows which publish was acked. Test clients need that;
//! rumqttc does not tell it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use edge_broker::codec::{Connect, Decoder, Packet, ReasonCode, Version, Will, encode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Longest packet taken.
const PACKET_BYTES_MAX: usize = 2 << 20;

/// Where and as whom to connect.
#[derive(Clone, Debug)]
pub struct Login {
    /// Listener.
    pub address: SocketAddr,
    /// CA of the listener; `None` is plaintext.
    pub ca: Option<PathBuf>,
    /// Certificate to show, with its key: a device that has no password.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Client id, and user name where there is a password.
    pub client_id: String,
    /// Password.
    pub password: Option<String>,
    /// Keep alive in seconds; 0 is none.
    pub keep_alive_s: u16,
    /// Session expiry; 0 with `clean` is a session of this connection only.
    pub session_expiry_s: u32,
    /// Whether an earlier session is dropped.
    pub clean: bool,
    /// Published for it when its connection is lost.
    pub will: Option<Will>,
}

impl Login {
    /// An anonymous plaintext client.
    #[must_use]
    pub fn anonymous(address: SocketAddr, client_id: &str) -> Self {
        Self {
            address,
            ca: None,
            certificate: None,
            client_id: client_id.to_owned(),
            password: None,
            keep_alive_s: 0,
            session_expiry_s: 0,
            clean: true,
            will: None,
        }
    }

    /// Its CONNECT.
    #[must_use]
    pub fn connect(&self) -> Connect {
        let mut connect = Connect::new(Version::V5, &self.client_id);
        connect.clean_start = self.clean;
        connect.keep_alive_s = self.keep_alive_s;
        connect.session_expiry_s = self.session_expiry_s;
        connect.will = self.will.clone();
        if let Some(password) = &self.password {
            connect.username = Some(self.client_id.clone());
            connect.password = Some(Bytes::from(password.clone()));
        }
        connect
    }

    /// TLS as it wants it; `None` is plaintext.
    ///
    /// # Errors
    /// A PEM file cannot be read.
    pub fn tls(&self) -> Result<Option<Arc<ClientConfig>>> {
        let Some(ca) = &self.ca else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let config = match &self.certificate {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain =
                    CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?
            }
        };
        Ok(Some(Arc::new(config)))
    }
}

trait Wire: Read + Write + Send {
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for StreamOwned<ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// A connected client.
pub struct Client {
    wire: Box<dyn Wire>,
    decoder: Decoder,
    inbound: bytes::BytesMut,
    outbound: Vec<u8>,
    /// Whether the server found an earlier session.
    pub session_present: bool,
    /// Unacked publishes that the server takes (MQTT 5, 3.2.2.3.3).
    pub receive_max: u16,
}

impl Client {
    /// Connects and waits for the CONNACK.
    ///
    /// # Errors
    /// The server is not there, or refuses.
    pub fn connect(login: &Login) -> Result<Self> {
        let socket = TcpStream::connect_timeout(&login.address, Duration::from_secs(5))?;
        socket.set_nodelay(true)?;
        let wire: Box<dyn Wire> = match login.tls()? {
            None => Box::new(socket),
            Some(config) => {
                let name = ServerName::try_from("localhost")?;
                Box::new(StreamOwned::new(ClientConnection::new(config, name)?, socket))
            }
        };
        let mut client = Self {
            wire,
            decoder: Decoder::client(Version::V5, PACKET_BYTES_MAX),
            inbound: bytes::BytesMut::new(),
            outbound: Vec::new(),
            session_present: false,
            receive_max: u16::MAX,
        };
        client.queue(&Packet::Connect(Box::new(login.connect())));
        client.flush()?;
        match client.next(Duration::from_secs(60))? {
            Some(Packet::ConnAck(ack)) if ack.reason == ReasonCode::Success => {
                client.session_present = ack.session_present;
                client.receive_max = ack.properties.receive_max.unwrap_or(u16::MAX);
                Ok(client)
            }
            Some(other) => bail!("refused: {other:?}"),
            None => bail!("no CONNACK within a minute"),
        }
    }

    /// Puts a packet into the buffer of the next [`Client::flush`].
    pub fn queue(&mut self, packet: &Packet) {
        encode(packet, Version::V5, &mut self.outbound);
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn flush(&mut self) -> Result<()> {
        self.wire.write_all(&self.outbound)?;
        self.wire.flush()?;
        self.outbound.clear();
        Ok(())
    }

    /// The next packet; `None` after `within`.
    ///
    /// # Errors
    /// The connection is gone, or the server sent what is no packet.
    pub fn next(&mut self, within: Duration) -> Result<Option<Packet>> {
        let deadline = std::time::Instant::now() + within;
        let mut chunk = [0; 16 << 10];
        loop {
            let decoded = self.decoder.decode(&mut self.inbound);
            if let Some(packet) = decoded.map_err(|err| anyhow::anyhow!("{err:?}"))? {
                return Ok(Some(packet));
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.wire.socket().set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.wire.read(&mut chunk) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(n) => self.inbound.extend_from_slice(&chunk[..n]),
                Err(err) if is_timeout(&err) => return Ok(None),
                Err(err) => return Err(err).context("reading"),
            }
        }
    }
}

fn is_timeout(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
