//! Files of whole systems: root reads their head on a gateway, whoever wrote them.

use edge_core::boot::Version;
use sync_protocol::id::Digest;
use sync_protocol::limits::SYSTEM_BYTES_MAX;
use sync_protocol::system_file::{HEAD_BYTES_MAX, Header, Part};

use crate::bytes_reader::BytesReader;

/// What is read as the head of a system covers its file exactly, by parts that have bounds; written and
/// read again it is the same; and with one byte more or less the file is none.
pub(super) fn run(bytes: &[u8]) {
    let mut reader = BytesReader::new(bytes);
    let (head, file_bytes) = match reader.byte() % 2 {
        0 => {
            let file_bytes = reader.u64();
            (reader.rest().to_vec(), file_bytes)
        }
        _ => made(&mut reader),
    };
    let head = &head[..head.len().min(HEAD_BYTES_MAX)];
    let Ok((header, from)) = Header::parse(head, file_bytes) else { return };
    let sizes = header.parts().map(|part| part.size);
    assert!(sizes.iter().all(|size| (1..=SYSTEM_BYTES_MAX).contains(size)), "{sizes:?}");
    assert_eq!(from + sizes.iter().sum::<u64>(), file_bytes);
    assert!(from <= head.len() as u64);
    assert!(header.board.bytes().all(|byte| byte.is_ascii_alphanumeric()), "it names a file");
    assert!(header.version().is_some());
    for other in [file_bytes - 1, file_bytes + 1] {
        assert!(Header::parse(head, other).is_err(), "{other} bytes");
    }
    let again = header.to_bytes();
    let end = file_bytes - from + again.len() as u64;
    assert_eq!(Header::parse(&again, end), Ok((header, again.len() as u64)));
}

/// A head as decisions have it, and the length of its file, which may lie.
fn made(reader: &mut BytesReader<'_>) -> (Vec<u8>, u64) {
    const BOARDS: [&str; 4] = ["virt", "rpi3", "../rpi3", ""];
    let board = BOARDS[usize::from(reader.byte()) % BOARDS.len()].to_owned();
    let version = match reader.byte() {
        n @ 0..=199 => Version(u16::from(n), reader.u16(), 0).to_string(),
        n => String::from_utf8_lossy(reader.take(usize::from(n - 200))).into_owned(),
    };
    let mut part = || {
        let size = if reader.byte() < 200 { u64::from(reader.u16()) } else { reader.u64() };
        Part { size, sha256: Digest([reader.byte(); 32]) }
    };
    let header = Header { board, version, root: part(), kernel: part(), initramfs: part() };
    let head = header.to_bytes();
    let sizes = header.parts().map(|part| part.size);
    let said = sizes.iter().fold(head.len() as u64, |sum, size| sum.wrapping_add(*size));
    let lie = u64::from(reader.byte().saturating_sub(250));
    (head, said.wrapping_add(lie))
}
