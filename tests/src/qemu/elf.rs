//! What a firmware takes of flash and RAM, from the section headers of its ELF file, counted as
//! `size` counts it, and what of it lies in flash, from its program headers. Format: System V ABI, chapters 4 and 5, for
//! 32 bits, little endian.

use anyhow::{Context, Result, ensure};

/// Flash and RAM of a firmware, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Code and constants: flash.
    pub text: u64,
    /// Variables with a value: flash and RAM.
    pub data: u64,
    /// Variables that begin at 0: RAM.
    pub bss: u64,
}

const SECTION_TABLE: usize = 0x20;
const SECTION_BYTES: usize = 0x2E;
const SECTION_COUNT: usize = 0x30;
const TYPE: usize = 0x04;
const FLAGS: usize = 0x08;
const SIZE: usize = 0x14;

const NOBITS: u32 = 8;
const WRITE: u32 = 1;
const ALLOCATED: u32 = 2;

impl Sizes {
    /// Reads them from an ELF file.
    ///
    /// # Errors
    /// It is not one of 32 bits, or is cut off.
    pub fn of(elf: &[u8]) -> Result<Self> {
        ensure!(elf.starts_with(b"\x7fELF\x01\x01"), "not an ELF file of 32 bits, little endian");
        let table = word(elf, SECTION_TABLE)? as usize;
        let (bytes, count) = (half(elf, SECTION_BYTES)?, half(elf, SECTION_COUNT)?);
        let mut sizes = Self::default();
        for index in 0..usize::from(count) {
            let header = table + index * usize::from(bytes);
            let flags = word(elf, header + FLAGS)?;
            let size = u64::from(word(elf, header + SIZE)?);
            if flags & ALLOCATED == 0 {
                continue;
            }
            if word(elf, header + TYPE)? == NOBITS {
                // What cannot be written holds no variable: room that a linker script keeps free.
                sizes.bss += if flags & WRITE == 0 { 0 } else { size };
            } else if flags & WRITE != 0 {
                sizes.data += size;
            } else {
                sizes.text += size;
            }
        }
        Ok(sizes)
    }
}

const SEGMENT_TABLE: usize = 0x1C;
const SEGMENT_BYTES: usize = 0x2A;
const SEGMENT_COUNT: usize = 0x2C;
const SEGMENT_OFFSET: usize = 0x04;
const SEGMENT_ADDRESS: usize = 0x0C;
const SEGMENT_FILE_BYTES: usize = 0x10;

const LOAD: u32 = 1;
/// Longest image: far more than any flash here has.
const IMAGE_MAX: usize = 16 << 20;

/// The bytes of flash from the first to the last one that the ELF file fills, and the address of the first.
///
/// # Errors
/// It is not an ELF file of 32 bits, is cut off, or fills more than 16 MiB.
pub(super) fn image(elf: &[u8]) -> Result<(u32, Vec<u8>)> {
    ensure!(elf.starts_with(b"\x7fELF\x01\x01"), "not an ELF file of 32 bits, little endian");
    let table = word(elf, SEGMENT_TABLE)? as usize;
    let (bytes, count) = (half(elf, SEGMENT_BYTES)?, half(elf, SEGMENT_COUNT)?);
    let mut parts = Vec::new();
    for index in 0..usize::from(count) {
        let header = table + index * usize::from(bytes);
        let length = word(elf, header + SEGMENT_FILE_BYTES)? as usize;
        if word(elf, header)? == LOAD && length > 0 {
            let from = word(elf, header + SEGMENT_OFFSET)? as usize;
            let part = elf.get(from..from + length).context("the ELF file is cut off")?;
            parts.push((word(elf, header + SEGMENT_ADDRESS)?, part));
        }
    }
    parts.sort_by_key(|(address, _)| *address);
    let first = parts.first().context("the ELF file has nothing to load")?.0;
    let mut image = Vec::new();
    for (address, part) in parts {
        let start = (address - first) as usize;
        ensure!(
            start >= image.len() && start + part.len() <= IMAGE_MAX,
            "parts that overlap, or too far apart"
        );
        image.resize(start, 0xFF);
        image.extend_from_slice(part);
    }
    Ok((first, image))
}

fn word(elf: &[u8], at: usize) -> Result<u32> {
    let bytes = elf.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_le_bytes(*bytes.context("the ELF file is cut off")?))
}

fn half(elf: &[u8], at: usize) -> Result<u16> {
    let bytes = elf.get(at..).and_then(|rest| rest.first_chunk());
    Ok(u16::from_le_bytes(*bytes.context("the ELF file is cut off")?))
}

#[cfg(test)]
mod tests {
    use super::{
        SECTION_BYTES, SECTION_COUNT, SECTION_TABLE, SEGMENT_ADDRESS, SEGMENT_BYTES, SEGMENT_COUNT,
        SEGMENT_FILE_BYTES, SEGMENT_OFFSET, SEGMENT_TABLE, Sizes, image,
    };

    #[test]
    fn an_image_is_what_is_loaded_in_order_of_addresses_with_erased_gaps() {
        let mut elf = vec![0; 0x34 + 3 * 32];
        elf[..6].copy_from_slice(b"\x7fELF\x01\x01");
        put(&mut elf, SEGMENT_TABLE, 0x34);
        elf[SEGMENT_BYTES] = 32;
        elf[SEGMENT_COUNT] = 3;
        let end = u32::try_from(elf.len()).unwrap();
        elf.extend_from_slice(b"datacode");
        // Kind, offset, address, bytes of the file: constants behind code, and what only takes RAM.
        let segments = [(1, end, 0x106, 4), (1, end + 4, 0x100, 4), (1, end, 0x2000, 0)];
        for (index, (kind, offset, address, bytes)) in segments.into_iter().enumerate() {
            let header = 0x34 + index * 32;
            put(&mut elf, header, kind);
            put(&mut elf, header + SEGMENT_OFFSET, offset);
            put(&mut elf, header + SEGMENT_ADDRESS, address);
            put(&mut elf, header + SEGMENT_FILE_BYTES, bytes);
        }
        assert_eq!(image(&elf).unwrap(), (0x100, b"code\xFF\xFFdata".to_vec()));
        elf.pop();
        assert!(image(&elf).is_err());
    }

    fn put(elf: &mut [u8], at: usize, value: u32) {
        elf[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    #[test]
    fn sections_are_counted_by_kind_and_a_file_that_is_cut_off_is_refused() {
        // Type, flags, size: code, constants, variables, zeroes, room that is kept free, and a section that is not loaded.
        let sections = [(1, 6, 100), (1, 2, 20), (1, 3, 8), (8, 3, 40), (8, 2, 500), (1, 0, 999)];
        let mut elf = vec![0; 0x34 + sections.len() * 40];
        elf[..6].copy_from_slice(b"\x7fELF\x01\x01");
        put(&mut elf, SECTION_TABLE, 0x34);
        elf[SECTION_BYTES] = 40;
        elf[SECTION_COUNT] = 6;
        for (index, (kind, flags, size)) in sections.into_iter().enumerate() {
            let header = 0x34 + index * 40;
            put(&mut elf, header + 0x04, kind);
            put(&mut elf, header + 0x08, flags);
            put(&mut elf, header + 0x14, size);
        }
        assert_eq!(Sizes::of(&elf).unwrap(), Sizes { text: 120, data: 8, bss: 40 });
        elf.truncate(elf.len() - 30);
        assert!(Sizes::of(&elf).is_err());
        assert!(Sizes::of(b"\x7fELF\x02\x01").is_err());
    }
}
