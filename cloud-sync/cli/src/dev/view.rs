//! What `holm dev` shows while it runs: every message on the gateway, and the functions' log.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::runtime::Runtime;

use super::GATEWAY;
use crate::args::Logs;
use crate::http::Api;
use crate::out::Out;

const RECONNECT: Duration = Duration::from_secs(1);

/// Prints every message of the gateway's broker.
pub(super) fn messages(port: u16, out: &Out, io: &Runtime) {
    let mut options = MqttOptions::new("holm-dev-view", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(20));
    let (client, mut events) = AsyncClient::new(options, 16);
    let out = *out;
    io.spawn(async move {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    // The queue of a fresh connection has room.
                    let _ = client.try_subscribe("#", QoS::AtMostOnce);
                }
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    if crate::mqtt::print_message(&message, &out).is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(RECONNECT).await,
            }
        }
    });
}

/// Prints the log of the gateway's functions.
pub(super) fn logs(api: Api, out: &Out) {
    let args = Logs { gateway: GATEWAY.to_owned(), follow: true, count: None, function: None };
    let quiet = Out::new(out.is_json(), true);
    std::thread::spawn(move || {
        loop {
            // It ends when the control plane does, and then this process does.
            let _ = crate::logs::follow(&api, &args, &quiet);
            std::thread::sleep(RECONNECT);
        }
    });
}
