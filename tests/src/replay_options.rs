//! What `cargo xtask crash-replay` asks of the program that does it: the task itself is built without
//! the agent's store, which would have to be built before anything could be said.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is recorded and cut.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// Where everything is written; made if absent. One run at a time.
    pub dir: PathBuf,
    /// Chooses the points and what becomes of unflushed writes.
    pub seed: u64,
    /// How many cuts.
    pub points: usize,
    /// At every so-many-th point the whole agent is brought up and the clients come back.
    pub whole_every: usize,
    /// Messages of each device.
    pub messages: u32,
    /// Only the point with this number.
    pub only: Option<usize>,
    /// Every cut finds a disk that had not done its last flushes, though it said so.
    pub disk_lies: bool,
    /// The agent program.
    pub agent: String,
    /// A planted bug of a test-only agent.
    pub plant: Option<String>,
    /// The record that is there is cut, of an earlier run or of a card; none is made.
    pub again: bool,
    /// The record stays in any case; without this only if something was found.
    pub keep: bool,
    /// The report is printed as JSON.
    pub json: bool,
}
