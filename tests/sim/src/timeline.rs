//! What is done to the world at its time, as a scenario's file says it.

use serde::Deserialize;

use crate::app::Kind;

/// Something is done to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// The connection of some device breaks.
    CutDevice,
    /// The process is killed.
    Kill,
    /// The power goes; what comes back is the same machine, started.
    CutPower,
    /// The process or the power ends within a disk operation soon.
    DieSoon,
    /// A graceful stop and start.
    Stop,
    /// Something else takes the disk's room.
    FillDisk,
    /// The disk is read-only; what was written and not synced may be lost.
    SealDisk,
    /// The disk has room and takes writes.
    FreeDisk,
    /// The wall clock shows 1970, and nobody vouches for it.
    #[serde(rename = "clock-to-1970")]
    ClockTo1970,
    /// The wall clock is off by so many milliseconds, and nobody vouches for it.
    ClockOffMs(i64),
    /// The wall clock is right, and the system vouches for it.
    ClockRight,
    /// The control plane asks for a new revision of this kind.
    Desire(Kind),
    /// A backup of the control plane is made.
    BackUpCloud,
    /// The control plane goes back to its last backup.
    RestoreCloud,
    /// A second machine with a copy of this one's card sends records of its own as this gateway.
    CloneSpeaks,
    /// There is no link to the control plane from now on.
    LinkDown,
    /// There is a link again.
    LinkUp,
}

/// A deed at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, in microseconds since the start.
    pub at_us: u64,
    /// Mean time until it is done again; 0: it is done once.
    pub every_us: u64,
    /// When it is done no more.
    pub until_us: u64,
    /// What.
    pub deed: Deed,
}
