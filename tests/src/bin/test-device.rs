//! A simulated device as a process of its own: `test-device PLAN.json`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use system_tests::device::{self, Plan};
use system_tests::ledger::Ledger;
use system_tests::mqtt::Login;
use system_tests::readings;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    name: String,
    token: String,
    address: SocketAddr,
    ca: PathBuf,
    data: PathBuf,
    count: usize,
    rate_per_s: Option<f64>,
    ids: bool,
    boot: u64,
    ledger: PathBuf,
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: test-device PLAN.json")?;
    let arguments: Arguments = serde_json::from_slice(&std::fs::read(path)?)?;
    let mut readings = readings::read(&arguments.data)?;
    readings.truncate(arguments.count);
    let plan = Plan {
        login: Login {
            ca: Some(arguments.ca),
            password: Some(arguments.token),
            ..Login::anonymous(arguments.address, &arguments.name)
        },
        topic: format!("sensors/{}", arguments.name),
        window: 50,
        rate_per_s: arguments.rate_per_s,
        ids: arguments.ids,
        patience: Duration::from_secs(60),
        stop: None,
    };
    device::run(&plan, &readings, arguments.boot, &mut Ledger::create(&arguments.ledger)?)
}
