//! What the firmware does when the gateway says something.

use device_protocol::system::{Command, Status};
use device_protocol::{Error, Message, SchemaId};
use heapless::Vec;

use crate::commands::Answer;
use crate::limits::RESPONSE_MAX;
use crate::state::State;

/// Called by the task that runs the device, between messages: what takes long belongs into another task.
pub trait App {
    /// A command that was not done before. What it returns is answered, and remembered for the case that the command comes
    /// again; a result goes into `reply`.
    fn command(&mut self, command: &Command<'_>, reply: &mut Reply) -> Status {
        let _ = (command, reply);
        Status::Unknown
    }

    /// A desired document newer than the last one that was applied. `true`: it is applied now, and that is reported.
    #[cfg(feature = "shadow")]
    fn desired(&mut self, desired: &device_protocol::system::Shadow<'_>) -> bool {
        let _ = desired;
        false
    }

    /// Writes the document to report. Asked for after [`App::desired`], [`crate::Device::report`] and at the start of a
    /// session.
    #[cfg(feature = "shadow")]
    fn reported(&mut self, document: &mut Document<'_>) {
        let _ = document;
    }

    /// The oldest message of the queue has come to its end, and leaves the queue next. What the full queue drops by its
    /// policy is not told here.
    fn settled(&mut self, settled: Settled) {
        let _ = settled;
    }

    /// The connection has changed.
    fn state(&mut self, state: State) {
        let _ = state;
    }
}

/// Does nothing with anything.
impl App for () {}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Settled {
    /// The gateway has it.
    Acked,
    /// No gateway can ever take it, for this reason code of MQTT 5.
    Refused(u8),
}

/// Takes the result of a command, or the reason why it was not done.
#[derive(Debug)]
pub struct Reply {
    schema: SchemaId,
    body: Vec<u8, RESPONSE_MAX>,
}

impl Reply {
    pub(crate) const fn new() -> Self {
        Self { schema: SchemaId::RAW, body: Vec::new() }
    }

    /// The result is this message.
    ///
    /// # Errors
    /// [`Error::NoRoom`] if it is longer than 96 bytes: what is longer is published.
    pub fn message<T: Message>(&mut self, message: &T) -> Result<(), Error> {
        self.body.resize_default(RESPONSE_MAX).map_err(|_| Error::NoRoom)?;
        let length = message.encode(&mut self.body);
        self.body.truncate(*length.as_ref().unwrap_or(&0));
        self.schema = T::ID;
        length.map(|_| ())
    }

    /// The result is these bytes, a value of the type `schema`.
    ///
    /// # Errors
    /// [`Error::NoRoom`] if they are more than 96; the reply is as it was.
    pub fn bytes(&mut self, schema: SchemaId, bytes: &[u8]) -> Result<(), Error> {
        self.body = Vec::from_slice(bytes).map_err(|_| Error::NoRoom)?;
        self.schema = schema;
        Ok(())
    }

    /// The result, or the reason of a failure, is this text; what is beyond 96 bytes is cut.
    pub fn text(&mut self, text: &str) {
        let fits = text.floor_char_boundary(RESPONSE_MAX);
        self.body.clear();
        let _ = self.body.extend_from_slice(&text.as_bytes()[..fits]);
        self.schema = SchemaId::RAW;
    }

    pub(crate) fn into_answer(self, status: Status) -> Answer {
        Answer { status, schema: self.schema, body: self.body }
    }
}

/// Takes the document to report.
#[cfg(feature = "shadow")]
#[derive(Debug)]
pub struct Document<'a> {
    out: &'a mut [u8],
    schema: SchemaId,
    length: usize,
}

#[cfg(feature = "shadow")]
impl<'a> Document<'a> {
    pub(crate) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, schema: SchemaId::RAW, length: 0 }
    }

    /// The document is this message.
    ///
    /// # Errors
    /// [`Error::NoRoom`] if it is longer than half of the memory for a record, less 32 bytes.
    pub fn set<T: Message>(&mut self, message: &T) -> Result<(), Error> {
        self.length = message.encode(self.out)?;
        self.schema = T::ID;
        Ok(())
    }

    pub(crate) fn finish(self) -> (SchemaId, &'a [u8]) {
        let Self { out, schema, length } = self;
        (schema, &out[..length])
    }
}
