//! Answers to operators: the local control socket and commands of the control plane.

use edge_core::effect::Pace;
use edge_core::id::{DeviceId, Epoch, EventId, FunctionId, LaneKey};
use edge_core::input::Input as CoreInput;
use edge_core::op::{CoreOp, DeadLetter, StateKey};
use edge_core::order;
use edge_core::reconcile::Input as Reconcile;
use edge_core::time::{ClockQuality, Millis, WallTime};
use serde_json::{Map, Value, json};
use sync_protocol::id as wire;
use sync_protocol::wire::{Command, LetterAt, Request as Ask, StateAt};

use super::answers::Asker;
use super::deploy::foreign;
use super::gateway::Gateway;
use super::pages::{self, Page};
use super::plant::Moment;
use super::timeline::Timeline;
use crate::control::{Answer, Asked, Request};
use crate::store::StateRow;
use crate::uplink::Heard;

/// Bytes of state that one page looks at.
const SCAN_BYTES_MAX: usize = 1 << 20;

impl Gateway {
    pub(super) fn asked(&mut self, asked: Asked) {
        match asked.request {
            Request::Ask(ask) => self.ask_for(Asker::Here(asked.answer), &ask),
            Request::Deploy { bundle } => self.deploy_local(bundle, asked.answer),
            Request::Undeploy { app } => {
                let answer = self.undeploy_local(app);
                self.answer(Asker::Here(asked.answer), answer);
            }
            Request::ResumeFunction { function } => {
                let answer = self.resume_function(&function);
                self.answer(Asker::Here(asked.answer), answer);
            }
            Request::Devices { after } => {
                let answer = Ok(self.devices(after.as_deref()));
                self.answer(Asker::Here(asked.answer), answer);
            }
            Request::DeviceLogs { device } => {
                let answer = Ok(self.desk.lines(device.as_deref()));
                self.answer(Asker::Here(asked.answer), answer);
            }
            Request::Resume => {
                let answer = match self.resume_life() {
                    true => Ok(Value::Null),
                    false => Err("the gateway is not in safe mode".to_owned()),
                };
                self.answer(Asker::Here(asked.answer), answer);
            }
        }
    }

    /// What changes something is answered when it is durable.
    fn ask_for(&mut self, asker: Asker, ask: &Ask) {
        let changes =
            matches!(ask, Ask::Redrive { .. } | Ask::Discard { .. } | Ask::StateReset { .. });
        if changes && self.answers.is_full() {
            let busy = "too many changes wait for the store: ask again in a moment";
            return self.answer(asker, Err(busy.to_owned()));
        }
        match self.ask(ask) {
            Ok(answer) if changes => self.answer_when_durable(asker, Ok(answer)),
            answer => self.answer(asker, answer),
        }
    }

    /// What the uplink heard.
    pub(super) fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Link { up, reason } => {
                tracing::info!(up, reason, "uplink");
                self.link.changed(up, reason, self.now.at);
                self.update.reached |= up;
                if up {
                    self.telemetry.greet();
                }
            }
            Heard::Receipt { stream, seq } => {
                self.link.contact(self.now.at);
                self.plant.reach(Moment::BeforeReceipt);
                self.with_core(CoreInput::Receipt {
                    stream: edge_core::id::StreamId(stream),
                    seq: edge_core::id::RecordSeq(seq),
                });
                self.plant.reach(Moment::AfterReceipt);
            }
            Heard::GoOnAfter { stream, seq } => self.with_core(CoreInput::GoOnAfter {
                stream: edge_core::id::StreamId(stream),
                seq: edge_core::id::RecordSeq(seq),
            }),
            Heard::Renumber { stream, positions } => self.renumber(stream, &positions),
            Heard::Gap { stream, seq } => self.link.gap(stream, seq),
            Heard::Time(unix_ms) => self.told_time(unix_ms),
            Heard::Desired(desired) => self.desired(desired),
            Heard::Fetched { digest, result } => self.fetched(digest, result),
            Heard::Command(Command { id, request }) => self.ask_for(Asker::Cloud(id), &request),
        }
    }

    fn ask(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::Status => Ok(self.status()),
            Ask::Logs { for_s } => {
                let until = self.now.at + Millis::from_secs(u64::from(*for_s));
                self.telemetry.feed.follow(until);
                Ok(Value::Null)
            }
            Ask::DeadLetters { after, limit } => {
                self.dead_letters(after.as_ref(), (*limit as usize).min(pages::ROWS_MAX))
            }
            Ask::LetterPayload { letter, offset } => {
                let event = own_event(letter.event);
                let letter = self.letter(&FunctionId::new(&letter.function), event)?;
                pages::piece(&letter.event.payload, *offset)
            }
            Ask::Redrive { function, event } => self.redrive(function, *event),
            Ask::Discard { function, event } => {
                let (function, event) = (FunctionId::new(function), own_event(*event));
                self.letter(&function, event)?;
                self.with_core(CoreInput::PurgeDeadLetter { function, event });
                Ok(Value::Null)
            }
            Ask::StateList { function, device, prefix, after, limit } => {
                let limit = (*limit as usize).min(pages::ROWS_MAX);
                match device {
                    Some(device) => self.state_of(function, device, prefix, after.as_ref(), limit),
                    None => self.state_of_all(function, prefix, after.as_ref(), limit),
                }
            }
            Ask::StateGet { function, device, key, offset } => {
                self.state_get(function, device.as_deref(), key, *offset)
            }
            Ask::StateReset { function, device } => self.state_reset(function, device.as_deref()),
        }
    }

    fn undeploy_local(&mut self, app: String) -> Answer {
        if self.deployments.is_managed {
            return Err("a control plane manages this gateway: use `holm undeploy`".to_owned());
        }
        let Some(known) = self.deployments.reconciler.ledger().apps.get(&app) else {
            return Err(format!("no app {app:?} is deployed here"));
        };
        let revision = known.live.as_ref().map(|live| foreign(live.digest).to_string());
        let ended = json!({ "app": app, "revision": revision });
        self.reconcile(Reconcile::Local { app, revision: None });
        Ok(ended)
    }

    /// Ends the pause of a function by hand.
    fn resume_function(&mut self, function: &str) -> Answer {
        let status = self.core.status(self.now);
        let known = status.functions.iter().find(|row| row.function.as_str() == function);
        let Some(known) = known.filter(|row| !row.dormant) else {
            return Err(format!("no function {function:?} is live here (write app/function)"));
        };
        if known.paused_ms.is_none() {
            return Err(format!("{function} is not paused"));
        }
        self.with_core(CoreInput::ResumeFunction { function: FunctionId::new(function) });
        Ok(Value::Null)
    }

    fn letter(&self, function: &FunctionId, event: EventId) -> Result<DeadLetter, String> {
        let letter = self.reader.dead_letter(function, event).map_err(|err| err.to_string())?;
        letter.ok_or_else(|| format!("no dead letter {event} of {function}"))
    }

    fn redrive(&mut self, function: &str, event: wire::EventId) -> Answer {
        let letter = self.letter(&FunctionId::new(function), own_event(event))?;
        if let Some(refusal) = self.core.redrive_refusal(&letter) {
            return Err(format!("{} of {function}: {refusal}", letter.event.id));
        }
        self.with_core(CoreInput::Redrive { letter: Box::new(letter) });
        Ok(Value::Null)
    }

    fn dead_letters(&self, after: Option<&LetterAt>, limit: usize) -> Answer {
        let from = after.map(|at| (FunctionId::new(&at.function), own_event(at.event)));
        let from = from.as_ref().map(|(function, event)| (function, *event));
        // One more than wanted tells whether there is another page.
        let letters = self.reader.dead_letters(from, limit + 1).map_err(|err| err.to_string())?;
        let mut page = Page::default();
        let taken = letters
            .iter()
            .take(limit)
            .take_while(|letter| page.push(letter_json(letter, self.now.at, &self.timeline)));
        let taken = taken.count();
        let next = (taken > 0 && taken < letters.len()).then(|| {
            let last = &letters[taken - 1];
            json!({ "function": last.function.as_str(), "event": last.event.id.to_string() })
        });
        Ok(page.answer(next))
    }

    /// The version of a function's state that is live.
    fn state_version(&self, function: &str) -> Result<u32, String> {
        let unknown = || format!("no function {function:?} is live here (write app/function)");
        let (app, name) = function.split_once('/').ok_or_else(unknown)?;
        let app = self.deployments.reconciler.ledger().apps.get(app).ok_or_else(unknown)?;
        let live = app.live.as_ref().ok_or_else(unknown)?;
        live.state_versions.get(name).copied().ok_or_else(unknown)
    }

    /// A page of one device's state.
    fn state_of(
        &self,
        function: &str,
        device: &str,
        prefix: &str,
        after: Option<&StateAt>,
        limit: usize,
    ) -> Answer {
        let from = StateKey {
            function: FunctionId::new(function),
            state_version: self.state_version(function)?,
            lane: self.lane(function, Some(device)),
            key: prefix.to_owned(),
        };
        let after = after.map(|at| at.key.as_str());
        let rows = self.reader.state_scan(&from, after, limit, SCAN_BYTES_MAX);
        let rows = rows.map_err(|err| err.to_string())?;
        let mut page = Page::default();
        let taken = rows
            .iter()
            .take_while(|(key, value)| page.push(state_json(&from.lane, key, value)))
            .count();
        let Some((last, _)) = taken.checked_sub(1).and_then(|last| rows.get(last)) else {
            return Ok(page.answer(None));
        };
        let more =
            self.reader.state_scan(&from, Some(last), 1, 1).map_err(|err| err.to_string())?;
        let next = (!more.is_empty()).then(|| json!({ "device": device, "key": last }));
        Ok(page.answer(next))
    }

    /// A page of the state of all lanes; rows whose key does not begin with `prefix` are passed
    /// over, so that a page may be empty and not be the last.
    fn state_of_all(
        &self,
        function: &str,
        prefix: &str,
        after: Option<&StateAt>,
        limit: usize,
    ) -> Answer {
        let version = self.state_version(function)?;
        let function = FunctionId::new(function);
        let lanes = self.core.lanes_by(&function).cloned();
        let named = |name: Option<&str>| order::named(lanes.as_ref(), name);
        // Of an order that the function had before there may be rows that its lanes do not name.
        let is_own = |row: &&StateRow| named(row.lane.name()) == row.lane;
        let first = || match named(Some(" ")) {
            LaneKey::Key(_) => Some((LaneKey::Key("".into()), "")),
            _ => None,
        };
        let from = after.map(|at| (named(at.device.as_deref()), at.key.as_str())).or_else(first);
        let from = from.as_ref().map(|(lane, key)| (lane, *key));
        let read = |from, rows| self.reader.state_rows(&function, version, from, rows);
        let rows = read(from, limit).map_err(|err| err.to_string())?;
        let mut page = Page::default();
        let fits = |row: &&StateRow| {
            !row.key.starts_with(prefix)
                || !is_own(row)
                || page.push(state_json(&row.lane, &row.key, &row.value))
        };
        let Some(last) = rows.iter().take_while(fits).filter(&is_own).last() else {
            return Ok(page.answer(None));
        };
        let behind = Some((&last.lane, last.key.as_str()));
        let more = read(behind, 1).map_err(|err| err.to_string())?;
        let next = json!({ "device": last.lane.name(), "key": last.key });
        Ok(page.answer((!more.is_empty()).then_some(next)))
    }

    fn state_get(&self, function: &str, device: Option<&str>, key: &str, offset: u64) -> Answer {
        let key = StateKey {
            function: FunctionId::new(function),
            state_version: self.state_version(function)?,
            lane: self.lane(function, device),
            key: key.to_owned(),
        };
        let value = self.reader.state_get(&key).map_err(|err| err.to_string())?;
        pages::piece(&value.ok_or("no such key")?, offset)
    }

    /// The lane that people call so.
    fn lane(&self, function: &str, name: Option<&str>) -> LaneKey {
        order::named(self.core.lanes_by(&FunctionId::new(function)), name)
    }

    fn state_reset(&mut self, function: &str, device: Option<&str>) -> Answer {
        let state_version = self.state_version(function)?;
        let id = FunctionId::new(function);
        let Some(device) = device else {
            self.core_op(CoreOp::DropState { function: id, state_version }, Pace::Prompt);
            return Ok(Value::Null);
        };
        let lane = self.lane(function, Some(device));
        let lanes = self.state.lanes(&id, state_version).map_err(|err| err.to_string())?;
        let entries = lanes.into_iter().filter(|(owner, _)| *owner == lane).flat_map(|(_, e)| e);
        for (key, _) in entries.collect::<Vec<_>>() {
            let key = StateKey { function: id.clone(), state_version, lane: lane.clone(), key };
            self.core_op(CoreOp::DeleteState { key }, Pace::Prompt);
        }
        Ok(Value::Null)
    }
}

fn own_event(event: wire::EventId) -> EventId {
    EventId { epoch: Epoch(event.epoch), n: event.n }
}

fn letter_json(letter: &DeadLetter, now: Millis, timeline: &Timeline) -> Value {
    let time = timeline.of_moment(letter.at, letter.time);
    let event_time = timeline.of_run(letter.event.id.epoch, letter.event.time);
    let is_synced = |time: WallTime| time.quality == ClockQuality::Synced;
    let mut row = Map::new();
    for (name, value) in [
        ("function", json!(letter.function.as_str())),
        ("event", json!(letter.event.id.to_string())),
        ("trigger", json!(letter.event.trigger.as_str())),
        ("topic", json!(letter.event.topic)),
        ("device", json!(letter.event.device.as_ref().map(DeviceId::as_str))),
        ("reason", json!(kebab(&format!("{:?}", letter.reason)))),
        ("error", json!(letter.error)),
        ("attempts", json!(letter.attempts)),
        ("unix_ms", json!(time.unix_ms)),
        ("synced", json!(is_synced(time))),
        ("age_ms", json!(now.since(letter.at))),
        ("time_unix_ms", json!(event_time.unix_ms)),
        ("time_synced", json!(is_synced(event_time))),
    ] {
        row.insert(name.to_owned(), value);
    }
    pages::put(&mut row, "payload", &letter.event.payload);
    Value::Object(row)
}

/// `AttemptsExhausted` as the sync protocol writes it: `attempts-exhausted`.
fn kebab(name: &str) -> String {
    let mut word = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

fn state_json(lane: &LaneKey, key: &str, value: &[u8]) -> Value {
    let mut row = Map::new();
    row.insert("device".to_owned(), json!(lane.name()));
    row.insert("key".to_owned(), json!(key));
    pages::put(&mut row, "value", value);
    Value::Object(row)
}
