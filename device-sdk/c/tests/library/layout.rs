//! The header says what the library says: sizes, places of fields, numbers.

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::process::Command;

use super::passes;
use super::support::Programs;

#[path = "../../src/abi.rs"]
mod abi;

/// Lines of C that print it, and what they are to print.
#[derive(Default)]
struct Table {
    c: String,
    wanted: String,
}

impl Table {
    fn line(&mut self, call: &str, what: &str, value: impl std::fmt::Display) {
        writeln!(self.c, "{call};").unwrap();
        writeln!(self.wanted, "{what} {value}").unwrap();
    }
}

macro_rules! structure {
    ($table:ident, $c:literal, $rust:ty, $($field:ident)*) => {
        $table.line(concat!("SIZE(", $c, ")"), $c, size_of::<$rust>());
        $(
            let (call, what) = (
                concat!("FIELD(", $c, ", ", stringify!($field), ")"),
                concat!($c, ".", stringify!($field)),
            );
            $table.line(call, what, offset_of!($rust, $field));
        )*
    };
}

macro_rules! numbers {
    ($table:ident, $($name:ident)*) => {
        $(
            let c = concat!("HOLM_", stringify!($name));
            $table.line(&format!("NUMBER({c})"), c, abi::$name);
        )*
    };
}

#[test]
fn header_and_library_are_equal() {
    let mut table = Table::default();
    structure!(table, "holm_settings", abi::Settings, abi keep_alive_s overflow address boot name user token on_event
        on_command context baud backoff_ms_min backoff_ms_max);
    structure!(table, "holm_event", abi::Event, sequence time_ms retry_ms kind trouble reason resumed quality);
    structure!(table, "holm_command", abi::Command, id schema name body body_length);
    structure!(table, "holm_time", abi::Time, ms quality);
    structure!(table, "holm_figures", abi::Figures, queued published acked overflowed refused connects ignored);
    structure!(table, "holm_provision", abi::Provision, name host token is_plain port);
    numbers!(table, ABI OK ERROR_ARGUMENT ERROR_ABI ERROR_MEMORY ERROR_NAME ERROR_CREDENTIAL ERROR_TOPIC ERROR_TOO_LONG
        ERROR_FULL ERROR_BUSY ERROR_STALE ERROR_PROVISION ERROR_ADDRESS OVERFLOW_DROP_OLDEST OVERFLOW_DROP_NEWEST
        EVENT_CONNECTED EVENT_DISCONNECTED EVENT_ACKED EVENT_REFUSED EVENT_DROPPED EVENT_TIME TROUBLE_NONE TROUBLE_DIAL
        TROUBLE_TIMEOUT TROUBLE_LOST TROUBLE_PROTOCOL TROUBLE_REFUSED TROUBLE_MEMORY TROUBLE_TLS TLS_FAILED TLS_REFUSED QUALITY_UPTIME QUALITY_UNSYNCED
        QUALITY_SYNCED STATUS_DONE STATUS_FAILED STATUS_UNKNOWN STATUS_BAD_ARGUMENT STATUS_BUSY DEVICE_BYTES
        SERIAL_BYTES TLS_BYTES ALIGNMENT RECORD_BYTES ANSWER_BYTES);

    // Every number of the header is in the table.
    let header = include_str!("../../include/holm_device.h");
    for line in header.lines() {
        let Some(rest) = line.strip_prefix("#define HOLM_") else { continue };
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let is_number = value.starts_with("((") || value.starts_with(|c: char| c.is_ascii_digit());
        assert!(
            !is_number || table.c.contains(&format!("(HOLM_{name})")),
            "{name} is not compared"
        );
    }

    let programs = Programs::new();
    std::fs::write(programs.dir().join("layout.inc"), &table.c).unwrap();
    assert_eq!(passes(&mut Command::new(programs.linked("layout"))), table.wanted);
}
