//! How a function says no.

use std::error::Error;
use std::fmt;

/// What a function returns.
pub type Result<T = ()> = std::result::Result<T, Failure>;

/// Why a function did not do its work. Nothing it published, stored or recorded takes effect.
///
/// Any error becomes a [`Failure::Retry`] through `?`. Where another attempt cannot help, say
/// [`reject!`](crate::reject) or [`OrReject::or_reject`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Try again later; after the last attempt the event becomes a dead letter.
    Retry(String),
    /// Never try again; the event becomes a dead letter now.
    Reject(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(reason) => write!(f, "retry: {reason}"),
            Self::Reject(reason) => write!(f, "reject: {reason}"),
        }
    }
}

// Not an `Error` itself, so that this covers every other one.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Retry(chain(&error))
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Turns errors and absent values into a [`Failure::Reject`].
pub trait OrReject<T> {
    /// The value, or a reject that begins with `what`.
    ///
    /// # Errors
    /// [`Failure::Reject`].
    fn or_reject(self, what: &str) -> Result<T>;
}

impl<T, E: fmt::Display> OrReject<T> for std::result::Result<T, E> {
    fn or_reject(self, what: &str) -> Result<T> {
        self.map_err(|error| Failure::Reject(format!("{what}: {error}")))
    }
}

impl<T> OrReject<T> for Option<T> {
    fn or_reject(self, what: &str) -> Result<T> {
        self.ok_or_else(|| Failure::Reject(what.to_owned()))
    }
}

/// Returns with [`Failure::Retry`] and a message as in `format!`.
#[macro_export]
macro_rules! retry {
    ($($message:tt)+) => {
        return ::std::result::Result::Err($crate::Failure::Retry(::std::format!($($message)+)))
    };
}

/// Returns with [`Failure::Reject`] and a message as in `format!`.
#[macro_export]
macro_rules! reject {
    ($($message:tt)+) => {
        return ::std::result::Result::Err($crate::Failure::Reject(::std::format!($($message)+)))
    };
}
