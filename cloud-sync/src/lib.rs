//! The Holm control plane: HTTP API, web pages, store, and the gateways' end of the uplink.
//!
//! A gateway speaks MQTT ([`sync_protocol`]) to an embedded broker; an operator speaks HTTP. What
//! gateways say is made durable and then receipted; what they should run is stated, again and
//! again, until they report it. [`init`] makes the directory of a control plane, [`serve`] runs
//! it, [`start`] runs it inside another program.

mod access;
mod api;
mod blobs;
mod clock;
mod deployments;
mod enrolment;
mod failure;
mod http;
mod identity;
mod ingest;
mod limits;
mod mqtt;
mod revisions;
mod serve;
mod store;
mod web;

pub use clock::Clock;
pub use failure::{Failure, Kind as FailureKind};
pub use identity::{IdentityError, InitOptions, InitReport, Settings, init};
pub use serve::{Config, Plaintext, Running, ServeError, add_gateway, serve, start};
pub use store::StoreError;
