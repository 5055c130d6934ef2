//! Names, addresses and ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use crate::doctor::facts::{ControlPlane, Listener, Port};
use crate::identity::split_endpoint;
use crate::settings::Settings;

/// How long a name server may take.
const NAME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Addresses of a name that are looked at.
const ADDRESSES_MAX: usize = 4;

/// The control plane of an enrolled gateway: its addresses, and whether one takes connections.
pub(super) fn control_plane(endpoint: &str) -> ControlPlane {
    let addresses = split_endpoint(endpoint).and_then(resolve).map_err(|err| err.to_string());
    let reached = match &addresses {
        Ok(addresses) if !addresses.is_empty() => Some(reach(addresses)),
        Ok(_) | Err(_) => None,
    };
    ControlPlane { endpoint: endpoint.to_owned(), addresses, reached }
}

/// On a thread of its own: the system's resolver has no bound that a program can set.
fn resolve(name: (String, u16)) -> io::Result<Vec<SocketAddr>> {
    let (sender, receiver) = mpsc::channel();
    let look = move || {
        let found = name.to_socket_addrs().map(|all| all.take(ADDRESSES_MAX).collect());
        // Nobody waits any more: it came too late.
        let _ = sender.send(found);
    };
    std::thread::Builder::new().name("resolver".to_owned()).spawn(look)?;
    let late = |_| {
        let text = format!("no answer from a name server within {} s", NAME_MAX.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, text)
    };
    receiver.recv_timeout(NAME_MAX).map_err(late)?
}

fn reach(addresses: &[SocketAddr]) -> Result<(), String> {
    let mut last = String::new();
    for address in addresses {
        match TcpStream::connect_timeout(address, CONNECT_MAX) {
            Ok(_) => return Ok(()),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

/// The configured listeners, but for those whose port the system chooses.
pub(super) fn listeners(settings: &Settings, agent_runs: bool) -> Vec<Listener> {
    let fixed = settings.listeners.iter().filter(|listener| listener.bind.port() != 0);
    fixed
        .map(|listener| {
            let address = listener.bind;
            let port = if agent_runs { answers(address) } else { free(address) };
            Listener { address, port }
        })
        .collect()
}

fn answers(address: SocketAddr) -> Port {
    match TcpStream::connect_timeout(&near(address), CONNECT_MAX) {
        Ok(_) => Port::Answers,
        Err(error) => Port::Dead(format!("nothing takes connections: {error}")),
    }
}

/// Where a listener on all addresses can be reached from here.
fn near(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Binds for a moment, as the agent would at its start.
fn free(address: SocketAddr) -> Port {
    match TcpListener::bind(address) {
        Ok(_) => Port::Free,
        Err(error) => Port::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_or_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert!(matches!(free(address), Port::Refused(_)));
        assert!(matches!(answers(address), Port::Answers));
        drop(taken);
        assert!(matches!(free(address), Port::Free));
        assert!(matches!(answers(address), Port::Dead(_)));
    }

    #[test]
    fn a_listener_on_all_addresses_is_near() {
        let near = |text: &str| near(text.parse().unwrap()).to_string();
        assert_eq!(near("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(near("[::]:1"), "[::1]:1");
        assert_eq!(near("192.0.2.7:1"), "192.0.2.7:1");
    }

    #[test]
    fn a_control_plane_is_found_and_reached_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("localhost:{}", listener.local_addr().unwrap().port());
        let found = control_plane(&endpoint);
        assert!(found.addresses.is_ok_and(|all| !all.is_empty()) && found.reached == Some(Ok(())));
        drop(listener);
        assert!(control_plane(&endpoint).reached.is_some_and(|reached| reached.is_err()));
        let odd = control_plane("no port");
        assert!(odd.addresses.is_err() && odd.reached.is_none());
    }
}
