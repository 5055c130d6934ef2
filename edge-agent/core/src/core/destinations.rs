//! Tells how events ended, where their trigger wants that told.
//!
//! # Rules
//! - What is told stands in the batch of the end itself.
//! - A destination gets an event of its own, with one hop more: a circle of destinations ends
//!   like any other loop. That end is told to the control plane only: its own event would be one
//!   hop too many as well.
//! - An event that a destination made and that finds no place is a dead letter and told nowhere;
//!   neither is one that lost its place to such an event. So one end never tells more than its own
//!   destinations in one turn, whatever is full.
//! - A destination is in addition to the dead letter, never instead of it. An event that a newer
//!   one replaced has neither.

use std::sync::Arc;

use crate::destination::{CONTENT_TYPE, Condition, Destinations, End, Made};
use crate::effect::{Effect, Pace};
use crate::id::FunctionId;
use crate::message::{Message, Origin, Properties, QoS};
use crate::op::{DeadReason, Event, Job, RecordBody};
use crate::outcome::Outputs;
use crate::release::TriggerSpec;
use crate::turn::Turn;

use super::Core;
use super::admit::Cause;

impl Made {
    /// Counts what an attempt put out, for the record of its success.
    pub(super) fn add(&mut self, outputs: &Outputs) {
        self.publishes += outputs.publishes.len();
        self.records += outputs.records.len();
        self.state += outputs.state.len();
    }
}

impl Core {
    /// A job is done.
    pub(super) fn tell_success(
        &mut self,
        trigger: &TriggerSpec,
        job: &Job,
        made: Made,
        pace: Pace,
        turn: &mut Turn<'_>,
    ) {
        let Some(destinations) = &trigger.on_success else { return };
        let end = End {
            function: &job.function,
            revision: self.revision(&job.function),
            event: &job.event,
            condition: Condition::Success,
            attempts: job.progress.attempts.saturating_add(1),
            error: None,
            made: Some(made),
            time: turn.now.wall,
        };
        self.tell_end(&end, destinations, pace, turn);
    }

    /// An event was given up.
    pub(super) fn tell_failure(
        &mut self,
        event: &Event,
        reason: DeadReason,
        error: &str,
        attempts: u8,
        turn: &mut Turn<'_>,
    ) {
        let Some(trigger) = self.trigger(&event.trigger) else { return };
        let Some(destinations) = &trigger.on_failure else { return };
        let end = End {
            function: &trigger.function,
            revision: self.revision(&trigger.function),
            event,
            condition: Condition::Failed(reason),
            attempts,
            error: Some(error),
            made: None,
            time: turn.now.wall,
        };
        self.tell_end(&end, destinations, Pace::Prompt, turn);
    }

    fn revision(&self, function: &FunctionId) -> Option<crate::id::Digest> {
        self.apps.release(function.app()).map(|release| release.revision)
    }

    fn tell_end(
        &mut self,
        end: &End<'_>,
        destinations: &Destinations,
        pace: Pace,
        turn: &mut Turn<'_>,
    ) {
        let record = end.record();
        let Event { id, device, hops, .. } = end.event;
        let hops = hops.saturating_add(1);
        let properties = Properties {
            payload_is_utf8: true,
            content_type: Some(CONTENT_TYPE.to_owned()),
            ..Properties::default()
        };
        if let Some(series) = &destinations.series {
            let body = RecordBody::Telemetry {
                function: end.function.clone(),
                event: *id,
                device: device.clone(),
                name: series.clone(),
                payload: record.clone(),
                content_type: CONTENT_TYPE.to_owned(),
            };
            let policy = self.apps.series_policy(end.function.app(), series);
            self.outbox.append_series(policy, body, pace, turn);
        }
        if end.condition == Condition::Failed(DeadReason::Loop) {
            return;
        }
        if let Some(trigger) = destinations.trigger.as_ref().and_then(|id| self.trigger(id)) {
            let event = Event {
                id: self.next_event_id(),
                trigger: trigger.id.clone(),
                topic: String::new(),
                payload: record.clone(),
                properties: properties.clone(),
                device: device.clone(),
                message_id: None,
                time: turn.now.wall,
                hops,
                maybe_repeat: false,
            };
            self.place(&trigger, event, Cause::Destination, pace, turn);
        }
        if let Some(topic) = &destinations.topic {
            let message = Arc::new(Message {
                topic: topic.clone(),
                payload: record,
                qos: QoS::AtLeastOnce,
                retain: false,
                properties,
                expiry_s: None,
                origin: Origin::Function { function: end.function.clone(), event: *id },
                device: device.clone(),
                hops,
                at: turn.at(),
                wall: turn.now.wall,
            });
            self.spread(message, Cause::Destination, pace, turn);
        }
    }

    /// Routes a message of the gateway's own to triggers, as new jobs of this batch, and hands it to
    /// the broker.
    pub(super) fn spread(
        &mut self,
        message: Arc<Message>,
        cause: Cause<'_>,
        pace: Pace,
        turn: &mut Turn<'_>,
    ) {
        let routed = self.routes.route(&message);
        for trigger in &routed.targets {
            let event = self.event_of(trigger, &message, None, false);
            self.place(trigger, event, cause, pace, turn);
        }
        self.tell_unwanted(&message, &routed, turn);
        turn.effect(Effect::Publish(message, pace));
    }
}
