//! One virtual device.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use device_sdk::host::TcpDial;
use device_sdk::protocol::system::{Command, Status};
use device_sdk::protocol::{DeviceName, Message, Schema, Topic, message};
use device_sdk::{
    App, Config, Device, Figures, Login, Memory, Overflow, RamQueue, Reply, State, log,
};
use serde::{Deserialize, Serialize};

use crate::sensor::Sensor;

/// What it publishes. A function that is built with the same definition gets it typed.
#[derive(Debug, Serialize, Deserialize, Schema)]
pub struct Reading {
    /// Temperature, in thousandths of a degree Celsius.
    pub milli_celsius: i32,
}
message!(Reading, "reading", 0xbcbc_55d1_5301_02e5);

const READINGS: Topic<Reading> = Topic::new("sensors/{device}/temperature");

/// Argument of the command `set-period`.
#[derive(Debug, Serialize, Deserialize, Schema)]
pub struct Period {
    /// From reading to reading.
    pub milliseconds: u32,
}
message!(Period, "period");

/// Who it is and what it does.
pub struct Setup {
    pub name: DeviceName,
    pub boot: u64,
    pub gateway: String,
    pub login: Option<(String, String)>,
    pub period: Duration,
    pub sensor: Sensor,
    /// Whether it prints what happens to it.
    pub is_talkative: bool,
}

/// Figures of all devices, by their number.
#[derive(Clone, Default)]
pub struct Totals(Rc<RefCell<Vec<(bool, Figures)>>>);

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices = self.0.borrow();
        let sum = |of: fn(&Figures) -> u32| -> u64 {
            devices.iter().map(|(_, figures)| u64::from(of(figures))).sum()
        };
        write!(
            f,
            "{} of {} devices online: {} published, {} acknowledged, {} waiting, {} dropped, {} refused, {} connections",
            devices.iter().filter(|(is_online, _)| *is_online).count(),
            devices.len(),
            sum(|it| it.published),
            sum(|it| it.acked),
            sum(|it| it.queued),
            sum(|it| it.overflowed),
            sum(|it| it.refused),
            sum(|it| it.connects),
        )
    }
}

/// Runs a device for ever.
pub async fn run(setup: Setup, totals: Totals) {
    let Setup { name, boot, gateway, login, period, mut sensor, is_talkative } = setup;
    let mut memory = Memory::<256, 512, 1024, 256>::new();
    let mut ring = [0; 4096];
    let mut config = Config::new(name);
    config.login =
        login.as_ref().map(|(user, password)| Login { user, password: password.as_bytes() });
    let (device, link) = Device::new(config, boot, &mut memory);
    let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
    let mut dial = TcpDial::new(gateway);
    let period = Rc::new(RefCell::new(period));
    let mut app = Firmware { period: Rc::clone(&period), is_talkative };
    let index = {
        let mut devices = totals.0.borrow_mut();
        devices.push((false, Figures::default()));
        devices.len() - 1
    };
    let measure = async {
        log!(device, Info, "started as a process of a computer");
        loop {
            let reading = Reading { milli_celsius: sensor.read() };
            if let Err(error) = device.publish(READINGS, &reading).await {
                eprintln!("{}: a reading was not taken: {error:?}", device.name());
            }
            let is_online = matches!(device.state(), State::Online { .. });
            totals.0.borrow_mut()[index] = (is_online, device.figures());
            let wait = *period.borrow();
            tokio::time::sleep(wait).await;
        }
    };
    tokio::select! {
        ended = device.run(link, &mut queue, &mut dial, &mut app) => eprintln!("{}: {ended:?}", device.name()),
        () = measure => {}
    }
}

struct Firmware {
    period: Rc<RefCell<Duration>>,
    is_talkative: bool,
}

impl App for Firmware {
    fn command(&mut self, command: &Command<'_>, reply: &mut Reply) -> Status {
        match command.name {
            "set-period" => match Period::decode(command.schema, command.body) {
                Ok(Period { milliseconds }) if milliseconds > 0 => {
                    *self.period.borrow_mut() = Duration::from_millis(u64::from(milliseconds));
                    Status::Done
                }
                Ok(_) => {
                    reply.text("a period takes at least 1 ms");
                    Status::BadArgument
                }
                Err(error) => {
                    reply.text(&error.to_string());
                    Status::BadArgument
                }
            },
            _ => Status::Unknown,
        }
    }

    fn state(&mut self, state: State) {
        if self.is_talkative {
            println!("{state:?}");
        }
    }
}
