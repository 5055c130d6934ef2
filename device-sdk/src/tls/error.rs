//! Why there is no connection, and what to do.

use core::fmt;

use embedded_io_async::ErrorKind;
use embedded_tls::TlsError;
use embedded_tls::alert::AlertDescription;

use super::link::Link;

/// Why a connection fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The transport.
    Transport(ErrorKind),
    /// The gateway ended the connection during the handshake, or without saying so.
    Closed,
    /// The gateway refuses: number of the TLS alert (RFC 8446, 6).
    Alert(u8),
    /// The gateway ended the open connection by an alert; at its beginning that means: it refuses the device's certificate.
    Ended,
    /// The device refuses the gateway.
    Refused(Refusal),
    /// The handshake breaks the protocol, or the key that both should share is not the same.
    Handshake,
    /// A record does not decrypt, or holds what must not come: changed on the way, or another key.
    Record,
    /// A write was cancelled: the connection cannot go on.
    Cancelled,
    /// [`super::Memory`] is too small: 773 bytes to read, 512 and the device's certificate to write.
    Buffers,
    /// The private key is no scalar on P-256.
    DeviceKey,
    /// The device is provisioned for a link without TLS.
    Plain,
}

impl Error {
    /// What became of a connection whose TLS says `error`.
    pub(super) fn new(error: TlsError, link: &Link) -> Self {
        if let Some(why) = link.refusal() {
            return Self::Refused(why);
        }
        match error {
            TlsError::Io(kind) => Self::Transport(kind),
            TlsError::IoError | TlsError::ConnectionClosed => Self::Closed,
            TlsError::HandshakeAborted(_, description) => Self::Alert(number(description)),
            TlsError::InternalError if link.is_open() => Self::Ended,
            TlsError::InsufficientSpace => Self::Buffers,
            TlsError::CryptoError => Self::Record,
            _ if link.is_open() => Self::Record,
            _ => Self::Handshake,
        }
    }
}

/// The number of an alert, which the crate keeps to itself.
fn number(description: AlertDescription) -> u8 {
    description as u8
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(kind) => write!(f, "the transport failed: {kind:?}"),
            Self::Closed => f.write_str(
                "the gateway closed the connection: its log says why, if it is the right port and speaks TLS 1.3",
            ),
            Self::Alert(number) => write!(
                f,
                "the gateway refuses with TLS alert {number}: it needs TLS 1.3 with P-256 and AES-128-GCM"
            ),
            Self::Ended => f.write_str(
                "the gateway ended the connection: it does not accept the device's certificate \
                 (another `client_ca`, or expired); provision the device anew",
            ),
            Self::Refused(why) => write!(f, "the gateway is refused: {why}"),
            Self::Handshake => f.write_str("the peer breaks TLS 1.3, or does not know the shared key"),
            Self::Record => f.write_str("a record does not decrypt, or holds what must not come"),
            Self::Cancelled => f.write_str("a write was cancelled; connect again"),
            Self::Buffers => f.write_str(
                "the buffers are too small for the records of this peer: set `record` of the listener, \
                 or give a larger `Memory`",
            ),
            Self::DeviceKey => f.write_str("the provisioned key is none; provision the device anew"),
            Self::Plain => f.write_str("the device is provisioned for a link without TLS"),
        }
    }
}

impl core::error::Error for Error {}

impl embedded_io_async::Error for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Transport(kind) => *kind,
            Self::Closed | Self::Ended => ErrorKind::ConnectionAborted,
            Self::Cancelled => ErrorKind::NotConnected,
            Self::Buffers => ErrorKind::OutOfMemory,
            _ => ErrorKind::InvalidData,
        }
    }
}

macro_rules! refusals {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// Why the device refuses the gateway.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal { $($(#[doc = $doc])* $name,)* }

        impl Refusal {
            const ALL: &[Self] = &[$(Self::$name),*];
        }

        impl fmt::Display for Refusal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)* })
            }
        }
    };
}

refusals! {
    /// It ended the handshake without a certificate, or without proof that the certificate is its own.
    NoProof = "it did not prove who it is",
    /// More than one Certificate or CertificateVerify, or in the wrong order.
    Order = "its messages come twice or in the wrong order",
    /// A certificate where the shared key was to prove it.
    Unexpected = "it shows a certificate where a shared key was agreed",
    /// Its certificate cannot be read.
    Certificate = "its certificate cannot be read: it must be X.509 version 3, at most 4 KiB",
    /// Other algorithms than ECDSA on P-256 with SHA-256.
    Algorithm = "its certificate is not by ECDSA on P-256 with SHA-256; issue it by `holm device listener`",
    /// The pinned CA did not sign it.
    Issuer = "the provisioned gateway CA did not sign its certificate",
    /// Another name.
    Name = "its certificate bears another name than the provisioned server name",
    /// Its time is over.
    Expired = "its certificate has expired; renew it by `holm device listener`",
    /// Its time has not begun.
    NotYetValid = "its certificate is not valid yet: is the device's clock right?",
    /// It is a CA.
    IsCa = "its certificate is one of a CA",
    /// Not for signatures, or not for servers.
    Usage = "its certificate is not for TLS servers (extended key usage serverAuth)",
    /// It has a critical extension that is not known here.
    Extension = "its certificate has a critical extension that this device does not know",
    /// The CertificateVerify is not by the key of the certificate.
    Signature = "it does not hold the key of its certificate",
    /// The provisioned CA cannot be read.
    GatewayCa = "the provisioned gateway CA cannot be read; provision the device anew",
    /// A record that is longer than the buffers.
    RecordLength = "its records are longer than the device's buffers: set `record` of the listener",
    /// A record that TLS 1.3 does not know, or not here.
    Record = "it sends records that TLS 1.3 does not allow here",
    /// A handshake of too many records.
    Records = "its handshake does not end",
    /// So much was sent with one key that the connection must be opened anew (RFC 8446, 5.5).
    Worn = "the key of this connection is used up; connect again",
}

impl Refusal {
    /// A number from 1.
    pub(super) fn code(self) -> u8 {
        self as u8 + 1
    }

    pub(super) fn of(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}
