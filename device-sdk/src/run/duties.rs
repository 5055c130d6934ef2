//! What the client says and hears beside the user's messages: responses, the shadow, the time, notes.

use device_protocol::system::{Response, Status};
use device_protocol::{Down, Up};

use crate::app::{App, Reply};
use crate::commands::{Commands, Verdict};
use crate::config::Config;
use crate::device::{Device, TopicString};
use crate::flight::Load;
#[cfg(feature = "logs")]
use crate::notes::Notes;
#[cfg(feature = "update")]
use crate::update::{Exchange, Kind};
#[cfg(feature = "shadow")]
use crate::{app::Document, shadow::Shadow};

/// Notes in flight at a time, so that a storm of them leaves room for messages.
#[cfg(feature = "logs")]
const NOTES_IN_FLIGHT_MAX: u32 = 4;

/// A message to send: it lies in the buffer that was given.
pub(super) struct Outgoing {
    pub(super) load: Load,
    pub(super) topic: TopicString,
    pub(super) length: usize,
    pub(super) is_retained: bool,
}

/// See the module.
pub(super) struct Duties {
    commands: Commands,
    #[cfg(feature = "shadow")]
    shadow: Shadow,
    #[cfg(feature = "logs")]
    metrics: Metrics,
}

/// When to report the client's own figures.
#[cfg(feature = "logs")]
struct Metrics {
    period_ms: u64,
    due_ms: u64,
}

impl Duties {
    #[cfg_attr(
        not(feature = "logs"),
        expect(unused_variables, reason = "only notes are configured")
    )]
    pub(super) fn new(config: &Config<'_>) -> Self {
        Self {
            commands: Commands::new(),
            #[cfg(feature = "shadow")]
            shadow: Shadow::default(),
            #[cfg(feature = "logs")]
            metrics: Metrics {
                period_ms: u64::from(config.metrics_period_ms),
                due_ms: u64::from(config.metrics_period_ms),
            },
        }
    }

    /// Uptime from which on [`Duties::next`] has something to say, as far as that is a matter of time.
    #[cfg_attr(not(feature = "time"), expect(unused_variables, reason = "only the clock is asked"))]
    pub(super) fn due_ms(&self, device: &Device<'_>) -> u64 {
        let due_ms = u64::MAX;
        #[cfg(feature = "time")]
        let due_ms = due_ms.min(device.facts(|facts| facts.clock.due_ms()));
        #[cfg(feature = "logs")]
        let due_ms =
            if self.metrics.period_ms == 0 { due_ms } else { due_ms.min(self.metrics.due_ms) };
        due_ms
    }

    /// The next message that goes before those of the user. It counts as sent.
    #[cfg_attr(
        not(all(feature = "shadow", feature = "time")),
        expect(
            unused_variables,
            reason = "only the shadow needs the app, only the clock the uptime"
        )
    )]
    pub(super) fn next(
        &mut self,
        device: &Device<'_>,
        app: &mut dyn App,
        uptime_ms: u64,
        out: &mut [u8],
    ) -> Option<Outgoing> {
        if let Some(response) = self.commands.next() {
            let load = load_of(&response);
            return outgoing(device, load, &Up::Response(response), out);
        }
        #[cfg(feature = "shadow")]
        if let Some(report) = self.report(device, app, out) {
            return Some(report);
        }
        #[cfg(feature = "time")]
        if let Some(request) = device.facts(|facts| facts.clock.request(uptime_ms)) {
            return outgoing(device, Load::Time, &Up::TimeRequest(request), out);
        }
        #[cfg(feature = "update")]
        if let Some(up) = device.exchange(Exchange::next) {
            return outgoing(device, Load::Update, &up, out);
        }
        None
    }

    /// The next note, of which `in_flight` are on their way already. It goes behind the messages of the user.
    #[cfg(feature = "logs")]
    pub(super) fn next_note(
        &mut self,
        device: &Device<'_>,
        in_flight: u32,
        uptime_ms: u64,
        out: &mut [u8],
    ) -> Option<Outgoing> {
        if self.metrics.period_ms > 0 && uptime_ms >= self.metrics.due_ms {
            self.metrics.due_ms = uptime_ms + self.metrics.period_ms;
            write_figures(device);
        }
        if in_flight >= NOTES_IN_FLIGHT_MAX {
            return None;
        }
        let (kind, length) = device.notes(|notes| {
            let (kind, message) = notes.peek(in_flight)?;
            out.get_mut(..message.len())?.copy_from_slice(message);
            Some((kind, message.len()))
        })?;
        let mut topic = TopicString::new();
        for part in ["$holm/v1/up/", device.name(), "/", kind.word()] {
            topic.push_str(part).ok()?;
        }
        Some(Outgoing { load: Load::Note, topic, length, is_retained: false })
    }

    /// A message of the gateway; whether it made sense.
    pub(super) fn receive(
        &mut self,
        device: &Device<'_>,
        app: &mut dyn App,
        down: &Down<'_>,
        is_retained: bool,
    ) -> bool {
        match down {
            // A command that is kept would be done again at each start.
            Down::Command(_) if is_retained => false,
            Down::Command(command) => {
                if self.commands.receive(command.id) == Verdict::Do {
                    let mut reply = Reply::new();
                    match app.command(command, &mut reply) {
                        Status::Busy => self.commands.busy(command.id),
                        status => self.commands.done(command.id, reply.into_answer(status)),
                    }
                }
                true
            }
            #[cfg(feature = "shadow")]
            Down::Desired(desired) => {
                if self.shadow.wants(desired.version) {
                    if app.desired(desired) {
                        self.shadow.applied(desired.version);
                    } else {
                        // The report says which version it has still.
                        self.shadow.changed();
                    }
                }
                true
            }
            #[cfg(feature = "time")]
            Down::Time(reply) => {
                let uptime_ms = device.uptime_ms();
                device.change(|facts| facts.clock.reply(reply, uptime_ms))
            }
            #[cfg(feature = "update")]
            Down::Offer(offer) | Down::Function(offer) => {
                let is_firmware = matches!(down, Down::Offer(_));
                let kind = if is_firmware { Kind::Firmware } else { Kind::Function };
                let is_kept = device.exchange(|exchange| exchange.offered(kind, offer));
                device.change(|_| ());
                is_kept
            }
            #[cfg(feature = "update")]
            Down::Chunk(chunk) => {
                let is_wanted = device.exchange(|exchange| exchange.arrived(chunk));
                device.change(|_| ());
                is_wanted
            }
            #[cfg(not(all(feature = "shadow", feature = "time", feature = "update")))]
            _ => {
                let _ = device;
                false
            }
        }
    }

    /// A message has reached the gateway, or was refused by it for good.
    pub(super) fn settled(&mut self, device: &Device<'_>, load: Load) {
        match load {
            Load::Response(id) => self.commands.acked(id),
            // It did not need the queue any more. It was counted when that dropped it.
            Load::Dropped => device.facts(|facts| facts.figures.overflowed -= 1),
            #[cfg(feature = "logs")]
            Load::Note => device.notes(Notes::pop),
            #[cfg(feature = "update")]
            Load::Update => device.exchange(Exchange::settled),
            _ => {}
        }
    }

    /// A message could not be sent now: it is due again.
    pub(super) fn unsent(&mut self, device: &Device<'_>, load: Load) {
        let _ = device;
        match load {
            #[cfg(feature = "update")]
            Load::Update => device.exchange(Exchange::unsent),
            Load::Response(id) => self.commands.unsent(id),
            #[cfg(feature = "shadow")]
            Load::Report => self.shadow.changed(),
            // The others repeat themselves, or are still where they were.
            _ => {}
        }
    }

    /// What was in flight is lost.
    pub(super) fn lost(&mut self, device: &Device<'_>) {
        let _ = device;
        self.commands.lost();
        #[cfg(feature = "update")]
        device.exchange(Exchange::lost);
        #[cfg(feature = "shadow")]
        self.shadow.changed();
    }

    #[cfg(feature = "shadow")]
    fn report(
        &mut self,
        device: &Device<'_>,
        app: &mut dyn App,
        out: &mut [u8],
    ) -> Option<Outgoing> {
        if device.facts(|facts| core::mem::take(&mut facts.must_report)) {
            self.shadow.changed();
        }
        let version = self.shadow.report()?;
        let (out_message, out_document) = out.split_at_mut(out.len() / 2);
        // The message has a few bytes more than the document in it.
        let longest = out_document.len().saturating_sub(32);
        let mut document = Document::new(&mut out_document[..longest]);
        app.reported(&mut document);
        let (schema, body) = document.finish();
        let reported = device_protocol::system::Shadow { version, schema, body };
        outgoing(device, Load::Report, &Up::Reported(reported), out_message)
    }
}

const fn load_of(response: &Response<'_>) -> Load {
    match response.status {
        Status::Busy => Load::Other,
        _ => Load::Response(response.id),
    }
}

fn outgoing(device: &Device<'_>, load: Load, up: &Up<'_>, out: &mut [u8]) -> Option<Outgoing> {
    let topic = up.topic(device.name()).ok()?;
    let length = up.encode(out).ok()?;
    Some(Outgoing { load, topic, length, is_retained: up.is_retained() })
}

/// The client's figures, as metrics.
#[cfg(feature = "logs")]
fn write_figures(device: &Device<'_>) {
    let figures = device.figures();
    let named = [
        ("queue_records", figures.queued),
        ("queue_overflowed", figures.overflowed),
        ("queue_failures", figures.queue_failures),
        ("queue_foreign", u32::from(figures.is_queue_foreign)),
        ("published", figures.published),
        ("refused", figures.refused),
        ("connects", figures.connects),
        ("ignored", figures.ignored),
    ];
    for (name, value) in named {
        device.metric(name, i64::from(value));
    }
}
