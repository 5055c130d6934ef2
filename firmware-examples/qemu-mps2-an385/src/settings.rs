//! What the command line says: `key=value` words.

use core::fmt;
use core::net::Ipv4Addr;

/// Settings of the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Whom it reports to; `host=`, default QEMU's name for the host.
    pub(crate) host: Ipv4Addr,
    /// `port=`.
    pub(crate) port: u16,
    /// Between two readings; `period_ms=`.
    pub(crate) period_ms: u32,
}

/// A word that is not understood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BadWord<'a>(&'a str);

impl fmt::Display for BadWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` on the command line: wanted host=IPV4 port=1..65535 period_ms=1..", self.0)
    }
}

impl Settings {
    /// Reads the words behind the firmware's name.
    ///
    /// # Errors
    /// The first word that is not understood.
    pub(crate) fn parse(line: &str) -> Result<Self, BadWord<'_>> {
        let mut settings = Self { host: Ipv4Addr::new(10, 0, 2, 2), port: 1883, period_ms: 1000 };
        for word in line.split_whitespace().skip(1) {
            settings.set(word).ok_or(BadWord(word))?;
        }
        Ok(settings)
    }

    fn set(&mut self, word: &str) -> Option<()> {
        let (key, value) = word.split_once('=')?;
        match key {
            "host" => self.host = value.parse().ok()?,
            "port" => self.port = value.parse().ok().filter(|port| *port > 0)?,
            "period_ms" => self.period_ms = value.parse().ok().filter(|ms| *ms > 0)?,
            _ => return None,
        }
        Some(())
    }
}
