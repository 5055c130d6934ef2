//! One connection that stands: what is sent, what is heard, what is acknowledged.

use core::cell::Cell;
use core::pin::pin;

use device_protocol::{CONTENT_TYPE, Down, system};
use embassy_futures::select::{Either, select};
use embassy_time::{Duration, Instant, Timer, with_timeout};
use embedded_io_async::{Read, Write};
use minimq::{
    Connection, Error, InboundPublish, Op, PeerError, Property, PubError, Publication, QoS,
    ReasonCode, ResourceError, SubscriptionOptions, TopicFilter,
};

use heapless::Deque;

use super::duties::Outgoing;
use super::{Network, Subscription};
use crate::app::Settled;
use crate::flight::{Load, UNKNOWN};
use crate::limits::IN_FLIGHT_MAX;
use crate::queue::{Queue, QueueError};
use crate::record;
use crate::state::Trouble;

/// Wait before the queue is asked again after its memory failed.
const QUEUE_RETRY: Duration = Duration::from_secs(1);

pub(super) struct Online<'o, 'c, 'b, 'r, 'a, 's, 'q, Q, T> {
    network: &'o mut Network<'r, 'a, 's, 'q, Q>,
    connection: Connection<'c, 'b, T>,
    /// Whether the transport is writing.
    is_writing: &'o Cell<bool>,
    timeout: Duration,
    /// Until when the subscription must be confirmed.
    confirm_until: Instant,
    /// The gateway has said something that it says only to a device it accepts.
    is_proven: bool,
    /// Reason codes of messages that the gateway has refused for good and that are not settled yet: acknowledgements
    /// come in order.
    refused: Deque<u8, IN_FLIGHT_MAX>,
}

/// What came of the attempt to send a message.
#[derive(PartialEq, Eq)]
enum Sent {
    One,
    /// There is nothing to send.
    Nothing,
    /// There is no room for it until something is acknowledged.
    Blocked,
}

/// Longest wait without a look at everything, in milliseconds.
const WAIT_MAX_MS: u64 = 3_600_000;

/// What was found to send.
enum Found {
    Nothing,
    Record(usize),
    System(Outgoing),
}

impl<'o, 'c, 'b, 'r, 'a, 's, 'q, Q: Queue, T: Read + Write>
    Online<'o, 'c, 'b, 'r, 'a, 's, 'q, Q, T>
{
    pub(super) fn new(
        network: &'o mut Network<'r, 'a, 's, 'q, Q>,
        connection: Connection<'c, 'b, T>,
        is_writing: &'o Cell<bool>,
        timeout: Duration,
    ) -> Self {
        let confirm_until = Instant::now() + timeout;
        Self {
            network,
            connection,
            is_writing,
            timeout,
            confirm_until,
            is_proven: false,
            refused: Deque::new(),
        }
    }

    pub(super) const fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Runs until the connection ends; returns why.
    pub(super) async fn run(&mut self) -> Trouble {
        match self.run_inner().await {
            Ok(never) => match never {},
            Err(trouble) => {
                // What was acknowledged before the end is not sent again.
                self.settle().await;
                trouble
            }
        }
    }

    async fn run_inner(&mut self) -> Result<core::convert::Infallible, Trouble> {
        loop {
            let seen = self.network.device.changes();
            self.settle().await;
            if self.network.subscription == Subscription::None && !self.subscribe().await? {
                self.wait(seen, u64::MAX).await?;
                continue;
            }
            self.check_subscription()?;
            match self.send_next().await? {
                Sent::One => {}
                Sent::Nothing => {
                    let due_ms = self.network.duties.due_ms(self.network.device);
                    self.wait(seen, due_ms).await?;
                }
                Sent::Blocked => self.wait(seen, u64::MAX).await?,
            }
        }
    }

    /// Asks for what the gateway says to this device; `false` if there is no room for that until something else is
    /// acknowledged.
    async fn subscribe(&mut self) -> Result<bool, Trouble> {
        let filter =
            system::down_filter(self.network.device.name()).map_err(|_| Trouble::Memory)?;
        let options = SubscriptionOptions::default().maximum_qos(QoS::AtLeastOnce);
        let filters = [TopicFilter::new(&filter).options(options)];
        let has_room = self.connection.session().is_publish_quiescent();
        let asked = in_time(self.timeout, self.connection.subscribe(&filters, &[])).await?;
        match asked {
            Ok(operation) => {
                self.network.subscription = Subscription::Asked(operation);
                self.confirm_until = Instant::now() + self.timeout;
                Ok(true)
            }
            Err(Error::Resource(_) | Error::NotReady) if !has_room => Ok(false),
            Err(error) => Err(trouble(&error)),
        }
    }

    fn check_subscription(&mut self) -> Result<(), Trouble> {
        let Subscription::Asked(operation) = &self.network.subscription else { return Ok(()) };
        if self.connection.is_complete(operation) {
            self.network.subscription = Subscription::Stands;
            self.is_proven = true;
        } else if Instant::now() >= self.confirm_until {
            return Err(Trouble::Timeout);
        }
        Ok(())
    }

    /// Takes what is acknowledged out of the flight, and records out of the queue.
    async fn settle(&mut self) {
        if self.network.flight.is_empty() {
            return;
        }
        let mut shelf = self.network.shelf.lock().await;
        self.network.flight.dropped(core::mem::take(&mut shelf.dropped));
        let (mut acked, mut is_settled) = (0, false);
        while let Some(load) = self.network.flight.settle(|op| self.connection.is_complete(op)) {
            self.is_proven = true;
            let settled = self.refused.pop_front().map_or(Settled::Acked, Settled::Refused);
            if settled == Settled::Acked && matches!(load, Load::Record | Load::Dropped) {
                acked += 1;
            }
            is_settled = true;
            if load != Load::Record {
                self.network.duties.settled(self.network.device, load);
                continue;
            }
            self.network.app.settled(settled);
            if shelf.queue.pop().await.is_err() {
                // Whether it is out of the queue is not known. What is in flight pops nothing any more; it is sent again
                // from the front, under its numbers.
                self.network.flight.dropped(UNKNOWN);
                self.network.device.facts(|facts| facts.figures.queue_failures += 1);
            }
        }
        let queued = shelf.queue.len();
        drop(shelf);
        if is_settled {
            self.network.device.change(|facts| {
                facts.figures.acked += acked;
                facts.figures.queued = queued;
            });
        }
    }

    /// Sends one message, if there is one and room for it.
    async fn send_next(&mut self) -> Result<Sent, Trouble> {
        if !self.network.flight.has_room() || !self.connection.can_publish(QoS::AtLeastOnce) {
            return Ok(Sent::Blocked);
        }
        match self.find().await {
            Found::Nothing => Ok(Sent::Nothing),
            Found::System(message) => self.send_system(&message).await,
            Found::Record(length) => self.send_record(length).await,
        }
    }

    /// Puts the next message into the buffer.
    async fn find(&mut self) -> Found {
        let network = &mut *self.network;
        let uptime_ms = network.device.uptime_ms();
        let (device, out) = (network.device, &mut *network.scratch);
        if let Some(message) = network.duties.next(device, network.app, uptime_ms, out) {
            return Found::System(message);
        }
        let mut shelf = network.shelf.lock().await;
        network.flight.dropped(core::mem::take(&mut shelf.dropped));
        let found = shelf.peek(network.flight.records(), out).await;
        drop(shelf);
        match found {
            Ok(Some(length)) => return Found::Record(length),
            Ok(None) => {}
            Err(error) => self.queue_failed(error).await,
        }
        #[cfg(feature = "logs")]
        {
            let network = &mut *self.network;
            let in_flight = network.flight.notes();
            let note =
                network.duties.next_note(network.device, in_flight, uptime_ms, network.scratch);
            if let Some(note) = note {
                return Found::System(note);
            }
        }
        Found::Nothing
    }

    /// The queue did not give a record. One that does not fit the buffer is of no use to anybody; it goes when its turn
    /// comes. All else may pass.
    async fn queue_failed(&mut self, error: QueueError) {
        self.network.device.facts(|facts| facts.figures.queue_failures += 1);
        if error == QueueError::TooLong && self.network.flight.records() == 0 {
            let mut shelf = self.network.shelf.lock().await;
            let _ = shelf.queue.pop().await;
            let queued = shelf.queue.len();
            self.network.device.facts(|facts| facts.figures.queued = queued);
        } else {
            Timer::after(QUEUE_RETRY).await;
        }
    }

    async fn send_record(&mut self, length: usize) -> Result<Sent, Trouble> {
        let Some((topic, envelope)) = record::read(&self.network.scratch[..length]) else {
            return self.discard(Load::Record).await;
        };
        let properties = [Property::ContentType(CONTENT_TYPE)];
        let publication =
            Publication::bytes(topic, envelope).qos(QoS::AtLeastOnce).properties(&properties);
        let sent = in_time(self.timeout, self.connection.publish(publication)).await?;
        self.sent(sent, Load::Record).await
    }

    async fn send_system(&mut self, message: &Outgoing) -> Result<Sent, Trouble> {
        let payload = &self.network.scratch[..message.length];
        let publication = Publication::bytes(&message.topic, payload).qos(QoS::AtLeastOnce);
        let publication = if message.is_retained { publication.retain() } else { publication };
        let sent = in_time(self.timeout, self.connection.publish(publication)).await;
        let sent = match sent {
            Ok(sent) => self.sent(sent, message.load).await,
            Err(trouble) => Err(trouble),
        };
        if !matches!(sent, Ok(Sent::One)) {
            self.network.duties.unsent(self.network.device, message.load);
        }
        sent
    }

    async fn sent(
        &mut self,
        sent: Result<Option<Op>, PubError<(), T::Error>>,
        load: Load,
    ) -> Result<Sent, Trouble> {
        match sent {
            Ok(Some(operation)) => {
                self.network.flight.sent(operation, load);
                Ok(Sent::One)
            }
            // With all memory for packets free, this message is too long for it, or for the gateway. The client underneath
            // may keep packets that are not in our flight: of a publish that was given up.
            Err(PubError::Payload(()) | PubError::Session(Error::Resource(_)))
                if self.connection.session().is_publish_quiescent() =>
            {
                self.discard(load).await
            }
            Err(
                PubError::Payload(()) | PubError::Session(Error::Resource(_) | Error::NotReady),
            ) => Ok(Sent::Blocked),
            Err(PubError::Session(error)) => Err(trouble(&error)),
            Ok(None) => Err(Trouble::Protocol),
        }
    }

    /// A message that no connection can carry ends here, counted.
    async fn discard(&mut self, load: Load) -> Result<Sent, Trouble> {
        if load == Load::Record {
            // Nothing is in flight, or what is stands behind it: it is the first of the queue only if no record is.
            if self.network.flight.records() > 0 {
                return Ok(Sent::Blocked);
            }
            let mut shelf = self.network.shelf.lock().await;
            if shelf.dropped > 0 {
                // It may be the one that the full queue has dropped meanwhile.
                return Ok(Sent::One);
            }
            self.network.app.settled(Settled::Refused(u8::from(&ReasonCode::PacketTooLarge)));
            let _ = shelf.queue.pop().await;
            let queued = shelf.queue.len();
            drop(shelf);
            self.network.device.change(|facts| facts.figures.queued = queued);
        } else {
            self.network.duties.settled(self.network.device, load);
        }
        self.network.device.facts(|facts| facts.figures.refused += 1);
        Ok(Sent::One)
    }

    /// Waits until something may be done.
    async fn wait(&mut self, seen: u32, due_ms: u64) -> Result<(), Trouble> {
        let device = self.network.device;
        let latest_ms = Instant::now().as_millis() + WAIT_MAX_MS;
        let due = Instant::from_millis(due_ms.min(latest_ms));
        let is_asked = matches!(self.network.subscription, Subscription::Asked(_));
        let due = if is_asked { self.confirm_until.min(due) } else { due };
        let changed = device.bell.until_running(|| (device.changes() != seen).then_some(()));
        let interrupt = select(changed, Timer::at(due));
        let poll = poll(&mut self.connection, interrupt, self.is_writing, self.timeout);
        match poll.await? {
            Some(Ok(Some(message))) => {
                self.is_proven = true;
                receive(self.network, &message);
                Ok(())
            }
            Some(Ok(None)) | None => Ok(()),
            Some(Err(error)) => self.failed(&error),
        }
    }

    /// A poll failed. A message that no gateway can ever take ends here, counted. All else ends the connection, and the
    /// messages stay: also those that the device may not publish, until somebody allows it.
    fn failed(&mut self, error: &Error<T::Error>) -> Result<(), Trouble> {
        let Error::Peer(PeerError::Rejected(code)) = error else { return Err(trouble(error)) };
        let is_subscribing = matches!(
            &self.network.subscription,
            Subscription::Asked(operation) if self.connection.is_complete(operation)
        );
        let is_for_good = matches!(
            code,
            ReasonCode::TopicNameInvalid
                | ReasonCode::PayloadFormatInvalid
                | ReasonCode::PacketTooLarge
        );
        if self.connection.is_connected() && is_for_good && !is_subscribing {
            // The client underneath also sends again what was given up in the middle of a write, which is in flight under
            // another number: a refusal of that is of no entry.
            if !self.network.flight.is_settled(|op| self.connection.is_complete(op)) {
                return Ok(());
            }
            // As many as are in flight at most; a gateway that says more is not believed.
            self.refused.push_back(u8::from(code)).map_err(|_| Trouble::Protocol)?;
            self.network.device.facts(|facts| facts.figures.refused += 1);
            return Ok(());
        }
        // The client underneath has forgotten the refused message, so all in flight is sent again.
        self.network.start_anew();
        if is_subscribing {
            self.network.subscription = Subscription::None;
        }
        Err(trouble(error))
    }
}

/// What came of a poll; nothing where it was interrupted.
type Polled<'c, E> = Option<Result<Option<InboundPublish<'c>>, Error<E>>>;

/// Polls until something comes of it, or `interrupt` does. What is being written then is written to its end first.
async fn poll<'c, T: Read + Write>(
    connection: &'c mut Connection<'_, '_, T>,
    interrupt: impl Future,
    is_writing: &Cell<bool>,
    timeout: Duration,
) -> Result<Polled<'c, T::Error>, Trouble> {
    let mut poll = pin!(connection.poll());
    match select(poll.as_mut(), interrupt).await {
        Either::First(polled) => Ok(Some(polled)),
        Either::Second(_) if is_writing.get() => in_time(timeout, poll).await.map(Some),
        Either::Second(_) => Ok(None),
    }
}

/// A message of the gateway. The kind must be that of the topic, as access is granted by topic.
fn receive<Q>(network: &mut Network<'_, '_, '_, '_, Q>, message: &InboundPublish<'_>) {
    // By bytes: a search for a letter takes a hundred bytes more of flash.
    let kind = message.topic().as_bytes().rsplit(|byte| *byte == b'/').next();
    let made_sense = match Down::decode(message.payload()) {
        Ok(down) if kind == Some(down.kind().as_bytes()) => {
            network.duties.receive(network.device, network.app, &down, message.retained())
        }
        _ => false,
    };
    if !made_sense {
        network.device.facts(|facts| facts.figures.ignored += 1);
    }
}

async fn in_time<F: Future>(timeout: Duration, future: F) -> Result<F::Output, Trouble> {
    with_timeout(timeout, future).await.map_err(|_| Trouble::Timeout)
}

/// What an error of the MQTT client means.
pub(super) fn trouble<E>(error: &Error<E>) -> Trouble {
    match error {
        Error::Peer(PeerError::Rejected(code)) => Trouble::Refused(u8::from(code)),
        Error::Peer(PeerError::InvalidPacket) => Trouble::Protocol,
        Error::Resource(ResourceError::PacketTooLarge) | Error::InvalidRequest => Trouble::Protocol,
        Error::Resource(_) => Trouble::Memory,
        _ => Trouble::Lost,
    }
}

#[cfg(test)]
mod tests;
