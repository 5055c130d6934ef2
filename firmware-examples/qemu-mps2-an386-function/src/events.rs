//! Events from a file of the host: a line `TOPIC PAYLOAD` each.

use alloc::format;
use alloc::string::String;

use device_function::Event;

use crate::board::File;

/// Longest line.
const LINE_BYTES_MAX: usize = 2 << 10;

/// Events that are read one by one.
pub(crate) struct Events {
    file: File,
    device: String,
    buffer: [u8; LINE_BYTES_MAX],
    filled: usize,
    count: u32,
}

/// Opens a file of events of `device`.
pub(crate) fn open(path: &str, device: &str) -> Option<Events> {
    let file = File::open(path)?;
    let device = String::from(device);
    Some(Events { file, device, buffer: [0; LINE_BYTES_MAX], filled: 0, count: 0 })
}

impl Events {
    /// The next one; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, String> {
        self.filled += self.file.read(&mut self.buffer[self.filled..]);
        let read = &self.buffer[..self.filled];
        let Some(end) = read.iter().position(|byte| *byte == b'\n') else {
            return match read {
                [] => Ok(None),
                _ => Err(format!("event {}: a line over {LINE_BYTES_MAX} bytes", self.count + 1)),
            };
        };
        let line = core::str::from_utf8(&read[..end]).ok().and_then(|line| line.split_once(' '));
        let (topic, payload) =
            line.ok_or_else(|| format!("event {}: not TOPIC PAYLOAD", self.count + 1))?;
        self.count += 1;
        let event = Event {
            id: format!("{}", self.count),
            topic: String::from(topic),
            payload: payload.as_bytes().into(),
            device: Some(self.device.clone()),
            attempt: 1,
            ..Event::default()
        };
        self.buffer.copy_within(end + 1..self.filled, 0);
        self.filled -= end + 1;
        Ok(Some(event))
    }
}
