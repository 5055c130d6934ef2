//! The broker driven by hand: a rig plays owner, store, transport and clients.

mod aliases;
mod bounds;
mod connect;
mod deliver;
mod model;
mod publish;
mod retained;
mod rig;
mod share;
mod subscription_ids;
mod survive;
mod will;
