//! A log in files of bounded size: the newest is `FILE`, those before it are `FILE.1`, `FILE.2`
//! and so on, the oldest is deleted.
//!
//! # Invariants
//! - All files together have at most `bytes_max x files_max` bytes; a line longer than a file is
//!   cut. Where the newest cannot take the next name it is emptied.
//! - A disk that takes nothing costs log lines and nothing else: the agent goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::settings::LogFile as Settings;

/// See the module.
#[derive(Debug)]
pub struct LogFile {
    settings: Settings,
    /// `None` after it could not be opened or written: the next line tries again.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

impl LogFile {
    /// Goes on with the newest file, or makes it.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn open(settings: Settings) -> io::Result<Self> {
        let open = Open::at(&settings.file)?;
        Ok(Self { settings, open: Some(open) })
    }

    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        let path = &self.settings.file;
        let mut open = self.open.take().map_or_else(|| Open::at(path), Ok)?;
        if open.bytes > 0 && open.bytes + line.len() as u64 > self.settings.bytes_max {
            if rotate(&self.settings).is_ok() {
                open = Open::at(path)?;
            } else {
                open.file.set_len(0)?;
                open.bytes = 0;
            }
        }
        let open = self.open.insert(open);
        // What was written in part counts too, if that is not known.
        open.bytes += line.len() as u64;
        open.file.write_all(line)
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        // A device of that name would be renamed away under every program of the machine.
        match fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
            }
            _ => {}
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }
}

/// The file of a log that is `n` before the newest, which is 0.
#[must_use]
pub fn name(newest: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return newest.to_owned();
    }
    let mut name = newest.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

/// Each file takes the name after its own, over the oldest.
fn rotate(settings: &Settings) -> io::Result<()> {
    let name = |n| name(&settings.file, n);
    if settings.files_max <= 1 {
        return fs::remove_file(name(0));
    }
    for n in (0..settings.files_max - 1).rev() {
        match fs::rename(name(n), name(n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// One call is one line. It says that all is well whatever the disk says: nobody could act on it.
impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let most = usize::try_from(self.settings.bytes_max).unwrap_or(usize::MAX);
        let kept = &line[..line.len().min(most)];
        if self.put(kept).is_err() {
            self.open = None;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(dir: &Path, bytes_max: u64, files_max: u32) -> Settings {
        Settings { file: dir.join("agent.log"), bytes_max, files_max }
    }

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap_or_default()
    }

    #[test]
    fn where_no_file_can_be_named_the_newest_is_emptied_and_stays_within_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir_all(dir.join("agent.log.1/in the way")).unwrap();
        let mut log = LogFile::open(settings(dir, 10, 2)).unwrap();
        for n in 0..9 {
            writeln!(log, "one{n}").unwrap();
            assert!(read(dir, "agent.log").len() <= 10, "{n}");
        }
        assert_eq!(read(dir, "agent.log"), "one8\n");
    }

    /// As `/dev/null` would be: it must not be renamed away.
    #[test]
    fn what_is_no_plain_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { file: "/dev/null".into(), ..settings(dir.path(), 10, 2) };
        assert_eq!(LogFile::open(settings).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_oldest_lines_go() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut log = LogFile::open(settings(dir, 10, 3)).unwrap();
        for n in 0..9 {
            writeln!(log, "one{n}").unwrap();
        }
        assert_eq!(read(dir, "agent.log"), "one8\n");
        assert_eq!(read(dir, "agent.log.1"), "one6\none7\n");
        assert_eq!(read(dir, "agent.log.2"), "one4\none5\n");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 3);
        drop(log);
        let mut log = LogFile::open(settings(dir, 10, 3)).unwrap();
        writeln!(log, "again").unwrap();
        assert_eq!(read(dir, "agent.log"), "again\n", "one8 and again do not fit one file");
        let mut log = LogFile::open(settings(dir, 10, 1)).unwrap();
        writeln!(log, "a line that is too long").unwrap();
        assert_eq!(read(dir, "agent.log"), "a line tha");
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_nobody_and_comes_back() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("logs");
        LogFile::open(settings(&dir, 10, 2)).expect_err("no folder: it is told at the start");
        fs::create_dir(&dir).unwrap();
        let mut log = LogFile::open(settings(&dir, 10, 2)).unwrap();
        writeln!(log, "1234567").unwrap();
        fs::remove_dir_all(&dir).unwrap();
        writeln!(log, "gone now").unwrap();
        fs::create_dir(&dir).unwrap();
        writeln!(log, "back").unwrap();
        assert_eq!(read(&dir, "agent.log"), "back\n");
    }

    proptest! {
        #[test]
        fn it_never_grows_over_its_bound(
            lines in proptest::collection::vec(0_usize..200, 0..100),
            bytes_max in 1_u64..100,
            files_max in 1_u32..5,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut log = LogFile::open(settings(dir.path(), bytes_max, files_max)).unwrap();
            for len in lines {
                log.write_all(&vec![b'x'; len]).unwrap();
                let files = fs::read_dir(dir.path()).unwrap();
                let sizes: Vec<u64> =
                    files.map(|file| file.unwrap().metadata().unwrap().len()).collect();
                prop_assert!(sizes.len() <= files_max as usize);
                prop_assert!(sizes.iter().all(|size| *size <= bytes_max), "{sizes:?}");
            }
        }
    }
}
