//! The boot script: its template filled in, and the head that U-Boot wants before a script.

use anyhow::{Result, ensure};
use edge_core::boot::card::crc32;

use super::board::Board;
use super::layout::RECORD_SECTORS;

/// What `cross/image/boot.cmd` becomes on this board.
pub(crate) fn script(template: &str, board: Board) -> Result<String> {
    let addresses = board.addresses();
    let filled = template
        .replace("@NAME@", board.name())
        .replace("@SCRATCH@", addresses.scratch)
        .replace("@KERNEL@", addresses.kernel)
        .replace("@PACKED@", addresses.packed)
        .replace("@RAMDISK@", addresses.ramdisk)
        .replace("@COPY0@", &format!("{:x}", RECORD_SECTORS[0]))
        .replace("@COPY1@", &format!("{:x}", RECORD_SECTORS[1]))
        .replace("@ARGS@", board.consoles());
    let code = filled.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    ensure!(!code.contains('@'), "boot.cmd has a placeholder that is not filled in:\n{code}");
    Ok(code)
}

/// A script in U-Boot's legacy format (`boot.scr`).
pub(crate) fn boot_scr(script: &str, epoch: u64) -> Result<Vec<u8>> {
    const MAGIC: u32 = 0x2705_1956;
    // Linux, arm64, script, not compressed.
    const KIND: [u8; 4] = [5, 22, 6, 0];
    let len = u32::try_from(script.len())?;
    // A script is a list of parts: length of the only one, and the end of the list.
    let mut data = [len.to_be_bytes(), [0; 4]].concat();
    data.extend_from_slice(script.as_bytes());
    let mut head = Vec::new();
    let time = u32::try_from(epoch).unwrap_or(u32::MAX);
    for number in [MAGIC, 0, time, u32::try_from(data.len())?, 0, 0, crc32(&data)] {
        head.extend_from_slice(&number.to_be_bytes());
    }
    head.extend_from_slice(&KIND);
    head.extend_from_slice(b"holm boot");
    head.resize(64, 0);
    let sum = crc32(&head).to_be_bytes();
    head[4..8].copy_from_slice(&sum);
    head.extend_from_slice(&data);
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::{Board, boot_scr, crc32, script};

    const TEMPLATE: &str = include_str!("../../../image/boot.cmd");

    #[test]
    fn the_script_is_filled_in_for_every_board() {
        for board in [Board::Virt, Board::Rpi3, Board::Zero2w, Board::Rpi4] {
            let script = script(TEMPLATE, board).expect("all is filled in");
            assert!(script.contains("read ${c0} 2000 1"));
            assert!(script.contains(board.consoles()));
            assert!(!script.contains('#'));
        }
    }

    #[test]
    fn head_and_data_have_their_checksums() {
        let image = boot_scr("echo hello\n", 1_700_000_000).expect("short");
        assert_eq!(image.len(), 64 + 8 + 11);
        assert_eq!(image[24..28], crc32(&image[64..]).to_be_bytes());
        let mut head = image[..64].to_vec();
        head[4..8].fill(0);
        assert_eq!(image[4..8], crc32(&head).to_be_bytes());
    }
}
