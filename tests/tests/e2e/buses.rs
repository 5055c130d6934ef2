//! Devices without IP: a serial line and a shared bus between real links and a real gateway.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use device_protocol::system::Command;
use device_protocol::{Down, SchemaId, Up};
use edge_broker::codec::{Packet, PacketId, Publish, Subscribe, SubscribeOptions};
use edge_core::message::QoS;
use edge_core::topic::Topic;
use serde_json::Value;
use system_tests::gateway::{Gateway, Setup};
use system_tests::mqtt::{Client, Login};
use system_tests::process::wait_for;
use system_tests::serial::{self, Plan, Progress};

use crate::support::{PATIENCE, author, deploy_counter};

/// A gateway with these devices, which have a token each or only a wire, and with buses.
fn gateway(dir: &Path, devices: &[&str], token: Option<&str>, buses: &str) -> Result<Gateway> {
    let mut more = String::from(
        "[anonymous]\npublish = [\"#\", \"$holm/#\"]\nsubscribe = [\"#\", \"$holm/#\"]\n",
    );
    for name in devices {
        let secret = match token {
            None => "wire = true".to_owned(),
            Some(token) => {
                format!("token_sha256 = {:?}", system_tests::ledger::hash(token.as_bytes()))
            }
        };
        more += &format!(
            "[[devices]]\nname = {name:?}\n{secret}\npublish = [\"sensors/{{device}}\", \
             \"$holm/v1/up/{{device}}/+\"]\nsubscribe = [\"$holm/v1/down/{{device}}/+\"]\n"
        );
    }
    let setup = Setup {
        name: "barn".to_owned(),
        author_keys: vec![author().key()?],
        more: more + buses,
        ..Setup::default()
    };
    let mut gateway = Gateway::new(&dir.join("gateway"), &setup)?;
    gateway.start()?;
    deploy_counter(&gateway)?;
    Ok(gateway)
}

fn free_address() -> Result<std::net::SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn counted(gateway: &Gateway, device: &str) -> Result<String> {
    let state = gateway.ask(&["state", "counter/counter", "--device", device])?;
    Ok(state[0]["value"]["text"].as_str().unwrap_or("0").to_owned())
}

fn wait_durable(progress: &Progress, count: u32) -> Result<()> {
    wait_for(PATIENCE * 2, &format!("{count} durable readings"), || {
        Ok((progress.durable.load(Ordering::Relaxed) >= count).then_some(()))
    })
}

/// Watches the devices from a thread beside them, and stops them whatever becomes of the test.
fn beside<T>(
    progress: &Progress,
    devices: impl FnOnce() -> Result<()> + Send,
    test: impl FnOnce() -> Result<T>,
) -> Result<T> {
    std::thread::scope(|scope| {
        let running = scope.spawn(devices);
        let outcome = test();
        progress.stop.store(true, Ordering::Relaxed);
        running.join().expect("the devices do not panic")?;
        outcome
    })
}

fn plan(name: &str, address: Option<u8>, token: &str, readings: u32) -> Plan {
    Plan { name: name.to_owned(), address, token: token.to_owned(), readings }
}

#[test]
fn readings_over_a_hurt_line_are_counted_once_though_the_gateway_is_killed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let address = free_address()?;
    let bus = format!("[[buses]]\nname = \"line\"\ntcp_listen = \"{address}\"\n");
    let mut gateway = gateway(dir.path(), &["press"], Some("tok"), &bus)?;
    let progress = Progress::default();
    let plans = [plan("press", None, "tok", 500)];
    let devices = || serial::run(|| serial::connect(address), &plans, 30, 1, &progress);
    let mut broken = 0;
    beside(&progress, devices, || {
        for durable in [120, 300] {
            wait_durable(&progress, durable)?;
            broken += broken_frames(&gateway.status()?);
            gateway.kill()?;
            gateway.start()?;
        }
        wait_durable(&progress, 500)
    })?;
    gateway.wait_idle(PATIENCE)?;
    assert_eq!(counted(&gateway, "press")?, "500", "each once");
    assert!(progress.lives.load(Ordering::Relaxed) >= 3, "a life for each gateway");
    let status = gateway.status()?;
    let bus = &status["buses"][0];
    assert_eq!((&bus["bus"], &bus["mode"]), (&"line".into(), &"point-to-point".into()));
    assert!(broken + broken_frames(&status) > 0, "{bus}");
    gateway.stop()
}

fn broken_frames(status: &Value) -> u64 {
    status["buses"][0]["broken_frames"].as_u64().unwrap_or_default()
}

#[test]
fn five_devices_share_a_bus() -> Result<()> {
    const NAMES: [&str; 5] = ["b1", "b2", "b3", "b4", "b5"];
    let dir = tempfile::tempdir()?;
    let address = free_address()?;
    let bus = format!(
        "[[buses]]\nname = \"hall\"\ntcp_listen = \"{address}\"\nmode = \"rs485\"\n\
         addresses = [1, 2, 3, 4, 5, 6]\ntrust = true\ndevices = {NAMES:?}\n"
    );
    let mut gateway = gateway(dir.path(), &NAMES, None, &bus)?;
    let progress = Progress::default();
    let plans: Vec<_> =
        (1..).zip(NAMES).map(|(address, name)| plan(name, Some(address), "", 100)).collect();
    let devices = || serial::run(|| serial::connect(address), &plans, 20, 2, &progress);
    beside(&progress, devices, || {
        wait_durable(&progress, 200)?;
        gateway.kill()?;
        gateway.start()?;
        wait_durable(&progress, 500)
    })?;
    gateway.wait_idle(PATIENCE)?;
    for name in NAMES {
        assert_eq!(counted(&gateway, name)?, "100", "{name}");
    }
    gateway.stop()
}

/// Also a port that is away when the gateway starts, and comes later.
#[test]
fn a_command_reaches_a_device_behind_a_terminal_and_its_answer_comes_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (devices_end, gateways_end) = serial2::SerialPort::pair()?;
    let path = {
        use std::os::fd::AsRawFd;
        std::fs::read_link(format!("/proc/self/fd/{}", gateways_end.as_raw_fd()))?
    };
    let link = dir.path().join("ttyUSB0");
    let bus = format!("[[buses]]\nname = \"usb\"\ndevice = {link:?}\n");
    let mut gateway = gateway(dir.path(), &["press"], Some("tok"), &bus)?;
    let status = gateway.status()?;
    assert_eq!(status["buses"][0]["open"], false, "{status}");
    assert!(status["degraded"].to_string().contains("bus usb"), "{status}");
    std::os::unix::fs::symlink(path, &link)?;

    let progress = Progress::default();
    let plans = [plan("press", None, "tok", 20)];
    let mut port = Some(devices_end);
    let open = || {
        let mut port = port.take().context("it is open")?;
        port.set_read_timeout(Duration::from_millis(4))?;
        Ok(Box::new(port) as Box<dyn serial::Port>)
    };
    let devices = || serial::run(open, &plans, 10, 3, &progress);
    let response = beside(&progress, devices, || {
        wait_durable(&progress, 20)?;
        command(&gateway, "press", "blink")
    })?;
    assert_eq!(response, b"ok");
    assert_eq!(*progress.commands.lock().expect("no panic"), ["blink"]);
    gateway.wait_idle(PATIENCE)?;
    assert_eq!(counted(&gateway, "press")?, "20");
    gateway.stop()
}

/// Publishes a command and waits for the response; gives back its body.
fn command(gateway: &Gateway, device: &str, name: &str) -> Result<Vec<u8>> {
    let mut client = Client::connect(&Login::anonymous(gateway.address(), "operator"))?;
    let packet_id = PacketId::new(1).expect("not 0");
    let filter = format!("$holm/v1/up/{device}/response").parse()?;
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..Default::default() };
    client.queue(&Packet::Subscribe(Subscribe {
        packet_id,
        subscription_id: None,
        filters: vec![(filter, options)],
    }));
    let command = Command { id: 77, name, schema: SchemaId::RAW, body: b"" };
    let mut payload = [0; 64];
    let length = Down::Command(command).encode(&mut payload)?;
    client.queue(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Topic::new(Down::Command(command).topic(device)?.as_str())?,
        packet_id: PacketId::new(2),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Default::default(),
        payload: Bytes::copy_from_slice(&payload[..length]),
    }));
    client.flush()?;
    loop {
        let packet = client.next(PATIENCE)?.context("no response")?;
        let Packet::Publish(publish) = packet else { continue };
        let Up::Response(response) = Up::decode(&publish.payload)? else { continue };
        assert_eq!(response.id, 77);
        return Ok(response.body.to_vec());
    }
}
