//! Shows what an attempt did.

use edge_agent::runtime::{LogLevel, LogLine, Report};
use edge_core::effect::{Member, Work};
use edge_core::id::DeviceId;
use edge_core::message::QoS;
use edge_core::outcome::{ItemFailureKind, Outcome, Outputs};
use serde_json::{Map, Value, json};

use super::ends::{End, Ends};
use crate::bytes_json;
use crate::failure::Done;
use crate::out::{Out, Paint, clean, clean_lines, duration_us, payload, size};

/// An attempt and what became of it.
pub(super) struct Shown<'a> {
    pub(super) work: &'a Work,
    pub(super) report: &'a Report,
    pub(super) ends: &'a Ends<'a>,
}

impl Shown<'_> {
    /// Shows each event with what was done for it, then the whole.
    pub(super) fn print(&self, out: &Out) -> Done {
        out.item(&self.as_json(), |out| {
            let mut lines = Vec::new();
            for (index, (member, end)) in self.events() {
                lines.push(head(member, out));
                lines.extend(self.part(Some(index)));
                lines.extend(said(end, out));
            }
            if let Work::Batch(members) = self.work {
                let title = format!("batch of {}", members.len());
                lines.push(out.paint(&title, Paint::Bold));
                lines.extend(self.part(None));
            }
            lines.push(verdict(self.report, out));
            lines.join("\n")
        })
    }

    fn events(&self) -> impl Iterator<Item = (usize, (&Member, End<'_>))> {
        self.work.members().iter().zip(self.ends.iter()).enumerate()
    }

    fn logs(&self, of: Option<usize>) -> impl Iterator<Item = &LogLine> {
        let about = |line: &LogLine| match self.work {
            Work::One(_) => Some(0),
            Work::Batch(_) => line.of.map(usize::from),
        };
        self.report.logs.iter().filter(move |line| about(line) == of)
    }

    /// What was logged and what takes effect for the event at `of`, or for the whole.
    fn part(&self, of: Option<usize>) -> Vec<String> {
        let mut lines: Vec<String> = self
            .logs(of)
            .map(|line| {
                let text = clean_lines(&line.text).replace('\n', "\n            ");
                format!("  log       {} {text}", level(line.level))
            })
            .collect();
        let kept = self.ends.effects_for(&self.report.outcome, of);
        lines.extend(kept.into_iter().flat_map(effects));
        lines
    }

    fn as_json(&self) -> Value {
        let mut value = outcome_json(self.report);
        match self.work {
            Work::One(member) => {
                put_event(&mut value, member);
                self.put_part(&mut value, Some(0));
            }
            Work::Batch(_) => {
                self.put_part(&mut value, None);
                let events = self.events().map(|(index, (member, end))| {
                    let mut value = end_json(end);
                    put_event(&mut value, member);
                    self.put_part(&mut value, Some(index));
                    value
                });
                value["batch"] = events.collect();
            }
        }
        value
    }

    fn put_part(&self, value: &mut Value, of: Option<usize>) {
        let log = |line: &LogLine| json!({ "level": level(line.level), "text": line.text });
        value["logs"] = self.logs(of).map(log).collect();
        let mut all = Outputs::default();
        for outputs in self.ends.effects_for(&self.report.outcome, of) {
            all.append(outputs.clone());
        }
        let is_done = matches!(self.report.outcome, Outcome::Done(_) | Outcome::BatchDone(_));
        if is_done {
            put_effects(value, &all);
        }
    }
}

fn head(member: &Member, out: &Out) -> String {
    let (event, n) = (&member.event, member.job.0);
    let topic = if event.topic.is_empty() { "(schedule)" } else { &event.topic };
    let device = event.device.as_ref().map(|device| format!(" from {device}")).unwrap_or_default();
    out.paint(&format!("event {n}: {}{}", clean(topic), clean(&device)), Paint::Bold)
}

/// What a function said of one event of a batch.
fn said(end: End<'_>, out: &Out) -> Option<String> {
    let (word, reason) = match end {
        End::Done | End::NotOk => return None,
        End::Again => ("again", "it stands behind one that failed"),
        End::Failed(failure) => (word_of(failure.kind), failure.reason.as_str()),
    };
    let reason = clean_lines(reason).replace('\n', "\n    ");
    Some(format!("  {}: {reason}", out.paint(word, Paint::Yellow)))
}

fn word_of(kind: ItemFailureKind) -> &'static str {
    match kind {
        ItemFailureKind::Retry => "retry",
        ItemFailureKind::Reject => "reject",
    }
}

fn effects(outputs: &Outputs) -> Vec<String> {
    let publishes = outputs.publishes.iter().map(|publish| {
        let flags = match (publish.qos, publish.retain) {
            (QoS::AtLeastOnce, false) => String::new(),
            (qos, false) => format!(" (QoS {})", level_of(qos)),
            (qos, true) => format!(" (QoS {}, retained)", level_of(qos)),
        };
        let body = payload(&publish.payload);
        format!("  publish   {} {body}{flags}", clean(publish.topic.as_str()))
    });
    let state = outputs.state.iter().map(|change| match &change.value {
        Some(value) => format!("  state     {} = {}", clean(&change.key), payload(value)),
        None => format!("  state     {} deleted", clean(&change.key)),
    });
    let records = outputs
        .records
        .iter()
        .map(|record| format!("  record    {} {}", clean(&record.name), payload(&record.payload)));
    publishes.chain(state).chain(records).collect()
}

fn verdict(report: &Report, out: &Out) -> String {
    let used = format!(
        "in {}, {} of memory",
        duration_us(report.stats.wall_us),
        size(report.stats.memory_peak_bytes)
    );
    let (word, paint, reason) = match &report.outcome {
        Outcome::Done(_) | Outcome::BatchDone(_) => ("ok".to_owned(), Paint::Green, ""),
        Outcome::Retry { reason } => ("retry".to_owned(), Paint::Yellow, reason.as_str()),
        Outcome::Reject { reason } => ("reject".to_owned(), Paint::Yellow, reason.as_str()),
        Outcome::Fault(fault) => (format!("{} fault", fault.kind), Paint::Red, &*fault.message),
    };
    let word = out.paint(&word, paint);
    if reason.is_empty() {
        return format!("  {word} {used}");
    }
    let reason = clean_lines(reason).replace('\n', "\n    ");
    format!("  {word} {used}\n    {reason}")
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Panic => "panic",
    }
}

fn level_of(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

fn outcome_json(report: &Report) -> Value {
    let used = &report.stats;
    let mut value = json!({ "wall_us": used.wall_us, "memory_bytes": used.memory_peak_bytes });
    let (outcome, reason) = match &report.outcome {
        Outcome::Done(_) | Outcome::BatchDone(_) => ("ok", None),
        Outcome::Retry { reason } => ("retry", Some(reason)),
        Outcome::Reject { reason } => ("reject", Some(reason)),
        Outcome::Fault(fault) => {
            value["fault"] = json!(fault.kind.to_string());
            ("fault", Some(&fault.message))
        }
    };
    value["outcome"] = json!(outcome);
    if let Some(reason) = reason {
        value["reason"] = json!(reason);
    }
    value
}

fn put_event(value: &mut Value, member: &Member) {
    value["event"] = json!(member.job.0);
    value["topic"] = json!(member.event.topic);
    value["device"] = json!(member.event.device.as_ref().map_or("", DeviceId::as_str));
}

fn end_json(end: End<'_>) -> Value {
    match end {
        End::Done => json!({ "end": "done" }),
        End::NotOk => json!({ "end": "not-ok" }),
        End::Again => json!({ "end": "again" }),
        End::Failed(failure) => json!({ "end": word_of(failure.kind), "reason": failure.reason }),
    }
}

fn put_effects(value: &mut Value, outputs: &Outputs) {
    let object = |name: &str, text: &str| Map::from_iter([(name.to_owned(), json!(text))]);
    let publishes = outputs.publishes.iter().map(|publish| {
        let mut item = object("topic", publish.topic.as_str());
        bytes_json::put(&mut item, "payload", &publish.payload);
        item.insert("qos".to_owned(), json!(level_of(publish.qos)));
        item.insert("retain".to_owned(), json!(publish.retain));
        if let Some(content_type) = &publish.properties.content_type {
            item.insert("content_type".to_owned(), json!(content_type));
        }
        if !publish.properties.user.is_empty() {
            item.insert("properties".to_owned(), json!(publish.properties.user));
        }
        item
    });
    value["publishes"] = publishes.collect();
    let state = outputs.state.iter().map(|change| {
        let mut item = object("key", &change.key);
        match &change.value {
            Some(bytes) => bytes_json::put(&mut item, "value", bytes),
            None => drop(item.insert("deleted".to_owned(), json!(true))),
        }
        item
    });
    value["state"] = state.collect();
    let records = outputs.records.iter().map(|record| {
        let mut item = object("name", &record.name);
        bytes_json::put(&mut item, "payload", &record.payload);
        item.insert("content_type".to_owned(), json!(record.content_type));
        item
    });
    value["records"] = records.collect();
}
