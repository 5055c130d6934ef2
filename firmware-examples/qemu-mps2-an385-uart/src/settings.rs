//! What the command line says: `key=value` words.

use core::fmt;

use device_sdk::protocol::DeviceName;

/// Settings of the device.
#[derive(Clone, Debug)]
pub(crate) struct Settings<'a> {
    /// `name=`.
    pub(crate) name: DeviceName,
    /// `token=`; empty where the gateway trusts the line.
    pub(crate) token: &'a str,
    /// Its address on a shared bus; `address=`.
    pub(crate) address: Option<u8>,
    /// Between two readings; `period_ms=`.
    pub(crate) period_ms: u32,
    /// Readings to publish as fast as the gateway takes them, before all others; `burst=`.
    pub(crate) burst: u32,
    /// How long a new image has to reach the gateway; `confirm_ms_max=`, default five minutes.
    #[cfg(feature = "update")]
    pub(crate) confirm_ms_max: u32,
}

/// A word that is not understood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BadWord<'a>(&'a str);

impl fmt::Display for BadWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = "name=NAME token=TOKEN address=1..247 period_ms=1.. burst=0..";
        write!(f, "`{}` on the command line: wanted {wanted}", self.0)?;
        if cfg!(feature = "update") { f.write_str(" confirm_ms_max=1..") } else { Ok(()) }
    }
}

impl<'a> Settings<'a> {
    /// Reads the words behind the firmware's name.
    ///
    /// # Errors
    /// The first word that is not understood.
    pub(crate) fn parse(line: &'a str) -> Result<Self, BadWord<'a>> {
        let name = DeviceName::new("press").map_err(|_| BadWord("name"))?;
        let mut settings = Self {
            name,
            token: "",
            address: None,
            period_ms: 1000,
            burst: 0,
            #[cfg(feature = "update")]
            confirm_ms_max: 300_000,
        };
        for word in line.split_whitespace().skip(1) {
            settings.set(word).ok_or(BadWord(word))?;
        }
        Ok(settings)
    }

    fn set(&mut self, word: &'a str) -> Option<()> {
        let (key, value) = word.split_once('=')?;
        match key {
            "name" => self.name = DeviceName::new(value).ok()?,
            "token" => self.token = value,
            "address" => {
                let address = value.parse().ok().filter(|n| (1..=247).contains(n))?;
                self.address = Some(address);
            }
            "period_ms" => self.period_ms = value.parse().ok().filter(|ms| *ms > 0)?,
            "burst" => self.burst = value.parse().ok()?,
            #[cfg(feature = "update")]
            "confirm_ms_max" => {
                self.confirm_ms_max = value.parse().ok().filter(|ms| *ms > 0)?;
            }
            _ => return None,
        }
        Some(())
    }
}
