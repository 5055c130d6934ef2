//! What the device does on commands: those of the sensor, `event` and `function`.

use core::fmt::Write as _;

use device_sdk::app::Document;
use device_sdk::protocol::system::{Command, Shadow, Status};
use device_sdk::{App, Device, Reply, State};
use heapless::String;

use crate::{events, runner, sensor};

/// See the module. `event` takes `TOPIC PAYLOAD` as text, and the function is given it; `function` tells what runs.
pub(crate) struct Obey(pub(crate) &'static Device<'static>);

impl App for Obey {
    fn command(&mut self, command: &Command<'_>, reply: &mut Reply) -> Status {
        match command.name {
            "event" => match events::command(command.body) {
                Ok(()) => Status::Done,
                Err(events::Refused::Busy) => Status::Busy,
                Err(events::Refused::Malformed) => {
                    reply.text("event takes TOPIC PAYLOAD: --text 'sensors/m1 {\"value\":1}'");
                    Status::BadArgument
                }
            },
            "function" => {
                let mut line = String::<96>::new();
                // What does not fit is cut.
                let _ = line.write_fmt(format_args!("{}", runner::figures()));
                reply.text(&line);
                Status::Done
            }
            _ => sensor::Obey(self.0).command(command, reply),
        }
    }

    fn desired(&mut self, desired: &Shadow<'_>) -> bool {
        sensor::Obey(self.0).desired(desired)
    }

    fn reported(&mut self, document: &mut Document<'_>) {
        sensor::Obey(self.0).reported(document);
    }

    fn state(&mut self, state: State) {
        sensor::Obey(self.0).state(state);
    }
}
