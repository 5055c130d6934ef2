//! A subscriber as a process of its own: `test-subscriber PLAN.json`. It writes down what it
//! receives, connects again when the connection is lost, and runs until it is ended.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use edge_broker::codec::{Ack, Packet, PacketId, Subscribe, SubscribeOptions};
use edge_core::message::QoS;
use serde::Deserialize;
use system_tests::ledger::{Fact, Ledger, wall_ms};
use system_tests::mqtt::{Client, Login};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    name: String,
    token: String,
    address: SocketAddr,
    ca: PathBuf,
    filters: Vec<String>,
    ledger: PathBuf,
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: test-subscriber PLAN.json")?;
    let arguments: Arguments = serde_json::from_slice(&std::fs::read(path)?)?;
    let mut ledger = Ledger::create(&arguments.ledger)?;
    loop {
        if let Err(err) = listen(&arguments, &mut ledger) {
            eprintln!("{err:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn listen(arguments: &Arguments, ledger: &mut Ledger) -> Result<()> {
    let mut client = Client::connect(&Login {
        ca: Some(arguments.ca.clone()),
        password: Some(arguments.token.clone()),
        session_expiry_s: 3_600,
        clean: false,
        ..Login::anonymous(arguments.address, &arguments.name)
    })?;
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let filters = arguments.filters.iter().map(|text| Ok((text.parse()?, options)));
    client.queue(&Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(1).context("1 is a packet id")?,
        subscription_id: None,
        filters: filters.collect::<Result<_>>()?,
    }));
    client.flush()?;
    loop {
        let Some(packet) = client.next(Duration::from_millis(500))? else {
            ledger.flush()?;
            continue;
        };
        if let Packet::Publish(publish) = packet {
            let payload = String::from_utf8_lossy(&publish.payload).into_owned();
            let topic = publish.topic.as_str().to_owned();
            ledger.note(&Fact::Received { topic, payload, at_ms: wall_ms() })?;
            if let Some(packet_id) = publish.packet_id {
                client.queue(&Packet::PubAck(Ack::ok(packet_id)));
                client.flush()?;
            }
        }
    }
}
