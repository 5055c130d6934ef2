//! The gateway's own loop, one turn at a time, in a world that the caller makes: for simulation.
//!
//! A [`Process`] is what the gateway process is without threads, sockets and clocks of its own:
//! the same loop, broker, core, reconciler and store above the seams. The caller implements
//! [`World`], calls [`Process::turn`] whenever a part of it has said something or
//! [`Process::due_in`] has passed, and so decides what happens when. To let the process die, cut
//! the disk off and drop it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge_broker::broker;
use edge_core::status::Status;
use edge_core::time::Now;
use serde_json::Value;
use sync_protocol::revision::AuthorKeys;
use tokio::sync::mpsc;

use super::RunError;
use super::blueprint::Blueprint;
use super::gateway::{Ended, Gateway};
use super::inbox::{Inbound, inbox};
use super::lives::Lives;
use super::plant::Plant;
use crate::last_errors::LastErrors;
use crate::settings::Settings;
use crate::store::{Reader, StoreError};
use crate::tls::TimeFloor;

pub use super::library::Shelf;
pub use super::prepare::Task;
pub use super::seams::{
    Boot, Clocks, Committer, Crumbs, Executor, Link, LinkStart, Network, Passwords, Pool, Watch,
    World,
};

/// A gateway process that the caller steps.
pub struct Process {
    blueprint: Blueprint,
    inbox: mpsc::UnboundedReceiver<Inbound>,
    gateway: Option<Gateway>,
}

/// What a turn came to.
#[derive(Debug)]
pub enum Turned {
    /// It goes on.
    On,
    /// The store takes nothing more. After a while [`Process::open`] is to be called again.
    StoreFailed(StoreError),
    /// A stop was asked for, and everything is on disk.
    Stopped,
}

impl Process {
    /// A process that has not begun; [`Process::open`] starts it.
    #[must_use]
    pub fn new(settings: Settings, authors: AuthorKeys) -> Self {
        let (outlet, inbox) = inbox();
        let blueprint = Blueprint {
            settings,
            authors,
            time_floor: TimeFloor::new(0),
            enrolment: None,
            outlet,
            next_attempt: 1,
            plant: Plant::nothing(),
            lives: Arc::new(Mutex::new(Lives::unkept())),
            launched: None,
            image: None,
            // The log is of all that are simulated.
            errors: LastErrors::default(),
        };
        Self { blueprint, inbox, gateway: None }
    }

    /// Plants a bug, as `HOLM_PLANT` names it, that the caller's checks must find.
    #[cfg(feature = "plant")]
    pub fn plant(&mut self, bug: &str) {
        self.blueprint.plant = Plant::named(bug);
    }

    /// Opens the store and builds everything from it: at start, and after a store failure. What
    /// was said to the life before is forgotten.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn open(&mut self, world: &mut dyn World) -> Result<(), RunError> {
        self.gateway = None;
        while let Ok(inbound) = self.inbox.try_recv() {
            drop(inbound);
        }
        let opened = self.blueprint.open_store(world)?;
        self.gateway = Some(self.blueprint.build(world, opened)?);
        Ok(())
    }

    /// Whether it runs; a process whose store failed does not.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.gateway.is_some()
    }

    /// One turn of the loop: takes what has come, for as long as the loop would.
    ///
    /// # Panics
    /// Where it is not open.
    pub fn turn(&mut self) -> Turned {
        let gateway = self.gateway.as_mut().expect("invariant: only an open gateway turns");
        let taken = gateway.first(&mut self.inbox);
        let Some(ended) = gateway.take_turn(taken, &mut self.inbox) else { return Turned::On };
        if let Some(gateway) = self.gateway.take() {
            gateway.tear_down();
        }
        match ended {
            Ended::Stopped => Turned::Stopped,
            Ended::StoreFailed { error, next_attempt, .. } => {
                self.blueprint.next_attempt = next_attempt;
                Turned::StoreFailed(error)
            }
        }
    }

    /// Whether the loop would take something at once: an answer that came, or, with
    /// `from_clients`, what clients sent, unless the open batch has no room for it.
    #[must_use]
    pub fn has_input(&self, from_clients: bool) -> bool {
        self.gateway.as_ref().is_some_and(|gateway| {
            !self.inbox.is_empty() || (from_clients && gateway.commit.has_room())
        })
    }

    /// How long nothing is due by itself; `None` where it is not open.
    pub fn due_in(&mut self) -> Option<Duration> {
        self.gateway.as_mut().map(Gateway::wait)
    }

    /// Asks for a graceful stop, as a signal does.
    pub fn stop(&self) {
        self.blueprint.outlet.tell(Inbound::Stop);
    }

    /// What the loop takes the time to be; `None` where it is not open.
    #[must_use]
    pub fn now(&self) -> Option<Now> {
        self.gateway.as_ref().map(|gateway| gateway.now)
    }

    /// The process run; `None` where it is not open.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.gateway.as_ref().map(|gateway| gateway.epoch.0)
    }

    /// The core, counted; `None` where it is not open.
    #[must_use]
    pub fn core(&self) -> Option<Status> {
        self.gateway.as_ref().map(|gateway| gateway.core.status(gateway.now))
    }

    /// The broker, counted, and its bounds; `None` where it is not open.
    #[must_use]
    pub fn broker(&self) -> Option<(broker::Status, &broker::Limits)> {
        self.gateway.as_ref().map(|gateway| (gateway.broker.status(), gateway.broker.limits()))
    }

    /// What `edge-agent status` prints; `None` where it is not open.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        self.gateway.as_ref().map(Gateway::status)
    }

    /// Reads the store; `None` where it is not open.
    #[must_use]
    pub fn reader(&self) -> Option<&Reader> {
        self.gateway.as_ref().map(|gateway| &gateway.reader)
    }
}
