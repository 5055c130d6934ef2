//! The gateway process: composition of broker, core, store, runtime and uplink around one loop.
//!
//! Start and recovery are one path: open the store, rebuild broker and core from it, go on. After a
//! failed commit everything made from the store is dropped and built again.

mod access;
mod admin;
mod answers;
mod block_device;
mod blueprint;
mod clock;
mod commit;
mod counter;
mod deliveries;
mod deploy;
mod effects;
mod feed;
mod firmware;
mod functions;
mod gateway;
mod inbox;
mod library;
mod link;
mod lives;
mod machine;
mod notices;
mod order;
mod outbox;
mod pages;
mod plant;
mod prepare;
mod release;
mod report;
mod reserve;
mod room;
mod seams;
mod stand_in;
mod start;
mod state;
mod status;
pub mod stepped;
mod system;
mod telemetry;
mod timeline;
mod turns;
mod update;
mod wear;

pub use start::{Agent, Pulse, RunError, Stopper};
