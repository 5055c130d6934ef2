//! The native handler that Holm is compared with: `bench-handler ADDRESS`. It does what the
//! benchmark's function does, as a client of a broker. Nothing it holds survives it.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};

/// Requests that may wait for the connection: more than the load ever has under way, so that the
/// loop that drains them is never the one that waits for room.
const REQUESTS_MAX: usize = 200_000;
/// Outputs that wait for the broker's ack.
const IN_FLIGHT: u16 = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let address: SocketAddr =
        std::env::args().nth(1).context("usage: bench-handler ADDRESS")?.parse()?;
    let mut options = MqttOptions::new("bench-handler", address.ip().to_string(), address.port());
    options.set_inflight(IN_FLIGHT);
    let (client, mut connection) = AsyncClient::new(options, REQUESTS_MAX);
    connection.network_options.set_tcp_nodelay(true);
    client.try_subscribe("in/#", QoS::AtLeastOnce)?;
    loop {
        match connection.poll().await? {
            Event::Incoming(Packet::SubAck(_)) => println!("ready"),
            Event::Incoming(Packet::Publish(message)) => {
                let reading = serde_json::from_slice(&message.payload)?;
                let converted = pipeline_model::convert(reading);
                let converted = converted.map_err(|field| anyhow::anyhow!("no `{field}`"))?;
                if let Some((topic, reading)) = converted {
                    let payload = serde_json::to_vec(&reading)?;
                    client.try_publish(topic, QoS::AtLeastOnce, false, payload)?;
                }
            }
            _ => {}
        }
    }
}
