//! Names, addresses and ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use tokio::time::timeout;

use crate::doctor::facts::{ControlPlane, Listener, Port};
use crate::identity::split_endpoint;
use crate::settings::Settings;
use crate::uplink::dial;
use crate::uplink::proxy::{Choice, Environment, Route};

/// How long a name server may take.
const NAME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long the control plane may take, whatever stands between.
const PLANE_MAX: Duration = Duration::from_secs(10);

/// The control plane of an enrolled gateway: its addresses, and whether it takes connections as the
/// agent makes them. Through a proxy only that one's name is looked up here.
pub(super) fn control_plane(endpoint: &str, proxy: &Choice) -> ControlPlane {
    let mut plane = ControlPlane {
        endpoint: endpoint.to_owned(),
        proxy: None,
        addresses: Ok(Vec::new()),
        reached: None,
    };
    let (host, port) = match split_endpoint(endpoint) {
        Ok(place) => place,
        Err(error) => return ControlPlane { addresses: Err(error.to_string()), ..plane },
    };
    let route = proxy.route(&Environment::of_process(), &host);
    let dialled = match &route {
        Route::Proxy(proxy) => {
            plane.proxy = Some(proxy.to_string());
            (proxy.host.clone(), proxy.port)
        }
        Route::Direct => (host.clone(), port),
        Route::Bad(why) => {
            plane.reached = Some(Err(why.clone()));
            return plane;
        }
    };
    plane.addresses = resolve(dialled).map_err(|err| err.to_string());
    if plane.addresses.as_ref().is_ok_and(|addresses| !addresses.is_empty()) {
        plane.reached = Some(reach(&host, port, &route));
    }
    plane
}

/// On a thread of its own: the system's resolver has no bound that a program can set.
fn resolve(name: (String, u16)) -> io::Result<Vec<SocketAddr>> {
    let (sender, receiver) = mpsc::channel();
    let look = move || {
        let found = name.to_socket_addrs().map(|all| dial::in_turns(all.collect()));
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

/// As the agent does it, up to where TLS would begin.
fn reach(host: &str, port: u16, route: &Route) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let reached =
        runtime.block_on(async { timeout(PLANE_MAX, dial::tcp(host, port, route)).await });
    // A name that is still being looked up is waited for by nobody.
    runtime.shutdown_background();
    match reached {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("nobody answers within {} s", PLANE_MAX.as_secs())),
    }
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
        let look = |endpoint: &str| control_plane(endpoint, &Choice::Direct);
        let found = look(&endpoint);
        assert!(found.addresses.is_ok_and(|all| !all.is_empty()) && found.reached == Some(Ok(())));
        drop(listener.accept());
        // What listens there is no proxy, and hangs up.
        let proxy = Choice::Proxy(endpoint.parse().unwrap());
        let hangs_up = std::thread::spawn(move || drop(listener.accept()));
        let odd = control_plane("cloud.example:8883", &proxy);
        assert_eq!(odd.proxy, Some(endpoint.clone()));
        let why = odd.reached.unwrap().expect_err("no proxy");
        assert!(why.contains("does not answer as an HTTP proxy"), "{why}");
        hangs_up.join().unwrap();
        assert!(look(&endpoint).reached.is_some_and(|reached| reached.is_err()));
        let odd = look("no port");
        assert!(odd.addresses.is_err() && odd.reached.is_none());
    }
}
