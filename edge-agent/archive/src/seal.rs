//! The trailer of a backup, by which a cut or a flipped bit anywhere is found before anything is
//! done with it.
//!
//! It is an empty member of the gzip file, so that `tar tzf` lists a backup; 48 bytes of its header say:
//!
//! ```text
//! offset size
//!      0    8  magic "HOLMSEAL"
//!      8    8  length of what stands before the trailer, little-endian
//!     16   32  SHA-256 of what stands before the trailer
//! ```
//!
//! It finds damage. It proves no origin: who can write a backup can write its trailer.

use std::io::{self, Read, Seek, SeekFrom, Write};

use ring::digest::{Context, SHA256};

/// A gzip header (RFC 1952) with an extra field `HL` of 48 bytes, and the magic.
const BEGIN: [u8; 24] = *b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x34\0HL\x30\0HOLMSEAL";
/// An empty deflate block, the CRC of nothing, the length of nothing.
const END: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Bytes of a trailer.
const TRAILER_BYTES: usize = BEGIN.len() + 8 + 32 + END.len();
const STEP: usize = 64 << 10;

/// Counts and hashes what passes.
pub struct Hashed<T> {
    inner: T,
    context: Context,
    bytes: u64,
}

impl<T> Hashed<T> {
    /// Nothing has passed yet.
    pub fn new(inner: T) -> Self {
        Self { inner, context: Context::new(&SHA256), bytes: 0 }
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// What is behind it, how many bytes passed, and their SHA-256.
    pub fn finish(self) -> (T, u64, [u8; 32]) {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.context.finish().as_ref());
        (self.inner, self.bytes, hash)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.passed(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.passed(&out[..read]);
        Ok(read)
    }
}

/// Puts the trailer behind what was written.
///
/// # Errors
/// What is behind refuses it.
pub fn seal<W: Write>(written: Hashed<W>) -> io::Result<W> {
    let (mut file, bytes, hash) = written.finish();
    file.write_all(&trailer(bytes, &hash))?;
    Ok(file)
}

fn trailer(bytes: u64, hash: &[u8; 32]) -> Vec<u8> {
    [&BEGIN[..], &bytes.to_le_bytes(), hash, &END].concat()
}

/// Why a file is not whole.
#[derive(Debug)]
pub enum Broken {
    /// The system refused.
    Io(io::Error),
    /// It is not what it should be.
    Why(&'static str),
}

/// Checks a file against its trailer. Returns the length of what stands before it; the file is at
/// its beginning again.
///
/// # Errors
/// It is not whole, or cannot be read.
pub fn verify(file: &mut (impl Read + Seek)) -> Result<u64, Broken> {
    let len = file.seek(SeekFrom::End(0)).map_err(Broken::Io)?;
    let body = len.checked_sub(TRAILER_BYTES as u64).ok_or(Broken::Why("it is too short"))?;
    let mut found = [0; TRAILER_BYTES];
    file.seek(SeekFrom::Start(body)).map_err(Broken::Io)?;
    file.read_exact(&mut found).map_err(Broken::Io)?;
    if found[..BEGIN.len()] != BEGIN {
        return Err(Broken::Why("its end is missing, or it was not made by `edge-agent backup`"));
    }
    if found[BEGIN.len()..][..8] != body.to_le_bytes() {
        return Err(Broken::Why("its length is not the one that it was made with"));
    }
    file.rewind().map_err(Broken::Io)?;
    let mut hashed = Hashed::new(io::sink());
    copy(&mut file.by_ref().take(body), &mut hashed).map_err(Broken::Io)?;
    let (_, _, hash) = hashed.finish();
    file.rewind().map_err(Broken::Io)?;
    if found[..] != trailer(body, &hash)[..] {
        return Err(Broken::Why("its checksum is wrong"));
    }
    Ok(body)
}

/// Copies to the end. Returns how many bytes.
///
/// # Errors
/// Either side fails.
pub fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<u64> {
    let mut buffer = vec![0; STEP];
    let mut bytes = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..read])?;
        bytes += read as u64;
    }
}
