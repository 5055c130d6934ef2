//! Gives back pages of the program that nobody needs any more.
//!
//! The kernel maps 64 KiB of a program around each page that is touched. So a start, a deployment and an
//! hour's odds and ends leave most of it mapped and counted as memory of this process, though a gateway at rest
//! uses a fifth. Unmapped, the pages stay in the page cache, where the kernel takes them sooner if memory runs
//! short; what is needed again is mapped again, a hundred faults of a microsecond.

use std::ffi::c_void;
use std::io;
use std::time::Duration;

use rustix::mm::{Advice, madvise};

/// From one time to the next: rare enough to cost nothing under load.
const EVERY: Duration = Duration::from_secs(300);
/// The first time: the start is over.
const FIRST: Duration = Duration::from_secs(30);

/// Gives pages back now and then, for ever.
pub async fn give_back_regularly() {
    tokio::time::sleep(FIRST).await;
    loop {
        if let Err(error) = give_back() {
            tracing::debug!(%error, "pages of the program stay mapped");
            return;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Unmaps the program's code.
///
/// # Errors
/// The system does not tell where it lies, or refuses.
pub fn give_back() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let here = give_back as *const () as usize;
    let code = code_around(&maps, here).ok_or_else(|| io::Error::other("no code in the map"))?;
    unmap(&code)
}

/// Addresses of the private mapping of a file that may be executed and not written to, and has `here` in
/// it.
fn code_around(maps: &str, here: usize) -> Option<std::ops::Range<usize>> {
    let mapping = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (range, may) = (words.next()?, words.next()?);
        let inode = words.nth(2)?;
        let (from, to) = range.split_once('-')?;
        let hex = |text| usize::from_str_radix(text, 16).ok();
        let range = hex(from)?..hex(to)?;
        (may == "r-xp" && inode != "0" && range.contains(&here)).then_some(range)
    };
    maps.lines().find_map(mapping)
}

#[expect(
    unsafe_code,
    reason = "no safe call unmaps; what is unmapped is code of a file, which comes back as it was"
)]
fn unmap(code: &std::ops::Range<usize>) -> io::Result<()> {
    let begin = std::ptr::with_exposed_provenance_mut::<c_void>(code.start);
    // SAFETY: the range is one private mapping of a file that was never writable, so none of its pages
    // differs from the file, and the file cannot be written to while it is executed (ETXTBSY). The
    // mapping stays; whoever touches it, this thread first of all, finds the same bytes.
    unsafe { madvise(begin, code.len(), Advice::LinuxDontNeed)? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0a000-55d0b000 r--p 00000000 fe:00 77 /usr/bin/edge-agent
55d0b000-55e0b000 r-xp 00001000 fe:00 77 /usr/bin/edge-agent
55e0b000-55e1b000 r--p 00101000 fe:00 77 /usr/bin/edge-agent
7f000000-7f100000 r-xp 00000000 00:00 0
7f200000-7f300000 r-xp 00000000 fe:00 78 /usr/lib/libc.so.6 (deleted)
7f400000-7f500000 rwxp 00000000 fe:00 79 /tmp/odd
";

    #[test]
    fn only_code_of_the_own_file_is_unmapped() {
        assert_eq!(code_around(MAPS, 0x55d0_b123), Some(0x55d0_b000..0x55e0_b000));
        assert_eq!(code_around(MAPS, 0x7f2f_ffff), Some(0x7f20_0000..0x7f30_0000));
        for data in [0x55d0_a000, 0x55e0_b000, 0x7f00_0000, 0x7f40_0000, 0x1000] {
            assert_eq!(code_around(MAPS, data), None, "{data:x}");
        }
    }

    #[test]
    fn the_program_goes_on() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
            line.trim().split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        give_back().unwrap();
        assert!(resident() < before, "{before} KiB before");
    }
}
