//! What all parts of a running simulation know.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::credentials::Credentials;
use super::ledger::Ledger;
use super::link::LinkState;
use super::plan::DevicePlan;
use super::profile::Profile;

/// Values that wait to be set in one device.
const SETS_MAX: usize = 16;

/// Where the simulation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Devices measure, and things happen to them.
    Storm,
    /// Nothing happens any more; devices send what they kept.
    Settling,
    /// Everything ends.
    Stopped,
}

/// What happens to a device now, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has not joined yet.
    Waiting,
    /// It tries to connect.
    Offline,
    /// It is connected.
    Online,
    /// It is without power.
    Off,
    /// It attacks.
    Hostile,
}

impl Standing {
    /// One word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Offline => "offline",
            Self::Online => "online",
            Self::Off => "off",
            Self::Hostile => "hostile",
        }
    }
}

/// A value to set: `None` gives the sensor back to its waveform.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) sensor: String,
    pub(super) value: Option<f64>,
    /// What was measured before and is measured now, or why not.
    pub(super) answer: oneshot::Sender<Result<(f64, f64), String>>,
}

/// A device as the table and the commands see it.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) plan: DevicePlan,
    pub(super) link: watch::Sender<LinkState>,
    pub(super) sets: mpsc::Sender<Set>,
    view: Mutex<View>,
}

/// What the table shows of a device.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) standing: Standing,
    /// The word of the fault that it has.
    pub(super) fault: Option<&'static str>,
    /// What it measured last.
    pub(super) values: BTreeMap<String, f64>,
    /// Connections that came to stand.
    pub(super) connects: u64,
    /// Power cuts so far.
    pub(super) power_cuts: u64,
}

impl Handle {
    /// Of a device that has not joined; and where values to set arrive.
    pub(super) fn new(plan: DevicePlan) -> (Self, mpsc::Receiver<Set>) {
        let (sets, receiver) = mpsc::channel(SETS_MAX);
        let view = View {
            standing: Standing::Waiting,
            fault: None,
            values: BTreeMap::new(),
            connects: 0,
            power_cuts: 0,
        };
        let link = watch::Sender::new(LinkState::Open);
        (Self { plan, link, sets, view: Mutex::new(view) }, receiver)
    }

    /// What the table shows.
    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all know.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) profile: Profile,
    pub(super) seed: u64,
    /// HOST:PORT of the gateway.
    pub(super) gateway: String,
    pub(super) credentials: Credentials,
    pub(super) handles: Vec<Handle>,
    pub(super) begun: Instant,
    pub(super) phase: watch::Sender<Phase>,
    ledger: Mutex<Ledger>,
}

impl Shared {
    pub(super) fn new(
        profile: Profile,
        seed: u64,
        gateway: String,
        credentials: Credentials,
        handles: Vec<Handle>,
        ledger: Ledger,
    ) -> Self {
        Self {
            profile,
            seed,
            gateway,
            credentials,
            handles,
            begun: Instant::now(),
            phase: watch::Sender::new(Phase::Storm),
            ledger: Mutex::new(ledger),
        }
    }

    /// The ledger; to be held briefly.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the simulation stands.
    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Milliseconds since the start.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits until a time since the start, or until the phase is at least that; whether the time came first.
    pub(super) async fn until(&self, at_ms: u64, phase: Phase) -> bool {
        let at = self.begun + Duration::from_millis(at_ms);
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => true,
            () = self.reached(phase) => false,
        }
    }

    /// Waits until the phase is at least that.
    pub(super) async fn reached(&self, phase: Phase) {
        let mut now = self.phase.subscribe();
        // It cannot be gone: it is a field.
        let _ = now.wait_for(|now| *now >= phase).await;
    }
}
