//! What gateways say enters the store here.
//!
//! Invariants:
//! - A receipt names only positions that a durable transaction holds (or shows as a gap).
//! - A record counts once by (gateway, stream, sequence), whatever is sent again.
//! - Nothing stalls: a position that is lost is shown as a gap and passed; a record that
//!   contradicts a stored one is kept aside and raises an alarm.
//! - One transaction takes the messages of many gateways; nothing is acked before it.

mod ledger;
mod message;
mod worker;

#[cfg(test)]
mod tests;

pub(crate) use ledger::Ledger;
pub(crate) use message::take;
pub(crate) use worker::{Answer, Inbound, Note, Worker};

/// Codes of the alarms that ingestion and admission raise.
pub(crate) mod alarm {
    /// A stored position came again with another epoch or body.
    pub(crate) const RECORD_CONFLICT: &str = "record-conflict";
    /// Two processes speak as one gateway.
    pub(crate) const TWO_GATEWAYS: &str = "two-gateways";
    /// A certificate that an enrolment made void was shown.
    pub(crate) const VOID_CERTIFICATE: &str = "void-certificate";
    /// The gateway lost positions that are stored here.
    pub(crate) const GATEWAY_BEHIND: &str = "gateway-behind";
    /// The gateway deleted positions as stored that are not here, or has taken a generation that was
    /// never stated here.
    pub(crate) const CLOUD_BEHIND: &str = "control-plane-behind";
    /// The gateway says that it has taken a generation which cannot be.
    pub(crate) const ABSURD_GENERATION: &str = "absurd-generation";
    /// The gateway follows another control plane.
    pub(crate) const FOREIGN_INSTANCE: &str = "foreign-instance";
}
