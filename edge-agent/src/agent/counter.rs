//! Where devices meet the gateway itself: the shell around [`crate::desk`].

use std::sync::Arc;

use edge_broker::broker::BrokerEvent;
use edge_core::claim;
use edge_core::effect::{RefusedReason, Verdict};
use edge_core::input::Input;
use edge_core::message::Message;
use serde_json::{Value, json};
use sync_protocol::wire::{LogLevel, LogLine};

use super::gateway::Gateway;
use super::pages::Page;
use crate::desk::{Line, Say};

/// Devices of one page.
const ROWS_MAX: usize = 32;

impl Gateway {
    /// Whether a message may go on. One to the gateway that cannot be read may not; that was told.
    pub(super) fn is_readable(&mut self, message: &Message) -> bool {
        match self.desk.check(message, self.now) {
            Ok(()) => true,
            Err(say) => {
                self.desk_says(say);
                false
            }
        }
    }

    /// What clients come and go.
    pub(super) fn watch_clients(&mut self, event: &BrokerEvent) {
        match event {
            BrokerEvent::Connected { identity, .. } => self.desk.connected(identity, self.now),
            BrokerEvent::Disconnected { identity, .. } => self.desk.disconnected(identity),
            _ => {}
        }
    }

    /// A message is on its way to who wants it; the gateway may be one of them.
    pub(super) fn desk_hears(&mut self, message: &Message) {
        let say = self.desk.hear(message, self.now);
        self.desk_says(say);
    }

    pub(super) fn desk_says(&mut self, say: Option<Say>) {
        match say {
            None => {}
            Some(Say::Reply(message)) => self.route(&message),
            Some(Say::Line(line)) => self.tell_line(&line),
            Some(Say::Want { device, want }) => self.firmware_wanted(&device, want),
            Some(Say::Firmware { device, told }) => self.firmware_told(&device, told),
            Some(Say::Complaint { device, topic, why, untold }) => {
                let topic = topic.as_str();
                tracing::warn!(target: "device", %device, topic, why, untold, "message refused");
            }
        }
    }

    fn tell_line(&mut self, line: &Line) {
        use device_protocol::system::Level;
        let Line { device, level, dropped, text, .. } = line;
        let (device, level) = (device.as_str(), *level);
        match level {
            Level::Trace => tracing::trace!(target: "device", device, dropped, text),
            Level::Debug => tracing::debug!(target: "device", device, dropped, text),
            Level::Info => tracing::info!(target: "device", device, dropped, text),
            Level::Warn => tracing::warn!(target: "device", device, dropped, text),
            Level::Error => tracing::error!(target: "device", device, dropped, text),
        }
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        let (unix_ms, source) = (line.came.unix_ms, format!("device {device}"));
        let line = LogLine { unix_ms, level, source, event: None, text: text.clone() };
        self.telemetry.feed.push(line, self.now.at);
    }

    /// A page of the devices behind `after`.
    pub(super) fn devices(&self, after: Option<&str>) -> Value {
        let mut page = Page::default();
        let mut last = None;
        for (device, row) in self.desk.rows(after, self.now.at).take(ROWS_MAX) {
            if !page.push(row) {
                break;
            }
            last = Some(device);
        }
        let more = last.and_then(|last| self.desk.rows(Some(last.as_str()), self.now.at).next());
        page.answer(more.and(last).map(|last| json!(last.as_str())))
    }

    /// A will is due: what clients get once and the core judges, as of a publish.
    pub(super) fn will_fired(&mut self, message: &Arc<Message>) {
        if !self.is_readable(message) {
            return;
        }
        self.with_core(Input::WillFired { message: message.clone() });
        match claim::check(message) {
            Ok(()) => {
                self.route(message);
                self.desk_hears(message);
            }
            Err(claim) => {
                let verdict = Verdict::Refused { reason: RefusedReason::Claim(claim) };
                let say = self.desk.judged(message, &verdict, self.now);
                self.desk_says(say);
            }
        }
    }
}
