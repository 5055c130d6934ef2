//! What the command line says: `key=value` words.

use core::fmt;
use core::net::Ipv4Addr;

use board_mps2::{log, sim};

/// Exit code of a device that cannot start as it was told to.
const EXIT_USAGE: u32 = 2;

/// Settings of the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'a> {
    /// Who it is where its flash does not say; `name=`.
    pub(crate) name: &'a str,
    /// The gateway where its flash does not say; `host=`, default QEMU's name for the host.
    pub(crate) host: Ipv4Addr,
    /// `port=`.
    pub(crate) port: u16,
    /// Between two readings; `period_ms=`.
    pub(crate) period_ms: u32,
    /// Longest wait between two attempts to connect; `backoff_ms_max=`.
    pub(crate) backoff_ms_max: u32,
    /// Readings to publish as fast as the gateway takes them, before all others; `burst=`.
    pub(crate) burst: u32,
    /// How long a new image has to reach the gateway; `confirm_ms_max=`, default five minutes.
    #[cfg(feature = "update")]
    pub(crate) confirm_ms_max: u32,
    /// How wrong its clock is; `drift_ppm=` and `offset_ms=`.
    #[cfg(feature = "wrong-clock")]
    pub(crate) clock_error: device_sdk::ClockError,
}

/// A word that is not understood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BadWord<'a>(&'a str);

impl fmt::Display for BadWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = "name=NAME host=IPV4 port=1..65535 period_ms=1.. backoff_ms_max=1.. burst=0..";
        write!(f, "`{}` on the command line: wanted {wanted}", self.0)?;
        if cfg!(feature = "update") {
            f.write_str(" confirm_ms_max=1..")?;
        }
        if cfg!(feature = "wrong-clock") {
            f.write_str(" drift_ppm=INTEGER offset_ms=INTEGER")?;
        }
        Ok(())
    }
}

/// Says what is wrong, and ends the simulated device.
pub(crate) fn end(problem: &dyn fmt::Display) -> ! {
    log!("{problem}");
    sim::exit(EXIT_USAGE)
}

impl<'a> Settings<'a> {
    /// Reads the words behind the firmware's name.
    ///
    /// # Errors
    /// The first word that is not understood.
    pub(crate) fn parse(line: &'a str) -> Result<Self, BadWord<'a>> {
        let host = Ipv4Addr::new(10, 0, 2, 2);
        let mut settings = Self {
            name: "press",
            host,
            port: 1883,
            period_ms: 1_000,
            backoff_ms_max: 10_000,
            burst: 0,
            #[cfg(feature = "update")]
            confirm_ms_max: 300_000,
            #[cfg(feature = "wrong-clock")]
            clock_error: Default::default(),
        };
        for word in line.split_ascii_whitespace().skip(1) {
            settings.set(word).ok_or(BadWord(word))?;
        }
        Ok(settings)
    }

    fn set(&mut self, word: &'a str) -> Option<()> {
        let (key, value) = word.split_once('=')?;
        match key {
            "name" => self.name = value,
            "host" => self.host = value.parse().ok()?,
            "port" => self.port = value.parse().ok().filter(|port| *port > 0)?,
            "period_ms" => self.period_ms = value.parse().ok().filter(|ms| *ms > 0)?,
            "backoff_ms_max" => {
                self.backoff_ms_max = value.parse().ok().filter(|ms| *ms > 0)?;
            }
            "burst" => self.burst = value.parse().ok()?,
            #[cfg(feature = "update")]
            "confirm_ms_max" => {
                self.confirm_ms_max = value.parse().ok().filter(|ms| *ms > 0)?;
            }
            #[cfg(feature = "wrong-clock")]
            "drift_ppm" => self.clock_error.drift_ppm = value.parse().ok()?,
            #[cfg(feature = "wrong-clock")]
            "offset_ms" => self.clock_error.offset_ms = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}
