//! Text for people.

use std::fmt;

use crate::host;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For following every step.
    Trace,
    /// For finding a fault.
    Debug,
    /// Ordinary news.
    Info,
    /// Something is odd, the function went on.
    Warn,
    /// Something failed.
    Error,
    /// Last words before a trap; written by the SDK when the function panics.
    Panic,
}

#[doc(hidden)]
pub fn line(level: Level, text: fmt::Arguments<'_>) {
    host::log(level, &text.to_string());
}

/// Logs a line: `log!(Level::Warn, "battery at {} %", percent)`, or `log!("...")` for
/// [`Level::Info`]. Lines are kept whether or not the attempt succeeds.
#[macro_export]
macro_rules! log {
    ($text:literal $($arguments:tt)*) => {
        $crate::log_line($crate::Level::Info, ::std::format_args!($text $($arguments)*))
    };
    ($level:expr, $($message:tt)+) => {
        $crate::log_line($level, ::std::format_args!($($message)+))
    };
}
