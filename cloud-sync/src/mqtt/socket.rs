//! The listener for gateways.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use edge_broker::Limits;
use edge_broker::transport::{ListenConfig, Listener, Port, Transport, TransportLimits};
use rustls::ServerConfig;
use sync_protocol::limits::MESSAGE_BYTES_MAX;

/// A bound listener for gateways. Connections wait until the loop runs.
pub(crate) struct MqttSocket {
    pub(super) limits: Limits,
    pub(super) port: Port,
    pub(super) transport: Transport,
    pub(super) listener: Listener,
}

impl MqttSocket {
    /// Binds.
    pub(crate) fn bind(address: SocketAddr, tls: Arc<ServerConfig>) -> io::Result<Self> {
        let limits = Limits {
            session_expiry_s_max: 0,
            message_bytes_max: MESSAGE_BYTES_MAX,
            retained_messages_max: 0,
            ..Limits::default()
        };
        let packet_bytes_max = limits.packet_bytes_max();
        let (transport, port) =
            Transport::new(TransportLimits { packet_bytes_max, ..TransportLimits::default() });
        let listener = transport.listen(ListenConfig { address, tls: Some(tls) })?;
        Ok(Self { limits, port, transport, listener })
    }

    /// The bound address.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }
}
