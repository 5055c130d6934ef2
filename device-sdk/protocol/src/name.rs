//! Names of devices.

use core::fmt;
use core::ops::Deref;

use heapless::String;

use crate::Error;
use crate::limits::NAME_MAX;

/// Name of a device: 1 to 64 of `a-z`, `A-Z`, `0-9`, `-`, `_` and `.`. It stands in the certificate, in topics and in
/// envelopes, and needs no escaping anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName(String<NAME_MAX>);

impl DeviceName {
    /// Takes a name.
    ///
    /// # Errors
    /// [`Error::Name`] if it is not one.
    pub fn new(name: &str) -> Result<Self, Error> {
        check(name)?;
        String::try_from(name).map(Self).map_err(|_| Error::Name)
    }
}

impl Deref for DeviceName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `name` is one.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if letters && (1..=NAME_MAX).contains(&name.len()) { Ok(()) } else { Err(Error::Name) }
}
