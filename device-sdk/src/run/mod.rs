//! The task that runs a device: it moves messages from the inbox into the queue, and from the queue to the gateway.
//!
//! Both go on side by side, as a device without a connection still has to keep what it measures.
//!
//! # Invariants
//! - Only this task touches the queue, and it lets every call of it run to its end. Nothing here drops a future of the
//!   queue: what is dropped by a timeout or a `select` touches the network alone.
//! - A record is popped only after its PUBACK, from the front.

mod duties;
mod online;
#[cfg(feature = "serial")]
mod serial;
mod store;
mod wire;

use core::cell::Cell;

use embassy_futures::join::join;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_time::{Duration, Instant, Timer, with_timeout};
use minimq::{Buffers, ConfigBuilder, ConfigError, ConnectEvent, QoS, Session};

use crate::app::App;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::device::Device;
use crate::dial::Dial;
use crate::flight::Flight;
use crate::queue::Queue;
use crate::state::{State, Trouble};
use duties::Duties;
use online::Online;
use store::Shelf;
use wire::Wire;

/// A connection that stood this long was a good one, even if nothing was said on it.
const GOOD_MS: u64 = 10_000;

/// What the task that runs a device needs beside it: configuration and buffers.
pub struct Link<'a> {
    pub(crate) config: Config<'a>,
    pub(crate) staging: &'a mut [u8],
    pub(crate) scratch: &'a mut [u8],
    pub(crate) rx: &'a mut [u8],
    pub(crate) tx: &'a mut [u8],
}

impl core::fmt::Debug for Link<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Link").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why a device cannot be run at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ConfigFault {
    /// The topic of the will is longer than 128 bytes.
    Will,
    /// Something else that the MQTT client does not take.
    Mqtt,
}

impl core::fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Will => "the topic of the will is longer than 128 bytes",
            Self::Mqtt => "the MQTT client does not take this configuration",
        })
    }
}

impl core::error::Error for ConfigFault {}

impl Device<'_> {
    /// Runs the device: connects, sends, receives, and connects again, for ever. To be called once, by one task.
    ///
    /// Dropping it ends the connection without a DISCONNECT, and is a power cut to a queue in flash: nothing that
    /// [`Device::publish`] returned for is lost.
    ///
    /// # Errors
    /// [`ConfigFault`], at once. Nothing else ends it.
    pub async fn run<Q: Queue, D: Dial>(
        &self,
        link: Link<'_>,
        queue: &mut Q,
        dial: &mut D,
        app: &mut dyn App,
    ) -> Result<core::convert::Infallible, ConfigFault> {
        let Link { config, staging, scratch, rx, tx } = link;
        let session = session(&config, rx, tx)?;
        let shelf = Mutex::<NoopRawMutex, _>::new(Shelf::new(queue));
        let mut network = Network {
            device: self,
            config: &config,
            shelf: &shelf,
            scratch,
            app,
            flight: Flight::new(),
            duties: Duties::new(&config),
            subscription: Subscription::None,
        };
        match join(store::run(self, &shelf, staging), network.run(session, dial)).await.0 {}
    }
}

fn session<'b>(
    config: &Config<'b>,
    rx: &'b mut [u8],
    tx: &'b mut [u8],
) -> Result<Session<'b>, ConfigFault> {
    let mqtt = |_: ConfigError| ConfigFault::Mqtt;
    let mut builder = ConfigBuilder::new(Buffers::new(rx, tx))
        .client_id(&config.name)
        .map_err(mqtt)?
        .keepalive_interval(config.keep_alive_s)
        .session_expiry_interval(config.session_expiry_s);
    if let Some(login) = config.login {
        builder = builder.auth(login.user, login.password).map_err(mqtt)?;
    }
    if let Some(will) = config.will {
        let is_retained = will.is_retained;
        let will =
            minimq::Will::new(will.topic, will.payload, &[]).map_err(|_| ConfigFault::Will)?;
        let will = will.qos(QoS::AtLeastOnce);
        builder = builder.will(if is_retained { will.retained() } else { will }).map_err(mqtt)?;
    }
    Ok(Session::new(builder))
}

/// What outlives a connection.
struct Network<'r, 'a, 's, 'q, Q> {
    device: &'r Device<'a>,
    config: &'r Config<'r>,
    shelf: &'r Mutex<NoopRawMutex, Shelf<'q, Q>>,
    scratch: &'s mut [u8],
    app: &'r mut dyn App,
    flight: Flight<minimq::Op>,
    duties: Duties,
    subscription: Subscription,
}

/// Where the subscription of this session stands. It outlives a connection: the client underneath sends what was asked
/// again, and has no room for asking twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subscription {
    /// It was not asked for.
    None,
    /// It was asked for.
    Asked(minimq::Op),
    /// The gateway has confirmed it.
    Stands,
}

impl<Q: Queue> Network<'_, '_, '_, '_, Q> {
    async fn run<D: Dial>(
        &mut self,
        mut session: Session<'_>,
        dial: &mut D,
    ) -> core::convert::Infallible {
        let mut backoff = Backoff::new(self.config.backoff, self.device.boot());
        wire::claim_session::<D::Transport<'_>>(&mut session).await;
        loop {
            let (trouble, was_good) = self.connection(&mut session, dial).await;
            if was_good {
                backoff.reset();
            }
            let retry_ms = backoff.next_ms();
            self.tell(State::Offline { trouble, retry_ms });
            Timer::after_millis(u64::from(retry_ms)).await;
        }
    }

    /// One connection from dialling to its end: why it ended, and whether it had been a good one.
    async fn connection<D: Dial>(
        &mut self,
        session: &mut Session<'_>,
        dial: &mut D,
    ) -> (Trouble, bool) {
        self.tell(State::Connecting);
        let timeout = Duration::from_millis(u64::from(self.config.answer_timeout_ms));
        let transport = match with_timeout(timeout, dial.dial()).await {
            Ok(Ok(transport)) => transport,
            Ok(Err(_)) => return (Trouble::Dial, false),
            Err(_) => return (Trouble::Timeout, false),
        };
        let is_writing = Cell::new(false);
        let wire = Wire::Real { transport, is_writing: &is_writing };
        let connection = match with_timeout(timeout, session.connect(wire)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return (online::trouble(&error), false),
            Err(_) => return (Trouble::Timeout, false),
        };
        let resumed = connection.connect_event() == ConnectEvent::Reconnected;
        // A session of another start of the device is new to this one.
        let is_first = self.device.figures().connects == 0;
        // A connection may have failed after the client had begun a new session.
        let is_gone = |operation: &minimq::Op| connection.is_invalidated(operation);
        if !resumed || is_first || self.flight.any(is_gone) {
            self.start_anew();
        }
        let is_asked_in_vain =
            matches!(&self.subscription, Subscription::Asked(operation) if is_gone(operation));
        if !resumed || is_asked_in_vain {
            self.subscription = Subscription::None;
        }
        self.device.facts(|facts| facts.figures.connects += 1);
        self.tell(State::Online { resumed });
        let since = Instant::now();
        let mut online = Online::new(self, connection, &is_writing, timeout);
        let trouble = online.run().await;
        let was_good = online.is_proven() || since.elapsed().as_millis() >= GOOD_MS;
        (trouble, was_good)
    }

    /// What was in flight is sent again.
    fn start_anew(&mut self) {
        self.flight.clear();
        self.duties.lost(self.device);
    }

    fn tell(&mut self, state: State) {
        self.device.change(|facts| facts.state = state);
        self.app.state(state);
    }
}
