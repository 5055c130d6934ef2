//! Who is let in on a bus.

use std::collections::{BTreeMap, BTreeSet};

use device_protocol::serial::Hello;

use crate::settings::{Bus, DeviceSecret, Settings};

/// The devices of one bus.
#[derive(Debug)]
pub(super) struct Roster {
    trust: bool,
    named: Option<BTreeSet<String>>,
    secrets: BTreeMap<String, DeviceSecret>,
}

impl Roster {
    pub(super) fn new(settings: &Settings, bus: &Bus) -> Self {
        let secrets = settings.devices.iter();
        Self {
            trust: bus.trust,
            named: bus.devices.clone(),
            secrets: secrets.map(|device| (device.name.clone(), device.secret.clone())).collect(),
        }
    }

    /// Whether a device may come; the reason is for the log.
    pub(super) fn admit(&self, hello: &Hello<'_>) -> Result<(), &'static str> {
        if self.named.as_ref().is_some_and(|named| !named.contains(hello.device)) {
            return Err("the bus does not name the device");
        }
        match self.secrets.get(hello.device) {
            None => Err("no account for the device"),
            Some(_) if self.trust => Ok(()),
            Some(DeviceSecret::TokenSha256(hash)) => {
                let given = ring::digest::digest(&ring::digest::SHA256, hello.credential);
                // A hash of a random token: comparing it tells nothing of the token.
                if given.as_ref() == hash { Ok(()) } else { Err("wrong token") }
            }
            Some(_) => Err("the device has no token, and the bus is not trusted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: &str = "name = \"g\"\n[[devices]]\nname = \"a\"\nwire = true\n[[devices]]\nname = \"b\"\n\
        token_sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n";

    fn admit(bus: &str, device: &str, credential: &[u8]) -> Result<(), &'static str> {
        let text = format!("{DEVICES}[[buses]]\nname = \"x\"\ndevice = \"d\"\n{bus}\n");
        let settings = Settings::parse(&text).expect("valid");
        let roster = Roster::new(&settings, &settings.buses[0]);
        roster.admit(&Hello { device, credential, message_max: 100 })
    }

    #[test]
    fn a_token_or_a_trusted_wire_lets_in() {
        assert_eq!(admit("", "b", b"test"), Ok(()));
        assert_eq!(admit("", "b", b"tost"), Err("wrong token"));
        assert!(admit("", "a", b"test").is_err(), "a wire that is not trusted");
        assert!(admit("", "c", b"test").is_err());
        let trusted = "trust = true\ndevices = [\"a\"]";
        assert_eq!(admit(trusted, "a", b""), Ok(()));
        assert_eq!(admit(trusted, "b", b"test"), Err("the bus does not name the device"));
    }
}
