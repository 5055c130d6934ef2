//! Why the control plane does not do what it was asked, with what to do about it.

use crate::store::StoreError;

/// Kinds of refusal, as HTTP knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense.
    Invalid,
    /// Nobody known asks.
    Unauthenticated,
    /// There is no such thing.
    NotFound,
    /// The path does not take this method.
    Method,
    /// It contradicts what is there.
    Conflict,
    /// It is over a bound.
    TooLarge,
    /// Too often or too many at once.
    Busy,
    /// The other side did not answer in time.
    Timeout,
    /// Something is broken here.
    Internal,
}

/// A refusal: what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// What kind.
    pub kind: Kind,
    /// What is wrong.
    pub error: String,
    /// What to do; empty where nobody knows.
    pub hint: String,
}

impl Failure {
    /// A refusal of that kind.
    #[must_use]
    pub fn new(kind: Kind, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, error: error.into(), hint: hint.into() }
    }

    /// The request makes no sense.
    #[must_use]
    pub fn invalid(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, error, hint)
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, error, hint)
    }

    /// It contradicts what is there.
    #[must_use]
    pub fn conflict(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, error, hint)
    }

    /// Something is broken here.
    #[must_use]
    pub fn internal(error: impl Into<String>) -> Self {
        Self::new(Kind::Internal, error, "see the log of cloud-sync")
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::internal(error.to_string())
    }
}
