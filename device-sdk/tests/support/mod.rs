//! A real broker, somebody who listens at it, and a device.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device_sdk::protocol::system::{self, Status};
use device_sdk::protocol::{Down, Envelope, Message, Schema, Topic, Up, message};
use device_sdk::{App, Reply, State};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// What the device of the tests measures: which measurement it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub(crate) struct Reading {
    pub(crate) number: u64,
}
message!(Reading, "test-reading");

pub(crate) const READINGS: Topic<Reading> = Topic::new("sensors/{device}/reading");

/// Mosquitto on a free port of the loopback, with its sessions on disk.
pub(crate) struct Mosquitto {
    directory: TempDir,
    pub(crate) port: u16,
    process: Option<Child>,
}

impl Mosquitto {
    /// Starts it; none, and a word about it, where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\nautosave_on_changes true\n\
             autosave_interval 1\npersistence_location {}/\n",
            directory.path().display()
        );
        std::fs::write(directory.path().join("mosquitto.conf"), config).unwrap();
        // Started as root, it becomes this user.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let mut broker = Self { directory, port, process: None };
        if broker.run() {
            return Some(broker);
        }
        eprintln!("SKIPPED: mosquitto is not installed (apt-get install mosquitto)");
        None
    }

    /// Starts the process; whether there is such a program.
    pub(crate) fn run(&mut self) -> bool {
        let config = self.directory.path().join("mosquitto.conf");
        let found = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
        let Some(program) = found.into_iter().find(|path| Path::new(path).exists()) else {
            return false;
        };
        let mut command = Command::new(program);
        command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("mosquitto does not listen on port {}", self.port);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Everything that was heard at the broker.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// How often each (boot, sequence) came, with the number of the reading in it.
    pub(crate) readings: BTreeMap<(u64, u64), (u64, u32)>,
    /// Content types of the readings.
    pub(crate) content_types: Vec<Option<String>>,
    pub(crate) responses: Vec<(u64, Status, Vec<u8>)>,
    pub(crate) reports: Vec<(u32, Vec<u8>)>,
    pub(crate) lines: Vec<(String, u32)>,
    pub(crate) metrics: Vec<String>,
    pub(crate) times_asked: u32,
}

/// Plays the gateway's part at the broker: hears everything, answers requests for the time, sends commands.
pub(crate) struct Observer {
    pub(crate) client: AsyncClient,
    pub(crate) heard: Arc<Mutex<Heard>>,
    /// Whether the broker knows what it wants to hear: what comes before is told to nobody.
    pub(crate) is_subscribed: Arc<AtomicBool>,
}

impl Observer {
    pub(crate) async fn start(port: u16) -> Self {
        let mut options = MqttOptions::new("observer", "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(5)).set_clean_start(true);
        let (client, mut events) = AsyncClient::new(options, 100);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (here, asked) = (Arc::clone(&heard), client.clone());
        let is_subscribed = Arc::new(AtomicBool::new(false));
        let subscribed = Arc::clone(&is_subscribed);
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        for filter in ["sensors/#", "$holm/v1/up/#"] {
                            asked.try_subscribe(filter, QoS::AtLeastOnce).unwrap();
                        }
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        subscribed.store(true, Ordering::Relaxed);
                        if let Some(ready) = ready.take() {
                            let _ = ready.send(());
                        }
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                        let properties = publish.properties.unwrap_or_default();
                        let answer =
                            here.lock().unwrap().hear(&topic, &publish.payload, &properties);
                        if let Some((topic, bytes)) = answer {
                            asked.try_publish(topic, QoS::AtLeastOnce, false, bytes).unwrap();
                        }
                    }
                    Ok(_) => {}
                    Err(_) => {
                        subscribed.store(false, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
        is_ready.await.unwrap();
        Self { client, heard, is_subscribed }
    }

    /// Publishes a message for a device.
    pub(crate) async fn send(&self, device: &str, down: &Down<'_>) {
        let (topic, bytes) = encoded(device, down);
        self.client.publish(topic, QoS::AtLeastOnce, down.is_retained(), bytes).await.unwrap();
    }

    /// Waits up to 20 s until what was heard is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Heard) -> bool) {
        for _ in 0..1_000 {
            if is_so(&self.heard.lock().unwrap()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what}: {:?}", self.heard.lock().unwrap());
    }
}

impl Heard {
    fn hear(
        &mut self,
        topic: &str,
        payload: &[u8],
        properties: &PublishProperties,
    ) -> Option<(String, Vec<u8>)> {
        if topic.starts_with("sensors/") {
            let envelope = Envelope::decode(payload).unwrap();
            let reading: Reading = envelope.message().unwrap();
            let key = (envelope.boot, envelope.sequence);
            let entry = self.readings.entry(key).or_insert((reading.number, 0));
            assert_eq!(entry.0, reading.number, "one number, two messages");
            entry.1 += 1;
            self.content_types.push(properties.content_type.clone());
            return None;
        }
        let device = topic.split('/').nth(3).unwrap();
        match Up::decode(payload).unwrap() {
            Up::Response(it) => self.responses.push((it.id, it.status, it.body.to_vec())),
            Up::Reported(it) => self.reports.push((it.version, it.body.to_vec())),
            Up::Log(it) => self.lines.push((it.text.into(), it.dropped)),
            Up::Metric(it) => self.metrics.push(it.name.into()),
            Up::TimeRequest(it) => {
                self.times_asked += 1;
                let quality = device_sdk::protocol::Quality::Synced;
                let now = device_sdk::protocol::Timestamp { quality, ms: 1_750_000_000_000 };
                let reply = system::TimeReply { uptime_ms: it.uptime_ms, now };
                return Some(encoded(device, &Down::Time(reply)));
            }
            Up::Want(_) | Up::Progress(_) => panic!("there is no update"),
        }
        None
    }
}

fn encoded(device: &str, down: &Down<'_>) -> (String, Vec<u8>) {
    let mut bytes = vec![0; 1024];
    let length = down.encode(&mut bytes).unwrap();
    bytes.truncate(length);
    (down.topic(device).unwrap().as_str().into(), bytes)
}

/// Remembers what it was asked to do.
#[derive(Default)]
pub(crate) struct TestApp {
    pub(crate) done: Vec<u64>,
    pub(crate) rate: u32,
    pub(crate) states: Vec<State>,
}

/// Shadow and argument of the command of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub(crate) struct Rate {
    pub(crate) per_minute: u32,
}
message!(Rate, "test-rate");

impl App for TestApp {
    fn command(&mut self, command: &system::Command<'_>, reply: &mut Reply) -> Status {
        match command.name {
            "set-rate" => match Rate::decode(command.schema, command.body) {
                Ok(rate) => {
                    self.done.push(command.id);
                    self.rate = rate.per_minute;
                    reply.message(&rate).map_or(Status::Failed, |()| Status::Done)
                }
                Err(_) => Status::BadArgument,
            },
            _ => Status::Unknown,
        }
    }

    fn desired(&mut self, desired: &system::Shadow<'_>) -> bool {
        match Rate::decode(desired.schema, desired.body) {
            Ok(rate) => {
                self.rate = rate.per_minute;
                true
            }
            Err(_) => false,
        }
    }

    fn reported(&mut self, document: &mut device_sdk::app::Document<'_>) {
        document.set(&Rate { per_minute: self.rate }).unwrap();
    }

    fn state(&mut self, state: State) {
        self.states.push(state);
    }
}
