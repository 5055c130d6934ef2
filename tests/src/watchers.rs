//! Well-behaved clients that publish at a steady rate and watch how long the acks take, on a
//! thread of their own: what they measure is the server and not how busy the rest of this process
//! is.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use edge_core::topic::Topic;
use tokio::sync::watch;

use crate::mqtt::Login;
use crate::swarm::{self, Link, Published};

/// Watching clients.
#[derive(Debug)]
pub struct Watchers {
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<Vec<Published>>>,
}

impl Watchers {
    /// Connects them; each then publishes to `sensors/CLIENT_ID` every so often. They connect in
    /// the same way, so TLS is made once.
    ///
    /// # Errors
    /// One of them does not get in.
    pub fn start(logins: Vec<Login>, every: Duration) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let io = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            io.block_on(async {
                let mut publishing = Vec::with_capacity(logins.len());
                let tls = logins.first().map(Login::tls).transpose()?.flatten();
                for (n, login) in logins.iter().enumerate() {
                    let link = Link::connect(login, tls.clone()).await?;
                    let topic = Topic::new(&format!("sensors/{}", login.client_id))?;
                    let first = swarm::spread(every, n, logins.len());
                    let task = swarm::publish(link, topic, first, every, stopped.clone());
                    publishing.push(tokio::spawn(task));
                }
                let _ = ready.send(());
                let mut seen = Vec::with_capacity(publishing.len());
                for publishing in publishing {
                    seen.push(publishing.await?.0);
                }
                Ok(seen)
            })
        });
        let watchers = Self { stop, thread };
        match is_ready.recv() {
            Ok(()) => Ok(watchers),
            // It ended without that word; joining it tells why.
            Err(_) => Err(watchers.stop().err().unwrap_or_else(|| anyhow!("no watcher"))),
        }
    }

    /// What each of them saw.
    ///
    /// # Errors
    /// The thread ended badly.
    pub fn stop(self) -> Result<Vec<Published>> {
        let _ = self.stop.send(true);
        self.thread.join().map_err(|_| anyhow!("a watcher panicked"))?
    }
}
