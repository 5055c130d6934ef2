//! `[[buses]]`: serial lines with devices that have no IP.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use device_protocol::serial::ADDRESS_MAX;

use super::{DeviceAccount, DeviceSecret, check_name, check_once};
use crate::toml_reader::{At, Problems, Section};

/// Bits a second without `baud`.
const BAUD_DEFAULT: u32 = 115_200;

/// One serial line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    /// Its name, in the status and in logs.
    pub name: String,
    /// Where its bytes come from.
    pub port: BusPort,
    /// Bits a second. Over TCP: what waits are reckoned by.
    pub baud: u32,
    /// Addresses to ask on a shared bus, in order; `None`: one device on a line of its own.
    pub addresses: Option<Vec<u8>>,
    /// Whether devices need no credential: who can touch the wire is believed.
    pub trust: bool,
    /// Who may be on the line; `None`: every device that proves itself.
    pub devices: Option<BTreeSet<String>>,
}

/// What is at the gateway's end of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusPort {
    /// A serial port or a pseudo-terminal.
    Device(PathBuf),
    /// A serial server that is connected to.
    Connect(SocketAddr),
    /// Takes one TCP connection at a time.
    Listen(SocketAddr),
}

impl BusPort {
    /// What only one bus may have; `None`: the system chooses the port.
    fn exclusive(&self) -> Option<String> {
        match self {
            Self::Device(path) => Some(path.display().to_string()),
            Self::Connect(address) => Some(address.to_string()),
            Self::Listen(address) => (address.port() != 0).then(|| address.to_string()),
        }
    }
}

/// Reads all of them; `accounts` are the devices of the file.
pub(super) fn read(
    root: &mut Section<'_, '_>,
    accounts: &[DeviceAccount],
    problems: &mut Problems<'_>,
) -> Vec<Bus> {
    let sections = root.sections("buses", problems);
    let spans: Vec<_> = sections.iter().map(|section| section.span_of("name")).collect();
    let port_spans: Vec<_> = sections.iter().map(port_span).collect();
    let buses: Vec<_> =
        sections.into_iter().map(|section| read_one(section, accounts, problems)).collect();
    let names = buses.iter().map(|(name, _)| name.as_str()).zip(spans);
    check_once("the bus", names.filter(|(name, _)| !name.is_empty()), problems);
    let ports = buses
        .iter()
        .zip(port_spans)
        .filter_map(|((_, bus), span)| Some((bus.as_ref()?.port.exclusive()?, span)));
    let ports: Vec<_> = ports.collect();
    let ports = ports.iter().map(|(port, span)| (port.as_str(), span.clone()));
    check_once("the port", ports, problems);
    buses.into_iter().filter_map(|(_, bus)| bus).collect()
}

/// Where the port of a bus stands in the file.
fn port_span(section: &Section<'_, '_>) -> Range<usize> {
    let keys = ["device", "tcp_connect", "tcp_listen"];
    let mut spans = keys.into_iter().map(|key| section.span_of(key));
    spans.find(|span| *span != section.span()).unwrap_or_else(|| section.span())
}

fn read_one(
    mut section: Section<'_, '_>,
    accounts: &[DeviceAccount],
    problems: &mut Problems<'_>,
) -> (String, Option<Bus>) {
    let name = section.required("name", problems);
    check_name(&name, "a bus's `name`", problems);
    let port = read_port(&mut section, problems);
    let baud = section.number("baud", 300..=12_000_000, problems);
    let addresses = read_addresses(&mut section, problems);
    let trust = section.boolean("trust", problems).unwrap_or(false);
    let devices = section.strings("devices", problems);
    let span = section.span();
    section.finish(problems);
    if trust && devices.is_empty() {
        problems.add(&span, "a bus with `trust = true` needs `devices`: the names it believes");
    }
    check_devices(&devices, trust, accounts, problems);
    let devices = (!devices.is_empty())
        .then(|| devices.into_iter().map(|device| device.value).collect::<BTreeSet<_>>());
    let bus = port.map(|port| Bus {
        name: name.value.clone(),
        port,
        baud: baud.and_then(|baud| u32::try_from(baud).ok()).unwrap_or(BAUD_DEFAULT),
        addresses,
        trust,
        devices,
    });
    (name.value, bus)
}

fn read_port(section: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Option<BusPort> {
    let device = section.string("device", problems);
    let connect = section.string("tcp_connect", problems);
    let listen = section.string("tcp_listen", problems);
    let exposed = section.boolean("plaintext_beyond_loopback", problems).unwrap_or(false);
    let span = section.span();
    let mut address = |at: At<String>| -> Option<SocketAddr> {
        let Ok(address) = at.value.parse::<SocketAddr>() else {
            let rule = "a TCP port must be ADDRESS:PORT, for example \"127.0.0.1:29100\"";
            problems.add(&at.span, rule);
            return None;
        };
        if !address.ip().is_loopback() && !exposed {
            let rule = "a bus over TCP is plaintext and stays on loopback; say \
                        `plaintext_beyond_loopback = true` if everyone on that network may read and forge";
            problems.add(&at.span, rule);
        }
        Some(address)
    };
    match (device, connect, listen) {
        (Some(device), None, None) => Some(BusPort::Device(device.value.into())),
        (None, Some(connect), None) => address(connect).map(BusPort::Connect),
        (None, None, Some(listen)) => address(listen).map(BusPort::Listen),
        _ => {
            let rule = "a bus needs exactly one of `device`, `tcp_connect` and `tcp_listen`";
            problems.add(&span, rule);
            None
        }
    }
}

/// A shared bus without `addresses` is searched for all of them.
fn read_addresses(section: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Vec<u8>> {
    let mode = section.string("mode", problems);
    let span = section.span_of("addresses");
    let values = section.values("addresses", problems);
    let shared = match mode.as_ref().map(|mode| mode.value.as_str()) {
        None | Some("point-to-point") => false,
        Some("rs485") => true,
        Some(_) => {
            let span = mode.map(|mode| mode.span).unwrap_or_default();
            problems.add(&span, "`mode` is \"point-to-point\" or \"rs485\"");
            return None;
        }
    };
    if !shared {
        if !values.is_empty() {
            problems.add(&span, "`addresses` go with `mode = \"rs485\"`");
        }
        return None;
    }
    let mut addresses = Vec::new();
    for value in &values {
        let address = value.value.as_u64().and_then(|n| u8::try_from(n).ok());
        match address.filter(|n| (1..=ADDRESS_MAX).contains(n)) {
            None => problems.add(&value.span, "an address is a number from 1 to 247"),
            Some(address) if addresses.contains(&address) => {
                problems.add(&value.span, format!("the address {address} stands here twice"));
            }
            Some(address) => addresses.push(address),
        }
    }
    Some(if values.is_empty() { (1..=ADDRESS_MAX).collect() } else { addresses })
}

fn check_devices(
    devices: &[At<String>],
    trust: bool,
    accounts: &[DeviceAccount],
    problems: &mut Problems<'_>,
) {
    for device in devices {
        let name = &device.value;
        match accounts.iter().find(|account| account.name == *name).map(|found| &found.secret) {
            None => problems.add(&device.span, format!("no [[devices]] has the name {name:?}")),
            Some(DeviceSecret::TokenSha256(_)) => {}
            Some(_) if trust => {}
            Some(_) => {
                let rule = "a device proves itself on a bus by `token_sha256`; or the bus says `trust = true`";
                problems.add(&device.span, rule);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    const DEVICES: &str = "name = \"g\"\n[[devices]]\nname = \"a\"\nwire = true\n[[devices]]\nname = \"b\"\n\
        token_sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n";

    #[test]
    fn buses_are_read() {
        let text = format!(
            "{DEVICES}[[buses]]\nname = \"hall\"\ndevice = \"/dev/ttyUSB0\"\nbaud = 9600\nmode = \"rs485\"\n\
             addresses = [3, 1]\ntrust = true\ndevices = [\"a\", \"b\"]\n\
             [[buses]]\nname = \"press\"\ntcp_listen = \"127.0.0.1:29100\"\n"
        );
        let settings = Settings::parse(&text).expect("valid");
        let hall = &settings.buses[0];
        assert_eq!(hall.port, BusPort::Device("/dev/ttyUSB0".into()));
        assert_eq!((hall.baud, &hall.addresses, hall.trust), (9_600, &Some(vec![3, 1]), true));
        let press = &settings.buses[1];
        assert_eq!((press.baud, &press.addresses, &press.devices), (115_200, &None, &None));
    }

    #[test]
    fn each_mistake_is_told_with_its_line() {
        let of = |bus: &str| {
            let text = format!("{DEVICES}[[buses]]\nname = \"x\"\n{bus}\n");
            let problems = Settings::parse(&text).expect_err("a mistake");
            problems.into_iter().map(|problem| problem.to_string()).collect::<Vec<_>>().join("\n")
        };
        let cases = [
            ("", "exactly one of `device`"),
            ("device = \"d\"\ntcp_listen = \"127.0.0.1:1\"", "exactly one of `device`"),
            ("tcp_listen = \"0.0.0.0:29100\"", "stays on loopback"),
            ("tcp_connect = \"here\"", "ADDRESS:PORT"),
            ("device = \"d\"\nmode = \"can\"", "\"rs485\""),
            ("device = \"d\"\naddresses = [1]", "go with"),
            ("device = \"d\"\nmode = \"rs485\"\naddresses = [0]", "from 1 to 247"),
            ("device = \"d\"\nmode = \"rs485\"\naddresses = [2, 2]", "stands here twice"),
            ("device = \"d\"\ntrust = true", "needs `devices`"),
            ("device = \"d\"\ndevices = [\"c\"]", "no [[devices]]"),
            ("device = \"d\"\ndevices = [\"a\"]", "by `token_sha256`"),
            ("device = \"d\"\nspeed = 3", "speed"),
            (
                "device = \"d\"\n[[buses]]\nname = \"y\"\ndevice = \"d\"",
                "the port \"d\" stands here",
            ),
            (
                "tcp_listen = \"127.0.0.1:7\"\n[[buses]]\nname = \"y\"\ntcp_listen = \"127.0.0.1:7\"",
                "the port \"127.0.0.1:7\" stands here",
            ),
        ];
        for (bus, expected) in cases {
            let found = of(bus);
            assert!(found.contains(expected), "{bus}: {found}");
        }
    }
}
