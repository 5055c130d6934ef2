//! How often the process died of late. A crash loop starts in safe mode: messages are taken and
//! kept, deployments go on, and no function runs.
//!
//! # Rules
//! - A life that ends without having been told to is counted, unless it lasted [`WELL_AFTER`], or
//!   the kernel ended with it: a power cut is nobody's fault.
//! - Ends are counted of one program: with an update, and with the way back from one, the count begins
//!   anew, once.
//! - At `safe_mode_after` such ends in a row the next life begins in safe mode. It is left by
//!   itself after a well life of [`WELL_AFTER`]: one more such end then leads back into it. Or an
//!   operator says so (`edge-agent resume`).
//! - The count is durable before anything that may be to blame is done: the store is opened and
//!   functions are compiled after it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};

use edge_core::id::Digest;
use edge_core::input::Input;
use edge_core::time::Millis;
use serde::{Deserialize, Serialize};

use super::gateway::Gateway;
use crate::runtime::boot_id;
use crate::slot;

const FILE: &str = "lives";

/// A life that lasts so long is well.
pub(super) const WELL_AFTER: Millis = Millis(10 * 60_000);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    /// Kernel boot under which it was written.
    boot: String,
    /// Ends in a row that count.
    ends: u32,
    /// A life is under way.
    lives: bool,
    /// The program whose ends they are; `None`: nobody said.
    program: Option<Digest>,
    /// What is left of attempts in work was left by another program.
    follows_another: bool,
}

/// The count of one data directory.
#[derive(Debug)]
pub(super) struct Lives {
    /// `None`: nothing outlives the process, and nothing is counted.
    file: Option<File>,
    row: Row,
    boot: String,
    /// Ends that lead to safe mode; 0: none do.
    after: u32,
    safe_mode: bool,
    /// When this life is well.
    well_at: Option<Millis>,
}

impl Lives {
    /// Reads the count; nothing is noted yet.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub(super) fn open(dir: &Path, after: u32) -> io::Result<Self> {
        Self::open_under(dir, after, boot_id())
    }

    /// For a process whose end nobody counts: it never begins in safe mode.
    #[must_use]
    pub(super) fn unkept() -> Self {
        let (row, boot) = Default::default();
        Self { file: None, row, boot, after: 0, safe_mode: false, well_at: None }
    }

    fn open_under(dir: &Path, after: u32, boot: String) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(dir.join(FILE))?;
        let mut bytes = Vec::new();
        (&file).take(slot::SLOT_BYTES as u64).read_to_end(&mut bytes)?;
        let row = slot::decode(&bytes).unwrap_or_default();
        Ok(Self { file: Some(file), row, boot, after, safe_mode: false, well_at: None })
    }

    /// This life is one of `program`. The ends of another one are not its own, and those of an update on
    /// trial are counted by its launcher.
    pub(super) fn run_by(&mut self, program: Digest, on_trial: bool) {
        let follows_another = self.row.program != Some(program);
        if follows_another || on_trial {
            let follows_another = follows_another || self.row.follows_another;
            self.row = Row { program: Some(program), follows_another, ..Row::default() };
        }
    }

    /// Whether what is left of attempts in work was left by another program.
    #[must_use]
    pub(super) fn follows_another(&self) -> bool {
        self.row.follows_another
    }

    /// What was left of attempts is settled.
    pub(super) fn settled(&mut self) {
        if std::mem::take(&mut self.row.follows_another) {
            self.write();
        }
    }

    /// A life begins.
    pub(super) fn begin(&mut self) {
        let same_boot = !self.boot.is_empty() && self.row.boot == self.boot;
        if self.row.lives && same_boot {
            self.row.ends = self.row.ends.saturating_add(1);
        }
        self.safe_mode = self.after > 0 && self.row.ends >= self.after;
        self.row.lives = true;
        self.row.boot.clone_from(&self.boot);
        self.write();
    }

    /// Whether functions run.
    #[must_use]
    pub(super) fn safe_mode(&self) -> bool {
        self.safe_mode
    }

    /// Ends in a row that were not asked for.
    #[must_use]
    pub(super) fn ends(&self) -> u32 {
        self.row.ends
    }

    /// When this life is well, and safe mode over.
    #[must_use]
    pub(super) fn well_at(&self) -> Option<Millis> {
        self.well_at
    }

    /// The loop runs (again, after a failed store): the time to be well begins with the first.
    pub(super) fn runs(&mut self, now: Millis) {
        self.well_at.get_or_insert(now + WELL_AFTER);
    }

    /// Notes a life that is well. Returns whether that ends safe mode.
    pub(super) fn look(&mut self, now: Millis) -> bool {
        if self.well_at.is_none_or(|at| now < at) {
            return false;
        }
        let left = std::mem::take(&mut self.safe_mode);
        // Without functions it was well; whether it is with them the next span tells.
        self.row.ends = if left { self.after.saturating_sub(1) } else { 0 };
        self.well_at = left.then_some(now + WELL_AFTER);
        self.write();
        left
    }

    /// An operator says that functions may run. Returns whether that ends safe mode.
    pub(super) fn resume(&mut self) -> bool {
        let left = std::mem::take(&mut self.safe_mode);
        self.row.ends = 0;
        self.write();
        left
    }

    /// The life ends as it should: told to, or because it cannot go on and says why.
    pub(super) fn end(&mut self) {
        self.row.lives = false;
        self.write();
    }

    /// In place: on a full disk, blocks that were given up would not come back.
    fn write(&self) {
        let Some(file) = &self.file else { return };
        let written = slot::encode(&self.row)
            .and_then(|bytes| file.write_all_at(&bytes, 0))
            .and_then(|()| file.sync_data());
        if let Err(error) = written {
            tracing::warn!(%error, "a crash loop may not be noticed");
        }
    }
}

impl Gateway {
    pub(super) fn life(&self) -> MutexGuard<'_, Lives> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop begins; people are told if it is in safe mode.
    pub(super) fn begin_life(&mut self) {
        let at = self.now.at;
        self.life().runs(at);
        if self.core.is_in_safe_mode() {
            let ends = self.life().ends();
            tracing::error!(ends, "safe mode: the process kept dying, so no function runs");
            let text = format!(
                "the process died {ends} times in a row: messages are kept and deployments go on, \
                 but no function runs until it was well for 10 minutes, or until \
                 `edge-agent resume`"
            );
            self.tell_cloud("safe-mode", text);
        }
    }

    /// What is due when this life is well.
    pub(super) fn look_at_life(&mut self) {
        let at = self.now.at;
        let left = self.life().look(at);
        if left {
            self.with_core(Input::LeaveSafeMode);
        }
    }

    /// An operator says that functions may run. Returns whether that ends safe mode.
    pub(super) fn resume_life(&mut self) -> bool {
        let left = self.life().resume();
        if left {
            self.with_core(Input::LeaveSafeMode);
        }
        left
    }

    /// How long safe mode has still to last.
    #[must_use]
    pub(super) fn safe_mode_left(&self) -> Option<Millis> {
        let at = self.life().well_at().filter(|_| self.core.is_in_safe_mode());
        at.map(|at| at.since(self.now.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(dir: &Path, boot: &str) -> Lives {
        let mut lives = Lives::open_under(dir, 3, boot.to_owned()).unwrap();
        lives.begin();
        lives.runs(Millis(0));
        lives
    }

    #[test]
    fn ends_in_a_row_lead_to_safe_mode_and_a_good_one_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        for ends in 0..3 {
            let lives = life(dir.path(), "boot");
            assert_eq!((lives.ends(), lives.safe_mode()), (ends, false));
        }
        life(dir.path(), "boot").end();
        let lives = life(dir.path(), "boot");
        assert_eq!((lives.ends(), lives.safe_mode()), (3, true), "a good end counts nothing");
    }

    #[test]
    fn a_well_life_clears_the_count() {
        let dir = tempfile::tempdir().unwrap();
        (0..2).for_each(|_| drop(life(dir.path(), "boot")));
        let mut lives = life(dir.path(), "boot");
        assert!(!lives.look(Millis(WELL_AFTER.0 - 1)) && lives.ends() == 2);
        assert!(!lives.look(WELL_AFTER) && lives.ends() == 0);
        assert_eq!(lives.well_at(), None);
    }

    #[test]
    fn safe_mode_is_left_after_a_well_life_and_one_more_end_leads_back() {
        let dir = tempfile::tempdir().unwrap();
        (0..3).for_each(|_| drop(life(dir.path(), "boot")));
        let mut lives = life(dir.path(), "boot");
        lives.runs(Millis(5_000));
        assert_eq!((lives.safe_mode(), lives.well_at()), (true, Some(WELL_AFTER)));
        assert!(lives.look(WELL_AFTER) && !lives.safe_mode());
        let mut lives = life(dir.path(), "boot");
        assert!(lives.safe_mode());
        assert!(lives.look(WELL_AFTER));
        assert!(!lives.look(WELL_AFTER + WELL_AFTER));
        assert!(!life(dir.path(), "boot").safe_mode(), "it was well with functions too");
    }

    fn life_of(dir: &Path, program: u8, on_trial: bool) -> Lives {
        let mut lives = Lives::open_under(dir, 3, "boot".to_owned()).unwrap();
        lives.run_by(Digest([program; 32]), on_trial);
        lives.begin();
        lives
    }

    #[test]
    fn what_another_program_did_is_forgiven_once() {
        let dir = tempfile::tempdir().unwrap();
        (0..4).for_each(|_| drop(life_of(dir.path(), 1, false)));
        let lives = life_of(dir.path(), 2, false);
        assert_eq!((lives.ends(), lives.safe_mode(), lives.follows_another()), (0, false, true));
        // What it does from then on is its own; what is left of attempts, when that is settled.
        let mut lives = life_of(dir.path(), 2, false);
        assert_eq!((lives.ends(), lives.follows_another()), (1, true));
        lives.settled();
        let lives = life_of(dir.path(), 2, false);
        assert_eq!((lives.ends(), lives.follows_another()), (2, false));
        assert!(life_of(dir.path(), 2, false).safe_mode());
    }

    #[test]
    fn ends_of_an_update_on_trial_are_not_counted() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..9 {
            let lives = life_of(dir.path(), 1, true);
            assert_eq!((lives.ends(), lives.safe_mode()), (0, false));
        }
        life_of(dir.path(), 1, true).end();
        assert_eq!(life_of(dir.path(), 1, false).ends(), 0);
    }

    #[test]
    fn an_operator_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        (0..3).for_each(|_| drop(life(dir.path(), "boot")));
        let mut lives = life(dir.path(), "boot");
        assert!(lives.resume() && !lives.safe_mode() && !lives.resume());
        assert_eq!(life(dir.path(), "boot").ends(), 1);
    }

    #[test]
    fn power_cuts_and_damage_count_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for boot in ["a", "b", "c", "d", "e"] {
            assert_eq!(life(dir.path(), boot).ends(), 0);
        }
        drop(life(dir.path(), "e"));
        std::fs::write(dir.path().join(FILE), [7; 100]).unwrap();
        assert_eq!(life(dir.path(), "e").ends(), 0);
    }

    #[test]
    fn without_a_number_there_is_no_safe_mode() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..9 {
            let mut lives = Lives::open_under(dir.path(), 0, "boot".to_owned()).unwrap();
            lives.begin();
            assert!(!lives.safe_mode());
        }
    }
}
