//! A link that can be cut: a TCP forwarder on loopback between a gateway and its control plane.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Bytes from the target to clients so far, and the number of them at which the link is cut.
    down_bytes: AtomicU64,
    cut_at: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// Forwards a fresh port at the address of `target`, which is loopback, to it.
    ///
    /// # Errors
    /// No port can be bound.
    pub fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((target.ip(), 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            cut: AtomicBool::new(false),
            down_bytes: AtomicU64::new(0),
            cut_at: AtomicU64::new(u64::MAX),
            open: Mutex::default(),
        });
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
        self.shared.cut();
    }

    /// Cuts the link by itself when so many more bytes came from the target.
    pub fn cut_after(&self, bytes: u64) {
        let now = self.shared.down_bytes.load(Ordering::SeqCst);
        self.shared.cut_at.store(now + bytes, Ordering::SeqCst);
    }

    /// Whether it is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.shared.cut.load(Ordering::SeqCst)
    }

    /// Bytes that came from the target so far.
    #[must_use]
    pub fn down_bytes(&self) -> u64 {
        self.shared.down_bytes.load(Ordering::SeqCst)
    }

    /// Mends the link.
    pub fn mend(&self) {
        self.shared.cut_at.store(u64::MAX, Ordering::SeqCst);
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
        for (from, to, is_down) in [(&client, &server, false), (&server, &client, true)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pump(from, to, is_down));
        }
        open.extend([client, server]);
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, is_down: bool) {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 || to.write_all(&buffer[..n]).is_err() {
                break;
            }
            if is_down {
                let before = self.down_bytes.fetch_add(n as u64, Ordering::SeqCst);
                if before + n as u64 >= self.cut_at.load(Ordering::SeqCst) {
                    self.cut();
                }
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
