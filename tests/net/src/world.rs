//! The world of the gateway process: the simulator's disk, functions and clocks; the broker's real
//! transport and the real uplink over the simulated network.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use edge_agent::agent::RunError;
use edge_agent::agent::stepped::{
    Clocks, Committer, Crumbs, Executor, Link, LinkStart, Network, Passwords, Pool, Shelf, Watch,
    World,
};
use edge_agent::auth::thread::Question;
use edge_agent::runtime::{Completion, Toolchain};
use edge_agent::store::{self, JournalStore, OpenError, Opened};
use edge_agent::uplink::mqtt::Endpoint;
use edge_agent::uplink::proxy::Route;
use edge_agent::uplink::{self, Handle, Say, Setup};
use edge_broker::broker;
use edge_broker::transport::{Listener, Port, Transport, TransportLimits};
use simulator::world::SimWorld;
use sync_protocol::topics;
use sync_protocol::wire::{Message, Presence};

use crate::hub::GATEWAY;
use crate::net::{LinkId, Net};
use crate::pki::pki;

/// The world; clones are the same one.
#[derive(Clone)]
pub struct NetWorld {
    /// Everything but the network.
    pub sim: SimWorld,
    net: Net,
    /// Where the gateway listens.
    address: SocketAddr,
    /// The port on loopback from which the cable to the control plane goes.
    cable: u16,
    /// Keep-alive of the uplink.
    keep_alive: Duration,
    life: Rc<RefCell<Life>>,
}

/// The parts that one life of the gateway has.
#[derive(Default)]
struct Life {
    transport: Option<Transport>,
    listener: Option<Listener>,
    uplink: Option<tokio::task::JoinHandle<()>>,
    arrivals: Option<Rc<RefCell<Arrivals>>>,
}

impl NetWorld {
    /// A world around these.
    #[must_use]
    pub fn new(
        sim: SimWorld,
        net: Net,
        address: SocketAddr,
        cable: u16,
        keep_alive: Duration,
    ) -> Self {
        Self { sim, net, address, cable, keep_alive, life: Rc::default() }
    }

    /// Whether the gateway has something to take from the network.
    #[must_use]
    pub fn has_arrivals(&self) -> bool {
        let life = self.life.borrow();
        life.arrivals.as_ref().is_some_and(|arrivals| arrivals.borrow_mut().peek())
    }

    /// The process is gone, and its sockets and its uplink with it; with `power` nobody is told.
    pub fn end_process(&self, power: bool) {
        if power {
            self.net.vanish_host(self.address);
            self.net.vanish(LinkId::Uplink);
        } else {
            self.net.end_host(self.address);
            self.net.cut(LinkId::Uplink);
        }
        let life = std::mem::take(&mut *self.life.borrow_mut());
        life.uplink.into_iter().for_each(|task| task.abort());
        self.sim.end_life();
    }
}

/// The owner's end of the transport, and an input that was looked at.
struct Arrivals {
    port: Port,
    next: Option<broker::Input>,
}

impl Arrivals {
    fn peek(&mut self) -> bool {
        self.next = self.next.take().or_else(|| self.port.try_recv());
        self.next.is_some()
    }
}

/// The gateway's hold of it.
struct Held(Rc<RefCell<Arrivals>>);

impl Network for Held {
    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<broker::Input>> {
        let mut arrivals = self.0.borrow_mut();
        match arrivals.next.take() {
            Some(input) => Poll::Ready(Some(input)),
            None => arrivals.port.poll_recv(context),
        }
    }

    fn try_recv(&mut self) -> Option<broker::Input> {
        let mut arrivals = self.0.borrow_mut();
        arrivals.next.take().or_else(|| arrivals.port.try_recv())
    }

    fn apply(&mut self, effect: broker::Effect) -> Option<broker::Effect> {
        self.0.borrow_mut().port.apply(effect)
    }
}

struct Uplink(Handle);

impl Link for Uplink {
    fn say(&self, say: Say) {
        self.0.say(say);
    }

    fn stop(self: Box<Self>) {
        self.0.stop();
    }
}

impl World for NetWorld {
    fn network(&mut self, limits: TransportLimits) -> Box<dyn Network> {
        let (transport, port) = Transport::new(limits);
        let arrivals = Rc::new(RefCell::new(Arrivals { port, next: None }));
        let mut life = self.life.borrow_mut();
        life.transport = Some(transport);
        life.arrivals = Some(Rc::clone(&arrivals));
        Box::new(Held(arrivals))
    }

    fn listen(&mut self) -> Result<Vec<SocketAddr>, RunError> {
        let mut life = self.life.borrow_mut();
        let transport = life.transport.as_ref().expect("invariant: the network is made first");
        let listener = transport.serve(self.net.listen(self.address), self.address, None);
        life.listener = Some(listener);
        Ok(vec![self.address])
    }

    fn link(&mut self, start: LinkStart) -> io::Result<Option<Box<dyn Link>>> {
        let offline = Presence::Offline.encode().map_err(io::Error::other)?;
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: self.cable,
            route: Route::Direct,
            client_id: GATEWAY.to_owned(),
            login: None,
            keep_alive: self.keep_alive,
            subscribe: topics::down(GATEWAY),
            will: Some((topics::presence(GATEWAY), offline)),
            tls: Arc::clone(&pki().client),
        };
        let (handle, running) = uplink::prepare(Setup {
            gateway: GATEWAY.to_owned(),
            version: start.version,
            epoch: start.epoch,
            endpoint,
            streams: start.streams,
            state: start.state,
            // This control plane asks for no renewal.
            credentials: None,
            seed: start.seed,
            rate: None,
            outbox: start.outbox,
            partial: self.sim.partial(),
            heard: start.heard,
        });
        self.life.borrow_mut().uplink = Some(tokio::spawn(running));
        Ok(Some(Box::new(Uplink(handle))))
    }

    fn draw(&mut self) -> io::Result<u64> {
        self.sim.draw()
    }

    fn clocks(&mut self) -> Box<dyn Clocks> {
        self.sim.clocks()
    }

    fn open_store(&mut self, settings: store::Settings) -> Result<Opened, OpenError> {
        self.sim.open_store(settings)
    }

    fn disk_bytes(&self) -> Option<u64> {
        self.sim.disk_bytes()
    }

    fn committer(
        &mut self,
        store: JournalStore,
        done: Box<dyn FnMut(store::Completion) + Send>,
    ) -> io::Result<Box<dyn Committer>> {
        self.sim.committer(store, done)
    }

    fn slots(&self) -> u16 {
        self.sim.slots()
    }

    fn pool(&mut self, done: Box<dyn Fn(Completion) + Send + Sync>) -> io::Result<Box<dyn Pool>> {
        self.sim.pool(done)
    }

    fn crumbs(&self) -> Box<dyn Crumbs> {
        self.sim.crumbs()
    }

    fn toolchain(&self) -> Arc<dyn Toolchain> {
        self.sim.toolchain()
    }

    fn shelf(&mut self) -> io::Result<Arc<dyn Shelf>> {
        self.sim.shelf()
    }

    fn executor(&mut self) -> io::Result<Box<dyn Executor>> {
        self.sim.executor()
    }

    fn passwords(
        &mut self,
        answer: Box<dyn Fn(Question, bool) + Send>,
    ) -> io::Result<Box<dyn Passwords>> {
        self.sim.passwords(answer)
    }

    fn is_managed(&self) -> bool {
        true
    }

    fn watch(&mut self) -> Option<Box<dyn Watch>> {
        self.sim.watch()
    }
}
