//! The scripted control plane: stores records, states what should run, and forgets as after a
//! restore from a backup.

use std::collections::{BTreeMap, BTreeSet};

use sync_protocol::id::{Digest, InstanceId};
use sync_protocol::limits::CHUNK_BYTES_MAX;
use sync_protocol::record::{Record, RecordBody};
use sync_protocol::wire::{
    AppTarget, Chunk, ChunkRefused, ChunkRequest, Conflicts, Desired, Down, Hello, Receipt,
    Records, StateReport, StreamMark, Up, Welcome,
};

use crate::app::{APP, Apps, Kind};
use crate::seen::Seen;

const INSTANCE: InstanceId = InstanceId([7; 16]);

/// A position of a stream, and the process run of the record there.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    seq: u64,
    epoch: u64,
}

/// What a backup holds.
#[derive(Debug, Default)]
struct Backup {
    marks: BTreeMap<u8, Mark>,
    generation: u64,
    desired: Option<Digest>,
}

/// A record that is stored for the first time.
#[derive(Clone, Copy, Debug)]
pub struct News {
    /// Stream.
    pub stream: u8,
    /// First position it stands for.
    pub first: u64,
    /// Position.
    pub seq: u64,
    /// The process run that wrote it.
    pub epoch: u64,
    /// It stands for records that were dropped.
    pub is_tombstone: bool,
}

impl News {
    /// For the oracles.
    #[must_use]
    pub fn seen(&self) -> Seen<'static> {
        let Self { stream, first, seq, epoch, is_tombstone } = *self;
        Seen::Stored { stream, first, seq, epoch, is_tombstone }
    }
}

/// The control plane.
#[derive(Debug, Default)]
pub struct Cloud {
    /// What it can offer.
    pub apps: Apps,
    marks: BTreeMap<u8, Mark>,
    generation: u64,
    desired: Option<Digest>,
    backup: Backup,
    clones: u64,
    /// Positions at which it holds records of a clone.
    foreign: BTreeSet<(u8, u64)>,
    /// What the gateway said last of its deployments.
    pub reported: Option<StateReport>,
}

impl Cloud {
    /// Asks for a new revision of this kind. Returns it.
    pub fn desire(&mut self, kind: Kind) -> Digest {
        let revision = self.apps.build(kind);
        self.state(Some(revision));
        revision
    }

    /// Asks again for what it asked for, as a new statement.
    pub fn restate(&mut self) {
        self.state(self.desired);
    }

    fn state(&mut self, revision: Option<Digest>) {
        self.generation += 1;
        self.desired = revision;
    }

    /// The last statement.
    #[must_use]
    pub fn desired(&self) -> Down {
        let apps = self.desired.iter();
        Down::Desired(Desired {
            instance: INSTANCE,
            generation: self.generation,
            apps: apps
                .map(|revision| AppTarget { app: APP.to_owned(), revision: *revision })
                .collect(),
        })
    }

    /// Number of the last statement.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Keeps a backup of what is stored.
    pub fn back_up(&mut self) {
        let (marks, generation, desired) = (self.marks.clone(), self.generation, self.desired);
        self.backup = Backup { marks, generation, desired };
    }

    /// Goes back to the backup; what was stored since is lost here.
    pub fn restore(&mut self) {
        let Backup { marks, generation, desired } = &self.backup;
        (self.marks, self.generation, self.desired) = (marks.clone(), *generation, *desired);
    }

    /// Stores `count` records in each stream that another machine sent under this one's name.
    /// Returns stream, first and last of them.
    pub fn hear_clone(&mut self, count: u64) -> Vec<(u8, u64, u64)> {
        self.clones += 1;
        let epoch = u64::MAX - self.clones;
        let mut stored = Vec::new();
        for (stream, mark) in &mut self.marks {
            let first = mark.seq + 1;
            *mark = Mark { seq: mark.seq + count, epoch };
            self.foreign.extend((first..=mark.seq).map(|seq| (*stream, seq)));
            stored.push((*stream, first, mark.seq));
        }
        stored
    }

    /// Answers the gateway. `news` are the records stored for the first time.
    pub fn hear(&mut self, up: Up, unix_ms: u64, news: &mut Vec<News>) -> Vec<Down> {
        match up {
            Up::Hello(hello) => self.hello(&hello, unix_ms),
            Up::Records(records) => vec![self.records(records, news)],
            Up::StateReport(report) => {
                self.report(report);
                Vec::new()
            }
            Up::ChunkRequest(request) => vec![self.chunk(request)],
            Up::Health(_) | Up::Reply(_) | Up::Logs(_) | Up::CertificateRequest(_) => Vec::new(),
        }
    }

    /// As the real one does: a gateway that has taken a generation which was never stated here
    /// knows it from before a backup was put back; what it should run is stated above that. One
    /// that knows of no app takes none off.
    fn report(&mut self, report: StateReport) {
        if report.generation > self.generation {
            self.generation = report.generation + u64::from(self.desired.is_some());
        }
        self.reported = Some(report);
    }

    fn hello(&mut self, hello: &Hello, unix_ms: u64) -> Vec<Down> {
        self.report(hello.state.clone());
        for position in &hello.streams {
            let mark = self.marks.entry(position.stream).or_default();
            // What the gateway no longer has is a gap, shown to people; nothing waits for it.
            if mark.seq + 1 < position.first {
                *mark = Mark { seq: position.first - 1, epoch: 0 };
            }
        }
        let stored = hello.streams.iter().map(|position| {
            let mark = self.marks[&position.stream];
            StreamMark { stream: position.stream, seq: mark.seq, epoch: mark.epoch }
        });
        let welcome = Welcome { instance: INSTANCE, unix_ms, stored: stored.collect() };
        vec![Down::Welcome(welcome), self.desired()]
    }

    fn records(&mut self, records: Records, news: &mut Vec<News>) -> Down {
        let stream = records.stream;
        let mark = self.marks.entry(stream).or_default();
        let mut positions = Vec::new();
        for record in records.records {
            let is_tombstone = matches!(record.body, RecordBody::Tombstone(_));
            if record.seq <= mark.seq {
                if !is_tombstone && self.foreign.contains(&(stream, record.seq)) {
                    positions.push(record.seq);
                }
                continue;
            }
            news.push(News {
                stream,
                first: first(&record),
                seq: record.seq,
                epoch: record.epoch,
                is_tombstone,
            });
            *mark = Mark { seq: record.seq, epoch: record.epoch };
        }
        let seq = mark.seq;
        if positions.is_empty() {
            Down::Receipt(Receipt { stream, seq })
        } else {
            Down::Conflicts(Conflicts { stream, seq, positions })
        }
    }

    fn chunk(&self, request: ChunkRequest) -> Down {
        let ChunkRequest { digest, offset, len } = request;
        let file = self.apps.file(digest);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = file.and_then(|file| file.get(start..));
        let (Some(file), Some(rest)) = (file, rest) else {
            let reason = "there is no such file".to_owned();
            return Down::ChunkRefused(ChunkRefused { digest, reason });
        };
        let len = rest.len().min(len.min(CHUNK_BYTES_MAX) as usize);
        let (total, bytes) = (file.len() as u64, rest[..len].to_vec());
        Down::Chunk(Chunk { digest, offset, total, bytes })
    }
}

fn first(record: &Record) -> u64 {
    match &record.body {
        RecordBody::Tombstone(tombstone) => tombstone.from,
        RecordBody::Telemetry(_) | RecordBody::DeadLetter(_) | RecordBody::Report(_) => record.seq,
    }
}
