//! Firmware updates: which offers are taken ([`plan`]), how their bytes are fetched ([`fetch`]), where they are kept
//! ([`slot`]).

pub mod fetch;
pub mod plan;
pub mod slot;
