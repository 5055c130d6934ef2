//! Settings of the deployment: `config` in `holm.toml`.

use std::fmt::Display;
use std::str::FromStr;

use crate::failure::{Failure, Result};
use crate::host;

/// The value of a key.
#[must_use]
pub fn get(key: &str) -> Option<String> {
    host::config_get(key)
}

/// The value of a key as a number or whatever else can be read from text; `default` if the
/// deployment does not set it.
///
/// # Errors
/// A retry if it is set to something else: the next deployment may correct it.
pub fn get_or<T: FromStr<Err: Display>>(key: &str, default: T) -> Result<T> {
    let Some(text) = get(key) else { return Ok(default) };
    text.parse().map_err(|error| Failure::Retry(format!("config `{key}` = \"{text}\": {error}")))
}
