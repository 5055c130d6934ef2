//! Shows what an attempt did.

use edge_agent::runtime::{LogLevel, Report};
use edge_core::message::QoS;
use edge_core::outcome::{Outcome, Outputs};
use serde_json::{Map, Value, json};

use crate::bytes_json;
use crate::failure::Done;
use crate::out::{Out, Paint, clean, clean_lines, duration_us, payload, size};

pub(super) fn report(report: &Report, n: u64, topic: &str, device: &str, out: &Out) -> Done {
    out.item(&as_json(report, n, topic, device), |out| {
        let mut lines = vec![head(n, topic, device, out)];
        lines.extend(report.logs.iter().map(|line| {
            let text = clean_lines(&line.text).replace('\n', "\n            ");
            format!("  log       {} {text}", level(line.level))
        }));
        if let Outcome::Done(outputs) = &report.outcome {
            lines.extend(effects(outputs));
        }
        lines.push(verdict(report, out));
        lines.join("\n")
    })
}

fn head(n: u64, topic: &str, device: &str, out: &Out) -> String {
    let topic = if topic.is_empty() { "(schedule)" } else { topic };
    let device = if device.is_empty() { String::new() } else { format!(" from {device}") };
    out.paint(&format!("event {n}: {}{}", clean(topic), clean(&device)), Paint::Bold)
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

fn as_json(report: &Report, n: u64, topic: &str, device: &str) -> Value {
    let logs: Vec<Value> = report
        .logs
        .iter()
        .map(|line| json!({ "level": level(line.level), "text": line.text }))
        .collect();
    let mut value = json!({
        "event": n, "topic": topic, "device": device, "logs": logs,
        "wall_us": report.stats.wall_us, "memory_bytes": report.stats.memory_peak_bytes,
    });
    match &report.outcome {
        Outcome::Done(outputs) => {
            value["outcome"] = json!("ok");
            put_effects(&mut value, outputs);
        }
        Outcome::BatchDone(batch) => {
            value["outcome"] = json!("ok");
            let mut all = Outputs::default();
            batch.segments.iter().for_each(|segment| all.append(segment.outputs.clone()));
            put_effects(&mut value, &all);
        }
        Outcome::Retry { reason } => {
            value["outcome"] = json!("retry");
            value["reason"] = json!(reason);
        }
        Outcome::Reject { reason } => {
            value["outcome"] = json!("reject");
            value["reason"] = json!(reason);
        }
        Outcome::Fault(fault) => {
            value["outcome"] = json!("fault");
            value["fault"] = json!(fault.kind.to_string());
            value["reason"] = json!(fault.message);
        }
    }
    value
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
