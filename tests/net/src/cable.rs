//! A cable from the MQTT client of the uplink, which opens a TCP socket by itself, into the
//! simulated network.
//!
//! The client connects to a socket on loopback, in the same thread. What it sends goes on over the
//! simulated network, and back; where that connection ends, so does the socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::net::{LinkId, Net};

/// Lays a cable to an address of the network. Returns the port on loopback where it begins.
///
/// # Errors
/// There is no free port.
pub fn lay(net: &Net, link: LinkId, to: SocketAddr) -> io::Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let listener = TcpListener::from_std(listener)?;
    let net = net.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(carry(socket, net.clone(), link, to));
        }
    });
    Ok(port)
}

async fn carry(mut socket: TcpStream, net: Net, link: LinkId, to: SocketAddr) {
    let _ = socket.set_nodelay(true);
    let mut stream = net.dial(link, to);
    // However it ends, both sides end with it.
    let _ = copy_bidirectional(&mut socket, &mut stream).await;
}
