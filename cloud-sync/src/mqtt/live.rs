//! What is true only now: who is connected, commands under way, log lines passing by.
//!
//! Three small registries, each with its own lock held for a few lookups and never across a wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_broker::ConnId;
use sync_protocol::wire::{Logs, Reply};
use tokio::sync::{broadcast, oneshot};

use crate::failure::{Failure, Kind};
use crate::identity::is_gateway_worn;
use crate::limits::{ALIVE_MS, COMMANDS_MAX, LOG_BUFFER_MAX, LOG_FOLLOWERS_MAX};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is complete in itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connected gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Online {
    conn: ConnId,
    /// Since when, in milliseconds since the Unix epoch.
    pub(crate) since_ms: u64,
    /// When it last published (monotonic).
    heard_ms: u64,
    /// The process run it stated in its `Hello`.
    epoch: Option<u64>,
    /// The run whose living connection this one replaced.
    replaced: Option<u64>,
}

/// The certificate that a gateway last showed.
#[derive(Clone, Copy, Debug)]
struct Shown {
    /// The last moment it is valid, in seconds since 1970.
    not_after_unix_s: i64,
    /// Its series, which a new one is of, too.
    series: u64,
    /// Whether the gateway was told to renew it and has not asked for a new one since.
    told: bool,
}

/// Who is connected.
#[derive(Debug, Default)]
pub(crate) struct Live {
    online: Mutex<BTreeMap<String, Online>>,
    /// Connections that were alive when another took their place: their process runs.
    replaced: Mutex<BTreeMap<String, u64>>,
    certificates: Mutex<BTreeMap<String, Shown>>,
    /// How often the access of some gateway was ended.
    ends: AtomicU64,
}

impl Live {
    /// The access of a gateway was ended, in the store: who is being judged by what the store said
    /// before is judged again.
    pub(crate) fn access_ended(&self) {
        self.ends.fetch_add(1, Ordering::SeqCst);
    }

    /// How often that happened.
    pub(super) fn ends(&self) -> u64 {
        self.ends.load(Ordering::SeqCst)
    }

    /// A gateway showed a certificate of this series that is valid until then, and was let in.
    pub(super) fn showed(&self, gateway: &str, not_after_unix_s: i64, series: u64) {
        let shown = Shown { not_after_unix_s, series, told: false };
        lock(&self.certificates).insert(gateway.to_owned(), shown);
    }

    /// Whether the gateway has to be told to renew the certificate that it last showed; then it may
    /// ask for a new one, once.
    pub(super) fn tell_renewal(&self, gateway: &str, now_ms: u64) -> bool {
        let mut certificates = lock(&self.certificates);
        let Some(shown) = certificates.get_mut(gateway) else { return false };
        shown.told = is_gateway_worn(shown.not_after_unix_s, now_ms);
        shown.told
    }

    /// The gateway asks for a new certificate: the series of its old one, if it was told to ask.
    pub(super) fn take_renewal(&self, gateway: &str) -> Option<u64> {
        let mut certificates = lock(&self.certificates);
        let shown = certificates.get_mut(gateway)?;
        std::mem::take(&mut shown.told).then_some(shown.series)
    }

    /// A gateway is connected.
    pub(super) fn connected(&self, gateway: &str, conn: ConnId, now_ms: u64, mono_ms: u64) {
        let replaced = lock(&self.replaced).remove(gateway);
        let online = Online { conn, since_ms: now_ms, heard_ms: mono_ms, epoch: None, replaced };
        lock(&self.online).insert(gateway.to_owned(), online);
    }

    /// A connection of a gateway ended; `taken_over` when another one replaced it.
    pub(super) fn disconnected(&self, gateway: &str, conn: ConnId, taken_over: bool, mono_ms: u64) {
        let mut online = lock(&self.online);
        let Some(old) = online.get(gateway).copied() else { return };
        let alive = mono_ms.saturating_sub(old.heard_ms) < ALIVE_MS;
        if let (true, true, Some(epoch)) = (taken_over, alive, old.epoch) {
            if old.conn == conn {
                lock(&self.replaced).insert(gateway.to_owned(), epoch);
            } else if let Some(new) = online.get_mut(gateway) {
                new.replaced = Some(epoch);
            }
        }
        if old.conn == conn {
            online.remove(gateway);
        }
    }

    /// Something came from a gateway.
    pub(super) fn heard(&self, gateway: &str, mono_ms: u64) {
        if let Some(online) = lock(&self.online).get_mut(gateway) {
            online.heard_ms = mono_ms;
        }
    }

    /// A gateway stated its process run. Gives the other run when its connection was alive a
    /// moment ago and this one took its place.
    pub(super) fn stated(&self, gateway: &str, epoch: u64) -> Option<u64> {
        let mut online = lock(&self.online);
        let online = online.get_mut(gateway)?;
        online.epoch = Some(epoch);
        online.replaced.take().filter(|other| *other != epoch)
    }

    /// The gateway's connection, if it is connected.
    pub(crate) fn get(&self, gateway: &str) -> Option<Online> {
        lock(&self.online).get(gateway).copied()
    }

    /// How many are connected.
    pub(crate) fn count(&self) -> usize {
        lock(&self.online).len()
    }

    /// Names of the connected ones.
    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.online).keys().cloned().collect()
    }
}

/// Commands that wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    gateway: String,
    reply: oneshot::Sender<Result<String, String>>,
}

/// A command under way; it is forgotten when this is dropped.
pub(crate) struct Pending {
    /// Its id.
    pub(crate) id: u64,
    /// Where the answer comes.
    pub(crate) reply: oneshot::Receiver<Result<String, String>>,
    commands: Arc<Commands>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        lock(&self.commands.waiting).remove(&self.id);
    }
}

impl Commands {
    /// Ids begin at a random place, so that an answer to a former life of this server is none.
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { next: AtomicU64::new(first), waiting: Mutex::default() }
    }

    /// An id that was not used before.
    pub(crate) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers a command for a gateway.
    pub(crate) fn register(self: &Arc<Self>, gateway: &str) -> Result<Pending, Failure> {
        let (sender, reply) = oneshot::channel();
        let id = self.next_id();
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= COMMANDS_MAX {
            let error = format!("{COMMANDS_MAX} commands wait for an answer");
            return Err(Failure::new(Kind::Busy, error, "try again in a moment"));
        }
        waiting.insert(id, Waiting { gateway: gateway.to_owned(), reply: sender });
        Ok(Pending { id, reply, commands: Arc::clone(self) })
    }

    /// An answer came. Only the gateway that was asked may answer.
    pub(super) fn answer(&self, gateway: &str, reply: Reply) {
        let mut waiting = lock(&self.waiting);
        if waiting.get(&reply.id).is_some_and(|asked| asked.gateway == gateway)
            && let Some(asked) = waiting.remove(&reply.id)
        {
            // Nobody may wait any more.
            let _ = asked.reply.send(reply.result);
        }
    }
}

/// Log lines of gateways, for whoever follows.
#[derive(Debug, Default)]
pub(crate) struct LogFeeds {
    feeds: Mutex<BTreeMap<String, broadcast::Sender<Arc<Logs>>>>,
}

impl LogFeeds {
    /// Follows the log of a gateway from now on.
    pub(crate) fn follow(&self, gateway: &str) -> Result<broadcast::Receiver<Arc<Logs>>, Failure> {
        let mut feeds = lock(&self.feeds);
        feeds.retain(|_, feed| feed.receiver_count() > 0);
        let followers: usize = feeds.values().map(broadcast::Sender::receiver_count).sum();
        if followers >= LOG_FOLLOWERS_MAX {
            let error = format!("{LOG_FOLLOWERS_MAX} log followers are connected");
            return Err(Failure::new(Kind::Busy, error, "close one of them"));
        }
        let feed =
            feeds.entry(gateway.to_owned()).or_insert_with(|| broadcast::channel(LOG_BUFFER_MAX).0);
        Ok(feed.subscribe())
    }

    pub(super) fn publish(&self, gateway: &str, logs: Logs) {
        if let Some(feed) = lock(&self.feeds).get(gateway) {
            // Nobody may follow any more.
            let _ = feed.send(Arc::new(logs));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_connection_that_was_alive_is_told() {
        let live = Live::default();
        live.connected("a", ConnId(1), 0, 0);
        assert_eq!(live.stated("a", 7), None);
        live.heard("a", 10_000);
        live.disconnected("a", ConnId(1), true, 10_500);
        live.connected("a", ConnId(2), 0, 10_500);
        assert_eq!(live.stated("a", 8), Some(7));
        assert_eq!(live.stated("a", 8), None, "told once");
        live.disconnected("a", ConnId(1), false, 11_000);
        assert!(live.get("a").is_some(), "the end of an old connection ends not the new one");
    }

    #[test]
    fn a_dead_connection_or_the_same_run_is_no_second_gateway() {
        let live = Live::default();
        live.connected("a", ConnId(1), 0, 0);
        live.stated("a", 7);
        live.disconnected("a", ConnId(1), true, ALIVE_MS + 1);
        live.connected("a", ConnId(2), 0, 0);
        assert_eq!(live.stated("a", 8), None, "it was silent for long");
        live.disconnected("a", ConnId(2), true, 1);
        live.connected("a", ConnId(3), 0, 1);
        assert_eq!(live.stated("a", 8), None, "the same run came back after a cut");
    }

    #[test]
    fn a_certificate_is_renewed_once_and_only_by_who_was_told() {
        let live = Live::default();
        let year_s = 365 * 86_400;
        live.showed("new", year_s, 4);
        live.showed("old", year_s / 3, 5);
        assert!(!live.tell_renewal("new", 0));
        assert_eq!(live.take_renewal("new"), None);
        assert_eq!(live.take_renewal("old"), None, "not told yet");
        assert!(live.tell_renewal("old", 0));
        assert_eq!(live.take_renewal("old"), Some(5));
        assert_eq!(live.take_renewal("old"), None, "once");
        assert!(live.tell_renewal("old", 0));
        live.showed("old", year_s, 5);
        assert_eq!(live.take_renewal("old"), None, "it came back with a new one");
        assert!(!live.tell_renewal("nobody", 0));
        assert_eq!(live.take_renewal("nobody"), None);
    }

    #[test]
    fn only_the_gateway_that_was_asked_answers() {
        let commands = Arc::new(Commands::starting_at(5));
        let mut pending = commands.register("a").unwrap();
        commands.answer("b", Reply { id: pending.id, result: Ok("{}".into()) });
        assert!(pending.reply.try_recv().is_err());
        commands.answer("a", Reply { id: pending.id, result: Ok("1".into()) });
        assert_eq!(pending.reply.try_recv().unwrap(), Ok("1".into()));
        drop(pending);
        assert!(lock(&commands.waiting).is_empty());
    }
}
