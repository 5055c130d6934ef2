//! What else a board has to know where it is installed: a text file in a flash page of its own, lines of `key = value`.
//!
//! The text ends at the first byte 0xFF or 0x00; erased flash is an empty file. A line that begins with `#` says nothing.

use core::fmt;

/// Bytes of a settings file, at most.
pub const SETTINGS_BYTES: usize = 1024;
/// A network's name, in bytes (IEEE 802.11).
const SSID_MAX: usize = 32;
/// A password of WPA2, in bytes.
const PASSWORD_BYTES: core::ops::RangeInclusive<usize> = 8..=63;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Settings<'a> {
    /// `wifi_ssid`: name of the Wi-Fi network.
    pub wifi_ssid: Option<&'a str>,
    /// `wifi_password`, 8 to 63 bytes; none: the network is open.
    pub wifi_password: Option<&'a str>,
    /// `address` on a shared serial bus, 1 to 247; none: a line of its own.
    pub address: Option<u8>,
    /// `period_ms`: from reading to reading after the start, in milliseconds.
    pub period_ms: u32,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Self { wifi_ssid: None, wifi_password: None, address: None, period_ms: 10_000 }
    }
}

impl fmt::Debug for Settings<'_> {
    /// Without the password: this may end in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("wifi_ssid", &self.wifi_ssid)
            .field("address", &self.address)
            .field("period_ms", &self.period_ms)
            .finish_non_exhaustive()
    }
}

/// Why the settings are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// They are not UTF-8.
    Text,
    /// This line, from 1.
    Line(usize),
    /// A board with Wi-Fi, and no `wifi_ssid`.
    NoNetwork,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("the settings in flash are no text: write them anew"),
            // Not the line itself: it may hold the password.
            Self::Line(line) => write!(
                f,
                "line {line} of the settings in flash: wanted `wifi_ssid = 1 to 32 bytes`, `wifi_password = 8 to 63 \
                 bytes`, `address = 1 to 247` or `period_ms = 1 or more`"
            ),
            Self::NoNetwork => f.write_str(
                "no Wi-Fi network in the settings in flash: write a file with `wifi_ssid = ...` and `wifi_password \
                 = ...` there, as the README says",
            ),
        }
    }
}

impl<'a> Settings<'a> {
    /// Reads the page.
    ///
    /// # Errors
    /// [`Problem::Text`] and [`Problem::Line`].
    pub fn parse(page: &'a [u8]) -> Result<Self, Problem> {
        let end = page.iter().position(|byte| matches!(byte, 0 | 0xFF)).unwrap_or(page.len());
        let text = core::str::from_utf8(&page[..end]).map_err(|_| Problem::Text)?;
        let mut settings = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                settings.set(line).ok_or(Problem::Line(index + 1))?;
            }
        }
        Ok(settings)
    }

    /// The network to join.
    ///
    /// # Errors
    /// [`Problem::NoNetwork`].
    pub fn network(&self) -> Result<&'a str, Problem> {
        self.wifi_ssid.ok_or(Problem::NoNetwork)
    }

    fn set(&mut self, line: &'a str) -> Option<()> {
        let (key, value) = line.split_once('=')?;
        let value = value.trim();
        match key.trim() {
            "wifi_ssid" => {
                self.wifi_ssid = Some(value).filter(|ssid| (1..=SSID_MAX).contains(&ssid.len()));
                self.wifi_ssid.map(drop)
            }
            "wifi_password" => {
                self.wifi_password =
                    Some(value).filter(|password| PASSWORD_BYTES.contains(&password.len()));
                self.wifi_password.map(drop)
            }
            "address" => {
                self.address = value.parse().ok().filter(|address| (1..=247).contains(address));
                self.address.map(drop)
            }
            "period_ms" => {
                self.period_ms = value.parse().ok().filter(|ms| *ms > 0)?;
                Some(())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_what_is_behind_it_in_flash() {
        let text = b"# the barn\nwifi_ssid = Barn 3\r\nwifi_password = a = b & c\n\naddress=7\nperiod_ms=500\n\xFF\xFFjunk";
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.network(), Ok("Barn 3"));
        assert_eq!(settings.wifi_password, Some("a = b & c"));
        assert_eq!((settings.address, settings.period_ms), (Some(7), 500));
        assert!(!format!("{settings:?}").contains("a = b"), "the password is in no log");
    }

    #[test]
    fn erased_flash_is_an_empty_file() {
        let settings = Settings::parse(&[0xFF; 64]).unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.network(), Err(Problem::NoNetwork));
    }

    #[test]
    fn what_is_not_understood_names_its_line_and_does_not_show_it() {
        let long = ["wifi_ssid = ", &"x".repeat(33)].concat();
        let lines = [
            "ssid = barn",
            "wifi_ssid =",
            "wifi_password = short",
            "address = 248",
            "address = 0",
            "period_ms = 0",
            "wifi_password",
            long.as_str(),
        ];
        for line in lines {
            let text = format!("period_ms = 1\n{line}\n");
            let problem = Settings::parse(text.as_bytes()).unwrap_err();
            assert_eq!(problem, Problem::Line(2), "{line}");
            assert!(!problem.to_string().contains("short"), "{problem}");
        }
        assert_eq!(Settings::parse(b"\x80\x81"), Err(Problem::Text));
    }
}
