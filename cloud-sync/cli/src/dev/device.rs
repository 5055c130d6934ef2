//! The simulated device of `holm dev`: publishes the payload of the app's `event.json` again and
//! again, with its numbers swinging a little so that there is something to see.

use std::path::Path;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, MqttOptions};
use serde_json::{Value, json};
use sync_protocol::manifest::Source;
use tokio::runtime::Runtime;

use super::{GATEWAY, LOOK};
use crate::app::Project;
use crate::args::Dev;
use crate::failure::{Done, Failure, read_file};
use crate::http::Api;
use crate::out::Out;

const EVENT_FILE: &str = "event.json";
const EVENT_BYTES_MAX: u64 = 1 << 20;
/// Messages of one swing.
const SWING: f64 = 20.0;
const RECONNECT: Duration = Duration::from_secs(1);

/// Its name where the app's `event.json` names no device.
const DEVICE: &str = "sim";

/// The simulated device.
pub(super) struct Device {
    /// Its name, under which the gateway knows it.
    pub(super) name: String,
    /// Its password.
    token: String,
    event: Value,
}

impl Device {
    /// The device that the app's `event.json` describes.
    pub(super) fn of(project: &Project) -> Done<Self> {
        let event = event(&project.dir)?;
        let named = event["device"].as_str().filter(|name| edge_agent::settings::is_name(name));
        let name = named.unwrap_or(DEVICE).to_owned();
        Ok(Self { name, token: crate::mqtt::random_hex()?, event })
    }

    /// What the gateway's configuration says of it, and of everybody else on this machine.
    pub(super) fn accounts(&self) -> String {
        format!(
            "[anonymous]\n\
             publish = [\"#\", \"$holm/#\"]\n\
             subscribe = [\"#\", \"$holm/#\"]\n\
             [[devices]]\n\
             name = \"{}\"\n\
             token_sha256 = \"{}\"\n\
             publish = [\"#\"]\n\
             subscribe = [\"#\"]\n",
            self.name,
            crate::device::sha256(&self.token)
        )
    }
}

/// Starts it, if the app waits for messages at all: it publishes as soon as the app runs.
pub(super) fn start(
    args: &Dev,
    project: &Project,
    device: &Device,
    api: &Api,
    io: &Runtime,
    out: &Out,
) -> Done {
    let Device { name, token, event } = device;
    let Some(topic) = args.topic.clone().or_else(|| topic(event, project)) else {
        out.note("no trigger of the app waits for messages: there is no simulated device");
        return Ok(());
    };
    if topic.contains(['+', '#']) {
        return Err(Failure::usage(format!("`{topic}` is no topic to publish to")));
    }
    let payload = match event.get("payload") {
        Some(payload) => payload.clone(),
        None => json!({ "value": 20.0 }),
    };
    let mut options = MqttOptions::new("holm-dev-device", "127.0.0.1", args.port);
    options.set_credentials(name, token);
    options.set_keep_alive(Duration::from_secs(20));
    let (client, mut events) = AsyncClient::new(options, 16);
    io.spawn(async move {
        loop {
            if events.poll().await.is_err() {
                tokio::time::sleep(RECONNECT).await;
            }
        }
    });
    let every = Duration::from_millis(args.every.max(1));
    let doing = format!("`{name}` publishes to {topic} every {} ms", every.as_millis());
    let (api, out, io) = (api.clone(), *out, io.handle().clone());
    let publishing = async move {
        let mut ticks = tokio::time::interval(every);
        for n in 0_u32.. {
            ticks.tick().await;
            let swing = (f64::from(n) * std::f64::consts::TAU / SWING).sin();
            let body = swung(&payload, swing).to_string();
            if client.publish(&topic, QoS::AtLeastOnce, false, body).await.is_err() {
                return;
            }
        }
    };
    std::thread::spawn(move || {
        while !is_running(&api) {
            std::thread::sleep(LOOK);
        }
        out.progress("Device", &doing);
        io.spawn(publishing);
    });
    Ok(())
}

/// Whether a revision of the app is at work, on probation or for good.
fn is_running(api: &Api) -> bool {
    let gateway = api.get::<Value>(&format!("/v1/gateways/{GATEWAY}"));
    gateway.is_ok_and(|gateway| gateway["apps"][0]["running"].is_string())
}

fn event(dir: &Path) -> Done<Value> {
    let path = dir.join(EVENT_FILE);
    if !path.exists() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&read_file(&path, EVENT_BYTES_MAX)?)
        .map_err(|error| Failure::input(format!("{}: {error}", path.display())))
}

/// The topic of the event file, or one that matches the first trigger.
fn topic(event: &Value, project: &Project) -> Option<String> {
    if let Some(topic) = event["topic"].as_str().filter(|topic| !topic.is_empty()) {
        return Some(topic.to_owned());
    }
    project.app.triggers.values().find_map(|trigger| match &trigger.source {
        Source::Mqtt(source) => source.topics.first().map(|filter| concrete(filter)),
        Source::Schedule(_) => None,
    })
}

fn concrete(filter: &str) -> String {
    let levels: Vec<&str> = filter
        .split('/')
        .map(|level| if matches!(level, "+" | "#") { DEVICE } else { level })
        .collect();
    levels.join("/")
}

/// The payload with its fractional numbers moved by up to a tenth.
fn swung(payload: &Value, swing: f64) -> Value {
    match payload {
        Value::Number(number) => match number.as_f64() {
            Some(value) if number.is_f64() => {
                json!(((value + value * 0.1 * swing) * 100.0).round() / 100.0)
            }
            _ => payload.clone(),
        },
        Value::Array(items) => items.iter().map(|item| swung(item, swing)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), swung(value, swing)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_swing_and_the_rest_stays() {
        let payload = json!({ "celsius": 20.0, "n": 3, "tags": ["a", 10.0] });
        let moved = swung(&payload, 1.0);
        assert_eq!(moved, json!({ "celsius": 22.0, "n": 3, "tags": ["a", 11.0] }));
        assert_eq!(swung(&payload, 0.0), payload);
    }

    #[test]
    fn a_filter_becomes_a_topic_it_matches() {
        for filter in ["sensors/+/temperature", "a/#", "#", "plain"] {
            assert!(sync_protocol::filter::matches(filter, &concrete(filter)), "{filter}");
        }
    }
}
