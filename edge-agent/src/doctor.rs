//! `edge-agent doctor`: what is wrong with a gateway and how to mend it.
//!
//! [`gather`](gather::gather) looks at the machine and at the agent, if one runs; [`check`] judges
//! what it found and touches nothing; [`bundle`] writes both into a file for whoever helps.
//!
//! # Invariants
//! - The doctor takes no lock and writes nothing but the bundle: it works beside a running agent,
//!   without one, and on a full disk.
//! - Every look has a bound in time and size. What cannot be looked at is a finding.
//! - What leaves with a bundle was put in it by name, and passes [`redact`] on its way.

pub mod bundle;
pub mod check;
pub mod facts;
pub mod gather;
pub mod redact;

use serde::Serialize;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, but may not for long, or not as well as it could.
    Warning,
    /// Something does not work.
    Fault,
}

impl State {
    /// The word that people and programs see.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// What is.
    pub what: String,
    /// How to mend it; empty where there is nothing to mend.
    pub mend: String,
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, state: State::Ok, what: what.into(), mend: String::new() }
    }

    fn warning(check: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Warning, what: what.into(), mend: mend.into() }
    }

    fn fault(check: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Fault, what: what.into(), mend: mend.into() }
    }
}

/// The worst of all.
#[must_use]
pub fn worst(findings: &[Finding]) -> State {
    findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok)
}
