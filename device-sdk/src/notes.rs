//! Log lines and metrics that wait to be sent.
//!
//! A note is encoded when it is written; with no room left it is dropped and counted, and the next line that is taken says
//! how many were.

use core::fmt;

use device_protocol::limits::{TEXT_MAX, WORD_MAX};
use device_protocol::system::{Level, LogLine, Metric};
use device_protocol::{Error, Timestamp, Up};
use heapless::String;

use crate::device::Device;
use crate::ring::{Ring, Written};

/// See the module.
#[derive(Debug)]
pub(crate) struct Notes<'a> {
    ring: Ring<'a>,
    dropped: u32,
}

/// What kind a note is: its first byte in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Log,
    Metric,
}

impl<'a> Notes<'a> {
    pub(crate) const fn new(memory: &'a mut [u8]) -> Self {
        Self { ring: Ring::new(memory), dropped: 0 }
    }

    pub(crate) fn line(&mut self, level: Level, time: Timestamp, text: &str) {
        let line = LogLine { level, time, dropped: self.dropped, text };
        if self.push(Kind::Log, &Up::Log(line)) {
            self.dropped = 0;
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    pub(crate) fn metric(&mut self, name: &str, time: Timestamp, value: i64) -> bool {
        self.push(Kind::Metric, &Up::Metric(Metric { name, time, value }))
    }

    /// The `nth` oldest note: its kind and the encoded message.
    pub(crate) fn peek(&self, nth: u32) -> Option<(Kind, &[u8])> {
        let (kind, message) = self.ring.peek(nth)?.split_first()?;
        let kind = if *kind == Kind::Log as u8 { Kind::Log } else { Kind::Metric };
        Some((kind, message))
    }

    pub(crate) fn pop(&mut self) {
        self.ring.pop();
    }

    fn push(&mut self, kind: Kind, note: &Up<'_>) -> bool {
        let mut write = |out: &mut [u8]| {
            let (first, rest) = out.split_first_mut().ok_or(Written::NoRoom)?;
            *first = kind as u8;
            note.encode(rest).map(|length| 1 + length).map_err(|error| match error {
                Error::NoRoom => Written::NoRoom,
                other => Written::Failed(other),
            })
        };
        self.ring.push_with(&mut write).is_ok()
    }
}

impl Kind {
    /// As it stands in the topic.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Metric => "metric",
        }
    }
}

impl Device<'_> {
    /// Writes a line into the device's log, which the gateway is sent when there is a connection. Text over 200 bytes is
    /// cut. See [`crate::log!`].
    pub fn log(&self, level: Level, text: fmt::Arguments<'_>) {
        let mut line = Line(String::new());
        let _ = fmt::Write::write_fmt(&mut line, text);
        let time = self.now();
        self.notes(|notes| notes.line(level, time, &line.0));
        self.change(|_| ());
    }

    /// Tells the gateway a figure; whether there was room for it. `name` with its unit, up to 32 bytes: `heap_free_bytes`.
    pub fn metric(&self, name: &str, value: i64) -> bool {
        if name.is_empty() || name.len() > WORD_MAX {
            return false;
        }
        let time = self.now();
        let is_taken = self.notes(|notes| notes.metric(name, time, value));
        self.change(|_| ());
        is_taken
    }
}

/// Writes a line into the log of a device, with the arguments of `format!`.
///
/// ```
/// # fn example(device: &device_sdk::Device<'_>) {
/// device_sdk::log!(device, Warn, "sensor answered after {} ms", 70);
/// # }
/// ```
#[macro_export]
macro_rules! log {
    ($device:expr, $level:ident, $($text:tt)+) => {
        $device.log($crate::protocol::system::Level::$level, ::core::format_args!($($text)+))
    };
}

/// Text that is cut where it gets too long.
struct Line(String<TEXT_MAX>);

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TEXT_MAX - self.0.len();
        let fits = text.floor_char_boundary(room);
        self.0.push_str(&text[..fits]).map_err(|_| fmt::Error)?;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_find_no_room_are_counted_in_the_next() {
        let mut memory = [0; 64];
        let mut notes = Notes::new(&mut memory);
        for _ in 0..5 {
            notes.line(Level::Info, Timestamp::uptime(1), "a text of some 30 bytes or so");
        }
        notes.pop();
        notes.line(Level::Info, Timestamp::uptime(2), "short");
        let (kind, message) = notes.peek(0).unwrap();
        assert_eq!(kind, Kind::Log);
        let Ok(Up::Log(line)) = Up::decode(message) else { panic!("no log line") };
        assert_eq!((line.dropped, line.text), (4, "short"));
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        let mut line = Line(String::new());
        let _ = fmt::Write::write_fmt(&mut line, format_args!("{}{}", "a".repeat(199), "öö"));
        assert_eq!(line.0.len(), 199);
    }
}
