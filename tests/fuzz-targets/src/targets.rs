//! The targets by name.

mod backup;
mod chunks;
mod core_inputs;
mod device_messages;
mod event_filter;
mod manifest;
mod mqtt_codec;
mod mqtt_session;
mod schedule;
mod serial_line;
mod sync_wire;
mod system_file;
mod topics;

/// A target of fuzzing.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its corpus and of its program.
    pub name: &'static str,
    /// Takes any bytes; panics where something that must hold does not.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "mqtt_codec", run: mqtt_codec::run },
    Target { name: "mqtt_session", run: mqtt_session::run },
    Target { name: "core_inputs", run: core_inputs::run },
    Target { name: "event_filter", run: event_filter::run },
    Target { name: "sync_wire", run: sync_wire::run },
    Target { name: "manifest", run: manifest::run_manifest },
    Target { name: "bundle", run: manifest::run_bundle },
    Target { name: "backup", run: backup::run },
    Target { name: "system_file", run: system_file::run },
    Target { name: "chunks", run: chunks::run },
    Target { name: "schedule", run: schedule::run },
    Target { name: "topics", run: topics::run },
    Target { name: "device_messages", run: device_messages::run },
    Target { name: "serial_line", run: serial_line::run },
];

impl Target {
    /// The target of that name.
    ///
    /// # Panics
    /// There is none: a program of fuzzing names one that exists.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let found = TARGETS.iter().find(|target| target.name == name);
        *found.expect("a target of that name")
    }
}
