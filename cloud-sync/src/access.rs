//! Operators: who may use the API.

use sync_protocol::Digest;

use crate::failure::{Failure, Kind};
use crate::store::{self, Store};

/// The name of the operator with this bearer token.
///
/// Tokens have 256 random bits: a fast hash is enough, and guessing is hopeless however often
/// somebody tries.
pub(crate) fn operator(store: &dyn Store, token: &str) -> Result<String, Failure> {
    let digest = Digest::of(token.as_bytes());
    let operator = store::read(store, |rows| rows.operator(&digest))?;
    operator.map(|row| row.name).ok_or_else(|| refused("the operator token is not known here"))
}

/// Nobody known asks.
pub(crate) fn refused(error: &str) -> Failure {
    let hint = "send `Authorization: Bearer TOKEN` with the token that `holm cloud init` printed";
    Failure::new(Kind::Unauthenticated, error, hint)
}
