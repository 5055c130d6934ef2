//! A link that can be cut: a TCP forwarder on loopback between a gateway and its control plane.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// A forwarder. While it is cut, open connections are reset and new ones refused at once.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// Forwards a fresh loopback port to `target`.
    ///
    /// # Errors
    /// No port can be bound.
    pub fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared =
            Arc::new(Shared { target, cut: AtomicBool::new(false), open: Mutex::default() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for incoming in listener.incoming().flatten() {
                accepting.accept(incoming);
            }
        });
        Ok(Self { address, shared })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the link.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Mends the link.
    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, client: TcpStream) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.cut.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(self.target) else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            thread::spawn(move || pump(from, to));
        }
        open.extend([client, server]);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
