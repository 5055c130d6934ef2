//! The broker on real sockets: plain TCP and TLS, with foreign clients and with raw bytes.

mod clients;
mod hostile;
mod load;
mod owner;
mod raw;
mod tls;
