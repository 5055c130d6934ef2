//! The uplink against a control plane that is scripted packet by packet: each pitfall of the MQTT
//! client (the list stands in `src/uplink/mqtt.rs`) is a test, what a restored store means, and what
//! lies between client and wire.

mod between;
mod gateway;
mod peer;
mod pitfalls;
mod restored;
