//! Goal: however the network breaks, what clients saw holds: nothing acked is lost, nothing is done
//! twice, half-open peers are noticed, links come back, slow readers hold nobody up.
//! Method: every scenario with one seed, in virtual time; the oracles of the simulator judge, and
//! those of this package.

use netsim::run::{self, Report};
use netsim::scenario::{self, Fault, Scenario};

fn holds(name: &str, seed: u64) -> Report {
    let scenario = scenario::named(name).expect("a scenario");
    let report = run::run(scenario, seed);
    let again = "again: cargo xtask netsim --trace --scenario";
    assert_eq!(report.failure, None, "{again} {name} --seed {seed}");
    assert!(report.acked > 100, "{name}: only {} messages were acked", report.acked);
    report
}

/// As [`holds`]; each of these must have happened, or the scenario proves nothing.
fn meets(name: &str, seed: u64, happened: &[&str]) -> Report {
    let report = holds(name, seed);
    for what in happened {
        assert!(report.faults.contains_key(what), "{name}: no {what} in {:?}", report.faults);
    }
    report
}

#[test]
fn a_calm_network() {
    let report = holds("calm", 1);
    assert_eq!(report.faults.len(), 0, "{:?}", report.faults);
}

#[test]
fn half_open_devices_are_noticed_by_their_keep_alive() {
    meets(
        "half-open-devices",
        1,
        &["device-vanished", "all-devices-vanished", "half-open-noticed"],
    );
}

#[test]
fn a_half_open_uplink_is_noticed_and_made_again() {
    let report = meets("half-open-uplink", 1, &["uplink-vanished", "uplink-back"]);
    // It is noticed by a ping that is not answered, not by luck.
    assert!(report.link_back_us_max > 15_000_000, "{report:?}");
}

#[test]
fn partitions_heal() {
    meets("partitions", 1, &["device-partition", "uplink-partition"]);
}

#[test]
fn connections_cut_within_packets() {
    meets("cut-in-packets", 1, &["device-cut-inside", "uplink-cut-inside"]);
}

#[test]
fn connections_cut() {
    meets("cuts", 1, &["device-cut", "uplink-cut", "uplink-back"]);
}

#[test]
fn the_control_plane_restarts_in_mid_flight() {
    meets("control-plane-restarts", 1, &["control-plane-restart", "uplink-back"]);
}

#[test]
fn the_gateway_restarts_in_mid_flight() {
    meets("gateway-restarts", 1, &["gateway-killed", "gateway-power-cut", "uplink-back"]);
}

#[test]
fn slow_links() {
    meets("slow-links", 1, &["device-slow", "uplink-slow"]);
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let report = meets("deaf-clients", 1, &["deaf-client", "deaf-client-closed"]);
    // More than the network's window: it waited in the gateway, which then gave them up.
    assert!(report.egress_bytes_max > 200 << 10, "{report:?}");
}

#[test]
fn a_storm_of_connects_holds_nobody_up() {
    meets("connect-storms", 1, &["connect-storm"]);
}

#[test]
fn everything_at_once() {
    holds("everything", 1);
}

/// The oracle that convicts a gateway without this.
fn convicted_by(scenario: &'static Scenario) -> String {
    let failure = run::run(scenario, 1).failure;
    failure.map_or_else(|| "nobody".to_owned(), |failure| failure.oracle)
}

#[test]
fn devices_without_keep_alive_are_convicted() {
    static WITHOUT: Scenario = Scenario {
        device_keep_alive_s: 0,
        ..scenario::scenario("no-device-keep-alive", false, &[(Fault::AllVanish, 30)])
    };
    assert_eq!(convicted_by(&WITHOUT), "half-open");
}

#[test]
fn an_uplink_without_keep_alive_is_convicted() {
    static WITHOUT: Scenario = Scenario {
        uplink_keep_alive_s: 3_600,
        ..scenario::scenario("no-uplink-keep-alive", false, &[(Fault::UplinkVanishes, 20)])
    };
    assert_eq!(convicted_by(&WITHOUT), "link-back");
}
