//! The archive that an initramfs is (cpio, format `newc`), always the same for the same contents.

use std::path::Path;

use anyhow::{Context, Result};

/// Mode of the entries.
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive that grows.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A folder; its parents first.
    pub(crate) fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    /// A file that may be run.
    pub(crate) fn file(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        self.entry(path, PROGRAM, (0, 0), contents)
    }

    /// A file of the host.
    pub(crate) fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        let contents = std::fs::read(from).with_context(|| from.display().to_string())?;
        self.file(path, &contents)
    }

    /// A link to `target`.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.entry(path, SYMLINK, (0, 0), target.as_bytes())
    }

    /// A character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.entry(path, CHARACTER_DEVICE, (major, minor), &[])
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) -> Result<()> {
        self.entries += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let (len, name_len) = (u32::try_from(contents.len())?, u32::try_from(path.len() + 1)?);
        // inode, mode, user, group, links, time, size, device of the file system, of the node, name, sum
        let fields =
            [self.entries, mode, 0, 0, links, 0, len, 0, 0, device.0, device.1, name_len, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn headers_have_110_bytes_and_everything_is_aligned() {
        let mut archive = Archive::default();
        archive.file("init", b"abcde").expect("small");
        let bytes = archive.finish().expect("small");
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000081ED");
        // Name and its end follow at 110, the contents at the next multiple of 4.
        assert_eq!(&bytes[110..115], b"init\0");
        assert_eq!(&bytes[116..121], b"abcde");
        assert_eq!(&bytes[124..130], b"070701");
        assert!(bytes.len().is_multiple_of(4));
        assert!(bytes.windows(11).any(|window| window == b"TRAILER!!!\0"));
    }
}
