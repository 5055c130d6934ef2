//! What goes wrong in a simulation, as data. The seed chooses when, where and how badly.

use edge_agent::uplink::mqtt::KEEP_ALIVE;

/// Keep alive of devices.
pub const DEVICE_KEEP_ALIVE_S: u16 = 10;

/// What can go wrong with the network and with those on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A device's connection is reset.
    DeviceCut,
    /// It is reset behind a few more bytes, wherever in a packet that is.
    DeviceCutInside,
    /// A device's host vanishes: its connection stays half open at the gateway.
    DeviceVanishes,
    /// All devices' hosts vanish and stay away until the gateway must have noticed.
    AllVanish,
    /// A device's link is down for a while; nobody is told.
    DevicePartition,
    /// A device's link carries few bytes for a while.
    DeviceSlow,
    /// The uplink's connection is reset.
    UplinkCut,
    /// It is reset behind a few more bytes.
    UplinkCutInside,
    /// The uplink's connection goes silent for good, half open at both ends.
    UplinkVanishes,
    /// The uplink is down for a while.
    UplinkPartition,
    /// The uplink carries few bytes for a while.
    UplinkSlow,
    /// The control plane's process is killed and starts again.
    CloudRestart,
    /// The gateway's process is killed and starts again.
    GatewayKill,
    /// The gateway's power goes: the disk keeps what was synced, its peers hear nothing.
    GatewayPower,
    /// A client subscribes to what devices publish, and does not read.
    Deaf,
    /// Hundreds connect at once: silent ones, ones that stop in the middle, unknown ones.
    Storm,
}

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What goes wrong, and the mean time between two of a kind in seconds.
    pub faults: &'static [(Fault, u64)],
    /// Whether nothing of it concerns the links of devices or the gateway: acks must then be prompt.
    pub is_prompt: bool,
    /// Keep alive of devices in seconds; 0: none.
    pub device_keep_alive_s: u16,
    /// Keep alive of the uplink in seconds.
    pub uplink_keep_alive_s: u64,
}

use Fault::{
    AllVanish, CloudRestart, Deaf, DeviceCut, DeviceCutInside, DevicePartition, DeviceSlow,
    DeviceVanishes, GatewayKill, GatewayPower, Storm, UplinkCut, UplinkCutInside, UplinkPartition,
    UplinkSlow, UplinkVanishes,
};

/// A scenario with the keep-alives of the product, and of devices as they should be.
#[must_use]
pub const fn scenario(
    name: &'static str,
    is_prompt: bool,
    faults: &'static [(Fault, u64)],
) -> Scenario {
    let uplink_keep_alive_s = KEEP_ALIVE.as_secs();
    let device_keep_alive_s = DEVICE_KEEP_ALIVE_S;
    Scenario { name, faults, is_prompt, device_keep_alive_s, uplink_keep_alive_s }
}

const fn bad(name: &'static str, faults: &'static [(Fault, u64)]) -> Scenario {
    scenario(name, false, faults)
}

const fn prompt(name: &'static str, faults: &'static [(Fault, u64)]) -> Scenario {
    scenario(name, true, faults)
}

/// All scenarios.
pub const ALL: &[Scenario] = &[
    prompt("calm", &[]),
    bad("half-open-devices", &[(DeviceVanishes, 10), (AllVanish, 40)]),
    prompt("half-open-uplink", &[(UplinkVanishes, 30)]),
    bad("partitions", &[(DevicePartition, 15), (UplinkPartition, 20)]),
    bad("cut-in-packets", &[(DeviceCutInside, 3), (UplinkCutInside, 8)]),
    bad("cuts", &[(DeviceCut, 3), (UplinkCut, 8)]),
    prompt("control-plane-restarts", &[(CloudRestart, 12)]),
    bad("gateway-restarts", &[(GatewayKill, 20), (GatewayPower, 25)]),
    bad("slow-links", &[(DeviceSlow, 15), (UplinkSlow, 15)]),
    prompt("deaf-clients", &[(Deaf, 6)]),
    prompt("connect-storms", &[(Storm, 15)]),
    bad(
        "everything",
        &[
            (DeviceCut, 20),
            (DeviceCutInside, 15),
            (DeviceVanishes, 20),
            (DevicePartition, 25),
            (DeviceSlow, 30),
            (UplinkCut, 30),
            (UplinkCutInside, 25),
            (UplinkVanishes, 50),
            (UplinkPartition, 40),
            (UplinkSlow, 40),
            (CloudRestart, 35),
            (GatewayKill, 50),
            (GatewayPower, 60),
            (Deaf, 40),
            (Storm, 50),
        ],
    ),
];

/// The scenario of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
