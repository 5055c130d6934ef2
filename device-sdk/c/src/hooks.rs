//! What C is told: events and commands, from within `holm_device_poll`.

use core::ffi::{CStr, c_void};

use device_sdk::protocol::system::{self, Status};
use device_sdk::{Reply, State, Trouble};

use crate::abi::{self, Command, Event, OnCommand, OnEvent};
use crate::border::call;

/// Bytes of the longest name of a command, and a NUL.
const NAME_BYTES: usize = device_sdk::protocol::limits::WORD_MAX + 1;

/// The functions of the program; absent ones are passed over.
#[derive(Clone, Copy)]
pub(crate) struct Hooks {
    pub(crate) on_event: Option<OnEvent>,
    pub(crate) on_command: Option<OnCommand>,
    pub(crate) context: *mut c_void,
}

impl Hooks {
    pub(crate) fn tell(&self, event: &Event) {
        if let Some(on_event) = self.on_event {
            call::event(on_event, self.context, event);
        }
    }

    /// A message has come to its end.
    pub(crate) fn ended(&self, kind: u8, reason: u8, sequence: u64) {
        self.tell(&Event { kind, reason, sequence, ..Event::default() });
    }

    pub(crate) fn obey(&self, command: &system::Command<'_>, reply: &mut Reply) -> Status {
        let Some(on_command) = self.on_command else { return Status::Unknown };
        let mut bytes = [0; NAME_BYTES];
        let length = command.name.len().min(NAME_BYTES - 1);
        bytes[..length].copy_from_slice(&command.name.as_bytes()[..length]);
        let Ok(name) = CStr::from_bytes_until_nul(&bytes) else { return Status::Unknown };
        // C would take a name with a NUL in it for a shorter one.
        if name.count_bytes() != length {
            return Status::Unknown;
        }
        let command = Command {
            id: command.id,
            schema: command.schema.0,
            name: name.as_ptr(),
            body: command.body.as_ptr(),
            body_length: command.body.len(),
        };
        match call::command(on_command, self.context, &command, reply) {
            abi::STATUS_DONE => Status::Done,
            abi::STATUS_UNKNOWN => Status::Unknown,
            abi::STATUS_BAD_ARGUMENT => Status::BadArgument,
            abi::STATUS_BUSY => Status::Busy,
            _ => Status::Failed,
        }
    }
}

/// What is told of a change of the connection; `was_online` before it.
pub(crate) fn event_of(state: State, was_online: bool) -> Option<Event> {
    match state {
        State::Online { resumed } => Some(Event {
            kind: abi::EVENT_CONNECTED,
            resumed: u8::from(resumed),
            ..Event::default()
        }),
        State::Offline { trouble, retry_ms } => {
            let (trouble, reason) = trouble_of(trouble);
            let kind = abi::EVENT_DISCONNECTED;
            Some(Event { kind, trouble, reason, retry_ms, ..Event::default() })
        }
        // A serial line goes there at once, and says nothing else of its end.
        State::Connecting if was_online => Some(Event {
            kind: abi::EVENT_DISCONNECTED,
            trouble: abi::TROUBLE_LOST,
            ..Event::default()
        }),
        State::Connecting => None,
    }
}

const fn trouble_of(trouble: Trouble) -> (u8, u8) {
    match trouble {
        Trouble::NotStarted => (abi::TROUBLE_NONE, 0),
        Trouble::Dial => (abi::TROUBLE_DIAL, 0),
        Trouble::Timeout => (abi::TROUBLE_TIMEOUT, 0),
        Trouble::Lost => (abi::TROUBLE_LOST, 0),
        Trouble::Protocol => (abi::TROUBLE_PROTOCOL, 0),
        Trouble::Refused(reason) => (abi::TROUBLE_REFUSED, reason),
        Trouble::Memory => (abi::TROUBLE_MEMORY, 0),
    }
}
