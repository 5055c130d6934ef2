//! Images that a boot loader starts: as files of flash hold them, and what their labels say.
//!
//! Where things lie is said by `firmware-examples/boards/mps2/src/regions.rs`, what a label is by `label.rs` beside it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::qemu::{FLASH_BYTES, Firmware, firmware};

/// The boot loader.
pub const LOADER: &str = "qemu-mps2-an385-boot";
/// What `[firmware]` of an app calls the machine.
pub const BOARD: &str = "mps2-an385";
/// Address of the image that runs.
const ADDRESS: u32 = 0x2120_0000;
/// Pages of an image.
const PAGES: usize = 256;
const PAGE_BYTES: u64 = 4096;
const STATE: u64 = 256 * PAGE_BYTES;
const ACTIVE: u64 = 512 * PAGE_BYTES;
const DOWNLOAD: u64 = 1024 * PAGE_BYTES;
const NOTES: u64 = (1024 + 257) * PAGE_BYTES;
/// Steps of a swap: each page goes out and in. Taking back takes as many again.
pub const SWAP_STEPS: usize = 2 * PAGES;
/// Words of the notes before those of pages (`device_sdk::update::slot`).
const NOTES_HEAD: u64 = 64 + 3 * 4;
/// The boot loader is to swap (embassy-boot).
const SWAP: [u8; 4] = [0xF0; 4];
const MARK: &[u8] = b"holm-image-label";

/// Builds the boot loader.
///
/// # Errors
/// The build fails.
pub fn loader() -> Result<Firmware> {
    firmware(LOADER, &[])
}

/// What an image does wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// Nothing.
    None,
    /// It never speaks with the gateway.
    Mute,
    /// It hangs at its start.
    Hang,
    /// It faults at its start.
    Fault,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// As it is signed, sent, and kept in flash.
    pub bytes: Vec<u8>,
    /// Where its label is.
    label: usize,
}

impl Image {
    /// The image of a firmware; nothing if it is not linked for the slot.
    ///
    /// # Errors
    /// It cannot be read, has no label or more than one, or is longer than the slot.
    pub fn of(firmware: &Firmware) -> Result<Option<Self>> {
        let (address, bytes) = firmware.image()?;
        if address != ADDRESS {
            return Ok(None);
        }
        ensure!(
            bytes.len() as u64 <= PAGES as u64 * PAGE_BYTES,
            "{} bytes: longer than the slot",
            bytes.len()
        );
        let mut labels = bytes.windows(MARK.len()).enumerate().filter(|(_, at)| *at == MARK);
        let (label, _) = labels.next().context("the image has no label")?;
        ensure!(
            labels.next().is_none() && label + 28 <= bytes.len(),
            "the image has two labels, or half a one"
        );
        drop(labels);
        Ok(Some(Self { bytes, label }))
    }

    /// The same with another label.
    #[must_use]
    pub fn labelled(&self, version: u32, floor: u32, drill: Drill) -> Self {
        let mut image = self.clone();
        let words = [version, floor, drill as u32];
        for (index, word) in words.into_iter().enumerate() {
            let at = self.label + MARK.len() + index * 4;
            image.bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        image
    }
}

/// Writes an image where one runs, if none is there. The flash is made if it is missing.
///
/// # Errors
/// The file cannot be read or written.
pub fn write_first(flash: &Path, image: &Image) -> Result<()> {
    if !flash.try_exists().with_context(|| flash.display().to_string())? {
        super::write_flash(flash, &[])?;
    }
    let file = open(flash)?;
    let mut first = [0; 4];
    file.read_exact_at(&mut first, ACTIVE)?;
    if first == [0xFF; 4] || first == [0; 4] {
        file.write_all_at(&image.bytes, ACTIVE)?;
    }
    Ok(())
}

/// Writes an image where the next one is kept, and tells the boot loader to swap, as firmware does.
///
/// # Errors
/// The file cannot be written.
pub fn arm(flash: &Path, bytes: &[u8]) -> Result<()> {
    let file = open(flash)?;
    file.write_all_at(bytes, DOWNLOAD)?;
    file.write_all_at(&[0xFF; 2 * 4096], STATE)?;
    Ok(file.write_all_at(&SWAP, STATE)?)
}

/// Whether this is the image that runs at the next start, byte for byte.
///
/// # Errors
/// The file cannot be read.
pub fn is_active(flash: &Path, image: &Image) -> Result<bool> {
    let mut there = vec![0; image.bytes.len()];
    open(flash)?.read_exact_at(&mut there, ACTIVE)?;
    Ok(there == image.bytes)
}

/// Steps that the boot loader has noted as done: up to [`SWAP_STEPS`] of a swap, then those of taking back.
///
/// # Errors
/// The file cannot be read.
pub fn steps_done(flash: &Path) -> Result<usize> {
    zeros(flash, STATE + 8, 2 * SWAP_STEPS)
}

/// Pages of the next image that are noted as kept.
///
/// # Errors
/// The file cannot be read.
pub fn pages_kept(flash: &Path) -> Result<usize> {
    zeros(flash, NOTES + NOTES_HEAD, PAGES)
}

/// Words of zeros from `at` on, at most so many.
fn zeros(flash: &Path, at: u64, most: usize) -> Result<usize> {
    let mut words = vec![0; most * 4];
    open(flash)?.read_exact_at(&mut words, at)?;
    Ok(words.chunks_exact(4).take_while(|word| word.iter().all(|byte| *byte == 0)).count())
}

fn open(flash: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).open(flash);
    let file = file.with_context(|| flash.display().to_string())?;
    ensure!(file.metadata()?.len() == FLASH_BYTES, "{}: not 16 MiB", flash.display());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_written_once_and_its_label_can_be_set() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let flash = dir.path().join("flash");
        let bytes = [&b"code"[..], MARK, &[0; 12], b"more"].concat();
        let image = Image { bytes, label: 4 };
        let next = image.labelled(7, 2, Drill::Fault);
        assert_eq!(next.bytes[20..32], [7, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(next.bytes.len(), image.bytes.len());
        write_first(&flash, &image)?;
        write_first(&flash, &next)?;
        assert!(is_active(&flash, &image)? && !is_active(&flash, &next)?);
        assert_eq!((steps_done(&flash)?, pages_kept(&flash)?), (0, 0));
        open(&flash)?.write_all_at(&[0; 12], STATE + 8)?;
        assert_eq!(steps_done(&flash)?, 3);
        arm(&flash, &next.bytes)?;
        assert_eq!(steps_done(&flash)?, 0);
        Ok(())
    }
}
