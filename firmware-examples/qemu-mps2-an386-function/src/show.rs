//! Prints what a function did: a line for the result, and one for each effect.

use core::fmt;

use device_function::{FaultKind, Outcome, QoS, Report};

use crate::board::println;

/// Prints a report.
pub(crate) fn report(number: u64, report: &Report) {
    let Report { outcome, logs, fuel, memory_bytes } = report;
    for line in logs {
        println!("log {:?} {}", line.level, line.text);
    }
    let used = format_args!("fuel {fuel} memory {memory_bytes}");
    match outcome {
        Outcome::Done(_) => println!("event {number} done {used}"),
        Outcome::Retry(reason) => println!("event {number} retry {used}: {reason}"),
        Outcome::Reject(reason) => println!("event {number} reject {used}: {reason}"),
        Outcome::Fault(fault) => {
            println!("event {number} {} {used}: {}", kind(fault.kind), fault.message);
        }
    }
    let Outcome::Done(effects) = outcome else { return };
    for publish in &effects.publishes {
        let qos = match publish.qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
            QoS::ExactlyOnce => 2,
        };
        let content_type = publish.content_type.as_deref().unwrap_or("-");
        let (topic, retain) = (&publish.topic, publish.retain);
        println!("publish {topic} {qos} {retain} {content_type} {}", Hex(&publish.payload));
        for (name, value) in &publish.properties {
            println!("property {name} {value}");
        }
    }
    for record in &effects.records {
        println!("record {} {} {}", record.name, record.content_type, Hex(&record.payload));
    }
    for change in &effects.state {
        match &change.value {
            Some(value) => println!("state {} {}", change.key, Hex(value)),
            None => println!("state {} deleted", change.key),
        }
    }
}

fn kind(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Trap => "trap",
        FaultKind::Timeout => "timeout",
        FaultKind::Memory => "memory",
        FaultKind::Stack => "stack",
        FaultKind::Denied => "denied",
        FaultKind::Outputs => "outputs",
        FaultKind::Host => "host",
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
