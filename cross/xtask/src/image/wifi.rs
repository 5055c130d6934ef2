//! Wi-Fi: the network that an image joins, and the firmware that the root has for it.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::parts::Parts;
use super::root::Contents;

/// Bytes of a network's name (IEEE 802.11-2020, 9.4.2.2).
const NAME_BYTES_MAX: usize = 32;
/// Characters of a passphrase (IEEE 802.11-2020, J.4.1).
const PASSPHRASE: std::ops::RangeInclusive<usize> = 8..=63;
/// Longest file with a passphrase that is read.
const FILE_BYTES_MAX: usize = 256;

/// Chips of Raspberry Pi boards, as their firmware is named.
const CHIPS: &[&str] = &["brcmfmac43430-sdio", "brcmfmac43455-sdio"];

/// A network to join.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Network {
    name: String,
    passphrase: String,
    country: String,
}

/// The passphrase is nobody's business.
impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Network {
    /// A network whose radio obeys the rules of `country`, two letters of ISO 3166.
    pub(crate) fn new(name: &str, passphrase: &str, country: &str) -> Result<Self> {
        ensure!(
            (1..=NAME_BYTES_MAX).contains(&name.len()),
            "--wifi: a network's name has 1 to {NAME_BYTES_MAX} bytes, this one has {}",
            name.len()
        );
        let is_printable = passphrase.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        ensure!(
            is_printable && PASSPHRASE.contains(&passphrase.len()),
            "the passphrase of a Wi-Fi network has 8 to 63 characters of ASCII; a network without \
             one, or with certificates, needs a `holm/wifi.conf` of your own (docs/gateway-image.md)"
        );
        ensure!(
            country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase()),
            "--wifi-country {country:?}: two capital letters, as DE: they say what the radio may do"
        );
        Ok(Self {
            name: name.to_owned(),
            passphrase: passphrase.to_owned(),
            country: country.to_owned(),
        })
    }

    /// The passphrase in a file: its first line.
    pub(crate) fn passphrase(file: &Path) -> Result<String> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("--wifi-passphrase {}", file.display()))?;
        ensure!(text.len() <= FILE_BYTES_MAX, "{} is too long for one", file.display());
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// As `wpa_supplicant` reads it: WPA2 and WPA3. The name is in hexadecimal, since it may have any
    /// byte; a quotation mark within the passphrase is none for it, which looks for the last one.
    pub(crate) fn to_config(&self) -> String {
        let name: String = self.name.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "country={}\nnetwork={{\n  ssid={name}\n  scan_ssid=1\n  psk=\"{}\"\n  \
             key_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\n  ieee80211w=1\n}}\n",
            self.country, self.passphrase
        )
    }
}

/// What drivers load, as files of the root.
pub(crate) fn firmware(parts: &Parts, is_pi: bool) -> Result<Vec<Contents>> {
    let mut files = Vec::new();
    // What the kernel checks by Debian's key, which is built into it.
    for (from, to) in [("db-debian", "db"), ("db.p7s-debian", "db.p7s")] {
        let from = parts.path("wireless-regdb", &format!("usr/lib/firmware/regulatory.{from}"))?;
        files.push((format!("usr/lib/firmware/regulatory.{to}"), read(&from)?));
    }
    if is_pi {
        of_chips(parts, &mut files)?;
    }
    Ok(files)
}

/// Firmware of the chips, and its settings for boards by Raspberry Pi.
fn of_chips(parts: &Parts, files: &mut Vec<Contents>) -> Result<()> {
    let dir = parts.path("firmware-brcm80211", "usr/lib/firmware/brcm")?;
    for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_of_pi(&name) {
            files.push((format!("usr/lib/firmware/brcm/{name}"), read(&entry.path())?));
        }
    }
    for chip in CHIPS {
        let firmware = format!("usr/lib/firmware/brcm/{chip}.bin");
        ensure!(files.iter().any(|(path, _)| *path == firmware), "no firmware for {chip}");
    }
    Ok(())
}

fn is_of_pi(name: &str) -> bool {
    let rest = CHIPS.iter().find_map(|chip| name.strip_prefix(chip));
    rest.is_some_and(|rest| {
        rest.starts_with(".raspberrypi,") || [".bin", ".clm_blob"].contains(&rest)
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::{Network, is_of_pi};

    #[test]
    fn a_network_is_written_as_wpa_supplicant_reads_it() {
        let network = Network::new("Höhle 7", "say \"friend\" 1", "DE").expect("good");
        let text = network.to_config();
        assert!(text.starts_with("country=DE\n"), "{text}");
        assert!(text.contains("ssid=48c3b6686c652037\n"), "{text}");
        assert!(text.contains("psk=\"say \"friend\" 1\"\n"), "{text}");
        assert!(!format!("{network:?}").contains("friend"));
    }

    #[test]
    fn what_no_network_can_have_is_refused() {
        for (name, passphrase, country) in [
            ("", "long enough", "DE"),
            ("a name of more than thirty-two bytes", "long enough", "DE"),
            ("barn", "short", "DE"),
            ("barn", "a\nb = 1 and so on", "DE"),
            ("barn", &"x".repeat(64), "DE"),
            ("barn", "long enough", "de"),
            ("barn", "long enough", "DEU"),
        ] {
            assert!(Network::new(name, passphrase, country).is_err(), "{name} {passphrase}");
        }
    }

    #[test]
    fn firmware_of_other_boards_stays_out() {
        assert!(is_of_pi("brcmfmac43455-sdio.raspberrypi,4-model-b.txt"));
        assert!(is_of_pi("brcmfmac43430-sdio.clm_blob"));
        assert!(!is_of_pi("brcmfmac43455-sdio.pine64,quartz64-a.txt"));
        assert!(!is_of_pi("brcmfmac43430a0-sdio.bin"));
    }
}
