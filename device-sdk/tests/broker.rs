//! The client against Mosquitto, a broker that knows nothing of Holm.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a panic is how a test says no"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use device_sdk::host::TcpDial;
use device_sdk::protocol::system::{Command, Shadow, Status};
use device_sdk::protocol::{DeviceName, Down, Message, Quality, SchemaId};
use device_sdk::{BackoffConfig, Config, Device, Dial, Memory, Overflow, RamQueue, State, log};
use support::{Mosquitto, Observer, READINGS, Rate, Reading, TestApp};

fn config(name: &str) -> Config<'static> {
    let mut config = Config::new(DeviceName::new(name).unwrap());
    config.backoff = BackoffConfig { min_ms: 20, max_ms: 200 };
    config.metrics_period_ms = 300;
    config
}

/// Dials once the observer is subscribed: a broker that was killed has acknowledged to the device, and told nobody, what
/// comes before.
struct Behind {
    tcp: TcpDial,
    is_subscribed: Arc<AtomicBool>,
}

impl Dial for Behind {
    type Transport<'t> = <TcpDial as Dial>::Transport<'t>;
    type Error = std::io::Error;

    async fn dial(&mut self) -> std::io::Result<Self::Transport<'_>> {
        while !self.is_subscribed.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.tcp.dial().await
    }
}

/// Runs a device beside a scenario, to the end of the scenario.
async fn with_device(port: u16, boot: u64, scenario: impl AsyncFnOnce(&Device<'_>)) -> TestApp {
    with_dial(TcpDial::new(format!("127.0.0.1:{port}")), boot, scenario).await
}

async fn with_dial<D: Dial>(
    mut dial: D,
    boot: u64,
    scenario: impl AsyncFnOnce(&Device<'_>),
) -> TestApp {
    let (mut memory, mut ring) = (Memory::<256, 1024, 2048, 512>::new(), vec![0; 64 * 1024]);
    let (device, link) = Device::new(config("press-7"), boot, &mut memory);
    let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
    let mut app = TestApp::default();
    tokio::select! {
        ended = device.run(link, &mut queue, &mut dial, &mut app) => panic!("{ended:?}"),
        () = scenario(&device) => {}
        () = tokio::time::sleep(Duration::from_secs(100)) => panic!("after 100 s: {:?}", device.figures()),
    }
    app
}

#[tokio::test]
async fn what_is_published_arrives_once_acknowledged_and_leaves_the_queue() {
    let Some(broker) = Mosquitto::start() else { return };
    let observer = Observer::start(broker.port).await;
    with_device(broker.port, 0xb007, async |device| {
        for number in 0..300 {
            let taken = device.publish(READINGS, &Reading { number }).await.unwrap();
            assert_eq!((taken.boot, taken.sequence), (0xb007, number));
        }
        device.drained().await;
        let figures = device.figures();
        assert_eq!((figures.published, figures.acked, figures.queued), (300, 300, 0));
        observer.until("all readings", |heard| heard.readings.len() == 300).await;
    })
    .await;
    let heard = observer.heard.lock().unwrap();
    assert!(heard.readings.values().all(|(_, times)| *times == 1));
    let envelope = Some("application/vnd.holm.envelope".to_string());
    assert!(heard.content_types.iter().all(|it| *it == envelope));
}

#[tokio::test]
async fn a_killed_broker_loses_nothing_and_repeats_keep_their_numbers() {
    let Some(mut broker) = Mosquitto::start() else { return };
    let observer = Observer::start(broker.port).await;
    let port = broker.port;
    // What the broker may have acknowledged when it was killed, and had not passed on, is its own affair.
    let mut at_risk = Vec::new();
    let tcp = TcpDial::new(format!("127.0.0.1:{port}"));
    let dial = Behind { tcp, is_subscribed: Arc::clone(&observer.is_subscribed) };
    let app = with_dial(dial, 1, async |device| {
        let mut number = 0;
        for round in 0..3 {
            for _ in 0..100 {
                device.publish(READINGS, &Reading { number }).await.unwrap();
                number += 1;
                if number % 10 == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if number % 100 == 40 + round {
                    device.drained().await;
                    let is_last =
                        |heard: &support::Heard| heard.readings.contains_key(&(1, number - 1));
                    observer.until("what was acknowledged", is_last).await;
                    at_risk.push(number..number + 8);
                    for _ in 0..8 {
                        device.publish(READINGS, &Reading { number }).await.unwrap();
                        number += 1;
                    }
                    broker.kill();
                    offline(device).await;
                }
            }
            assert!(broker.run());
            device.online().await;
        }
        device.drained().await;
        assert_eq!(device.figures().overflowed, 0);
        let is_all = |heard: &support::Heard| heard.readings.contains_key(&(1, number - 1));
        observer.until("the last reading", is_all).await;
        assert!(device.figures().connects >= 4, "{:?}", device.figures());
    })
    .await;
    assert!(app.states.iter().any(|state| matches!(state, State::Offline { .. })));
    let heard = observer.heard.lock().unwrap();
    for sequence in 0..324 {
        let is_excused = at_risk.iter().any(|risk| risk.contains(&sequence));
        assert!(
            heard.readings.contains_key(&(1, sequence)) || is_excused,
            "reading {sequence} is lost"
        );
    }
    assert_eq!(heard.readings.keys().filter(|(boot, _)| *boot != 1).count(), 0);
}

#[tokio::test]
async fn a_command_is_done_once_though_it_comes_twice() {
    let Some(broker) = Mosquitto::start() else { return };
    let observer = Observer::start(broker.port).await;
    let app = with_device(broker.port, 2, async |device| {
        device.online().await;
        // The subscription follows the connection.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut body = [0; 8];
        let length = Rate { per_minute: 12 }.encode(&mut body).unwrap();
        let command = Command { id: 77, name: "set-rate", schema: Rate::ID, body: &body[..length] };
        for _ in 0..2 {
            observer.send("press-7", &Down::Command(command)).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        observer.until("two answers", |heard| heard.responses.len() == 2).await;
        observer
            .send("press-7", &Down::Command(Command { id: 78, name: "dance", ..command }))
            .await;
        observer.send("press-7", &Down::Command(Command { id: 79, body: &[], ..command })).await;
        observer.until("four answers", |heard| heard.responses.len() == 4).await;
    })
    .await;
    assert_eq!((app.done.as_slice(), app.rate), (&[77][..], 12));
    let heard = observer.heard.lock().unwrap();
    assert_eq!(heard.responses[0], heard.responses[1]);
    assert_eq!(heard.responses[0], (77, Status::Done, vec![12]));
    assert_eq!(heard.responses[2].1, Status::Unknown);
    assert_eq!(heard.responses[3].1, Status::BadArgument);
}

#[tokio::test]
async fn shadow_time_log_and_metrics() {
    let Some(broker) = Mosquitto::start() else { return };
    let observer = Observer::start(broker.port).await;
    let mut body = [0; 8];
    let length = Rate { per_minute: 7 }.encode(&mut body).unwrap();
    let desired = Shadow { version: 4, schema: Rate::ID, body: &body[..length] };
    // It is retained: the device hears it when it subscribes.
    observer.send("press-7", &Down::Desired(desired)).await;
    let app = with_device(broker.port, 3, async |device| {
        assert_eq!(device.now().quality, Quality::Uptime);
        log!(device, Warn, "sensor answered after {} ms", 70);
        observer.until("the shadow", |heard| heard.reports.contains(&(4, vec![7]))).await;
        observer.until("the line", |heard| !heard.lines.is_empty()).await;
        observer.until("the figures", |heard| heard.metrics.len() >= 7).await;
        while device.now().quality != Quality::Synced {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let error_ms = device.now().ms.abs_diff(1_750_000_000_000);
        assert!(error_ms < 20_000, "{error_ms} ms");
    })
    .await;
    assert_eq!(app.rate, 7);
    let heard = observer.heard.lock().unwrap();
    assert_eq!(heard.lines[0], ("sensor answered after 70 ms".to_string(), 0));
    assert!(heard.metrics.iter().any(|name| name == "queue_records"));
    assert!(heard.times_asked >= 1);
}

async fn offline(device: &Device<'_>) {
    while matches!(device.state(), State::Online { .. }) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn commands_kept_while_a_device_restarts_are_done_after_its_start() {
    let Some(broker) = Mosquitto::start() else { return };
    let observer = Observer::start(broker.port).await;
    let command = |id| Command { id, name: "dance", schema: SchemaId::RAW, body: &[] };
    with_device(broker.port, 4, async |device| {
        device.online().await;
        observer.send("press-7", &Down::Command(command(1))).await;
        observer.until("the first answer", |heard| heard.responses.len() == 1).await;
    })
    .await;
    // It has no power: no DISCONNECT, another boot, nothing remembered.
    for id in 2..=4 {
        observer.send("press-7", &Down::Command(command(id))).await;
    }
    let app = with_device(broker.port, 5, async |device| {
        observer.until("the other answers", |heard| heard.responses.len() == 4).await;
        observer.until("what it reports at a start", |heard| heard.reports.len() >= 2).await;
        // The subscription stands as after any other start.
        observer.send("press-7", &Down::Command(command(5))).await;
        observer.until("the last answer", |heard| heard.responses.len() == 5).await;
        assert_eq!(device.figures().connects, 1);
    })
    .await;
    assert!(app.states.contains(&State::Online { resumed: true }), "{:?}", app.states);
    let answered: Vec<_> =
        observer.heard.lock().unwrap().responses.iter().map(|(id, ..)| *id).collect();
    assert_eq!(answered, [1, 2, 3, 4, 5]);
}
