//! A card under record: a gateway runs from it in QEMU, the recorder behind it writes down every block, and
//! its clients are outside of the machine.
//!
//! # Why the recorder is a process of its own
//! A guest may change a page while it is written. QEMU with the filter in itself reads such a page
//! twice, for the card and for the log, and the two differed once in a byte. The recorder gets a copy,
//! and puts that into both.
//!
//! # Why a length of the log proves an ack
//! Such a client cannot write its notes to the recorded disk. It notes how many bytes the log has when it
//! has its PUBACK, before it does anything more. The recorder says that a flush is done after it
//! has put the flush into the log, behind all that was logged before. So if the agent syncs, then
//! acks, the flush begins below that length, and a cut behind the note takes it along: what was acked
//! must be there. The length is an upper bound. What the guest writes between its ack and the note counts as
//! before the note; that makes the judge milder, by some milliseconds of log, and never unjust.
//!
//! # Invariants
//! - Lengths in the notes only grow: they are read under the lock under which they are written.
//! - A milestone is noted after the console has told it, and by the same rule.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::interrupt::Interrupt;
use crate::readings;

use super::load::{self, DEVICES, SUBSCRIBER, Scene, token};
use super::log::Entry;
use super::record::{self, Record};
use super::recorder::Recorder;
use super::witness::{Kind, Mark, Notes};

/// A part of a card, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Where it begins.
    pub start: u64,
    /// How long it is.
    pub bytes: u64,
}

/// How far a gateway had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Milestone {
    /// Configuration and token are on the data partition, and nowhere else.
    Seeded,
    /// It has an identity.
    Enrolled,
}

/// What is known of the gateway on a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Its name.
    pub gateway: String,
    /// Its token of enrolment.
    pub token: String,
    /// The folder with the files of its configuration, as they were put onto the card.
    pub config: PathBuf,
    /// The data partition.
    pub data: Part,
}

/// Something noted, with the length that the log had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) log_bytes: u64,
    remark: Remark,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Remark {
    Saw(Vec<Mark>),
    Reached(Milestone),
}

impl Note {
    /// As an entry of the log.
    pub(super) fn entry(&self) -> Entry {
        match &self.remark {
            Remark::Saw(marks) => Entry::Witness(marks.clone()),
            Remark::Reached(milestone) => Entry::Reached(*milestone),
        }
    }
}

/// Reads the notes that were taken beside a card.
pub(super) fn notes(file: &Path) -> Result<Vec<Note>> {
    let lines = BufReader::new(File::open(file)?).lines();
    let note = |line: std::io::Result<String>| Ok(serde_json::from_str(&line?)?);
    let notes: Result<Vec<Note>> = lines.map(note).collect();
    let notes = notes.with_context(|| file.display().to_string())?;
    ensure!(notes.is_sorted_by_key(|note| note.log_bytes), "notes go back in the log");
    Ok(notes)
}

/// Lines of `agent.toml` for the devices and the subscriber of [`Recording::load`].
#[must_use]
pub fn clients_toml() -> String {
    let names = DEVICES.iter().map(|device| device.name).chain([SUBSCRIBER]);
    let lines = names.map(|name| {
        let hash = crate::ledger::hash(token(name).as_bytes());
        format!(
            "[[devices]]\nname = \"{name}\"\ntoken_sha256 = \"{hash}\"\n\
             publish = [\"sensors/#\"]\nsubscribe = [\"#\"]\n"
        )
    });
    lines.collect()
}

/// A record of a card that is being made, in a folder of its own.
#[derive(Debug)]
pub struct Recording {
    dir: PathBuf,
    card: Card,
    recorder: Recorder,
    notebook: Mutex<Notebook>,
}

#[derive(Debug)]
struct Notebook {
    file: BufWriter<File>,
    /// The recorder's.
    log: PathBuf,
    /// Acks by device.
    acked: [u32; DEVICES.len()],
}

/// The notes of one client.
struct Pen<'a, 'b> {
    recording: &'a Recording,
    turn: &'a Turn<'b>,
}

/// Something that is done once, when so many acks are noted.
struct Turn<'b> {
    acks: u64,
    open: Mutex<Option<Box<dyn FnOnce() + Send + 'b>>>,
}

impl Recording {
    /// Begins with the card as it lies in `disk.img` of the folder. From here on only the machine
    /// writes to it, by way of [`Recording::image`].
    ///
    /// # Errors
    /// The folder cannot be written, or the recorder does not come up.
    pub fn begin(dir: &Path, card: Card) -> Result<Self> {
        let disk = dir.join(record::DISK);
        fs::copy(&disk, dir.join(record::BASE)).context("copying the card")?;
        let notebook = Mutex::new(Notebook::new(dir)?);
        let recorder = Recorder::start(dir, &disk, &dir.join(record::LOG))?;
        Ok(Self { dir: dir.to_owned(), card, recorder, notebook })
    }

    /// The card for the machine, as a file.
    #[must_use]
    pub fn image(&self) -> &Path {
        self.recorder.export()
    }

    /// Notes that the console has told of a milestone.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn reached(&self, milestone: Milestone) -> Result<()> {
        self.note(Remark::Reached(milestone)).map(drop)
    }

    fn note(&self, remark: Remark) -> Result<u64> {
        self.notebook.lock().unwrap_or_else(PoisonError::into_inner).note(remark)
    }

    /// All clients from their first message to their last, at a TLS listener of the gateway; at half of
    /// the acks `at_half` is called. Returns when all is acked and heard.
    ///
    /// # Errors
    /// A client does not come to its end.
    pub fn load(
        &self,
        address: SocketAddr,
        ca: &Path,
        messages: u32,
        interrupt: &Interrupt,
        at_half: impl FnOnce() + Send,
    ) -> Result<()> {
        ensure!(messages <= load::MESSAGES_MAX, "{messages} messages of a device");
        let readings = readings::read(&readings::excerpt())?;
        let scene = Scene { address, ca: Some(ca), readings: &readings, upto: messages, interrupt };
        let acks = u64::from(messages) * DEVICES.len() as u64 / 2;
        let turn = Turn { acks, open: Mutex::new(Some(Box::new(at_half))) };
        load::run(&scene, |_| Ok(Pen { recording: self, turn: &turn }))
    }

    /// Ends the record, once the machine has ended: `load` is how long the clients took, `stored` is what the control plane has of the
    /// gateway's streams.
    ///
    /// # Errors
    /// The log and the disk differ, or the folder cannot be written.
    pub fn finish(self, messages: u32, load: Duration, stored: &[Vec<Value>]) -> Result<()> {
        self.recorder.finish()?;
        let mut notebook = self.notebook.into_inner().unwrap_or_else(PoisonError::into_inner);
        notebook.file.flush()?;
        fs::write(self.dir.join(record::STORED), serde_json::to_vec(stored)?)?;
        let load_ms = u64::try_from(load.as_millis())?;
        Record::of_card(&self.dir, self.card, messages, load_ms).keep()
    }
}

impl Notebook {
    fn new(dir: &Path) -> Result<Self> {
        let file = BufWriter::new(File::create(dir.join(record::NOTES))?);
        Ok(Self { file, log: dir.join(record::LOG), acked: [0; DEVICES.len()] })
    }

    /// Writes a note; returns the acks of all devices that are noted.
    fn note(&mut self, remark: Remark) -> Result<u64> {
        let log_bytes = fs::metadata(&self.log).context("the log")?.len();
        if let Remark::Saw(marks) = &remark {
            for mark in marks.iter().filter(|mark| mark.kind == Kind::Acked) {
                self.acked[usize::from(mark.device)] = mark.upto;
            }
        }
        serde_json::to_writer(&mut self.file, &Note { log_bytes, remark })?;
        self.file.write_all(b"\n")?;
        Ok(self.acked.iter().map(|count| u64::from(*count)).sum())
    }
}

impl Notes for Pen<'_, '_> {
    fn note(&mut self, marks: &[Mark]) -> Result<()> {
        if self.recording.note(Remark::Saw(marks.to_vec()))? >= self.turn.acks {
            let open = self.turn.open.lock().unwrap_or_else(PoisonError::into_inner).take();
            open.into_iter().for_each(|open| open());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_with_the_length_that_the_log_had() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let log = dir.path().join(record::LOG);
        let mut notebook = Notebook::new(dir.path())?;
        let mark = Mark { kind: Kind::Acked, device: 1, upto: 3 };
        fs::write(&log, [0; 100])?;
        notebook.note(Remark::Reached(Milestone::Seeded))?;
        fs::write(&log, [0; 700])?;
        assert_eq!(notebook.note(Remark::Saw(vec![mark]))?, 3);
        notebook.file.flush()?;
        let read = notes(&dir.path().join(record::NOTES))?;
        let found: Vec<_> = read.iter().map(|note| (note.log_bytes, note.entry())).collect();
        let due = [(100, Entry::Reached(Milestone::Seeded)), (700, Entry::Witness(vec![mark]))];
        assert_eq!(found, due);
        Ok(())
    }

    #[test]
    fn the_clients_of_the_load_are_all_in_the_configuration() {
        let text = clients_toml().parse::<toml::Table>().expect("TOML");
        assert_eq!(text["devices"].as_array().map(Vec::len), Some(DEVICES.len() + 1));
    }
}
