//! The system that a signed revision brings: a file of the agent's library, believed only as far as the
//! author's signature goes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use edge_core::boot::{Offer, Program};
use ring::digest::{Context, SHA256};
use sync_protocol::id::Digest;
use sync_protocol::revision::{AuthorKeys, SIGNED_BYTES_MAX, SignedManifest};
use sync_protocol::system_file::{HEAD_BYTES_MAX, Header};

use super::{open_plain, read_plain};

const CHUNK: usize = 256 << 10;

/// A system whose author and digest were verified.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    from: u64,
    pub(super) header: Header,
    pub(super) offer: Offer,
}

impl Source {
    /// Finds it in `library` by its revision, and verifies it for `board`. Reads the whole file.
    pub(super) fn open(
        library: &Path,
        revision: Digest,
        authors: &AuthorKeys,
        board: &str,
    ) -> Result<Self, String> {
        let manifest = read_plain(&library.join(revision.to_string()), SIGNED_BYTES_MAX as u64)
            .map_err(|error| format!("the revision {revision}: {error}"))?;
        let signed = SignedManifest::from_bytes(&manifest).map_err(|error| error.to_string())?;
        let verified = signed.verify_as(revision, authors).map_err(|error| error.to_string())?;
        let update = verified.manifest().system.as_ref().ok_or("the revision brings no system")?;
        let named = update.programs.get(board);
        let named = named.ok_or_else(|| format!("it brings no system for the board {board}"))?;
        let path = library.join(named.artifact.to_string());
        let io = |error: io::Error| format!("the system {}: {error}", named.artifact);
        let file = open_plain(&path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let (digest, head) = digest_and_head(&file, bytes).map_err(io)?;
        if bytes != named.size || digest != named.artifact {
            return Err("the file of the system is not the one that was signed".to_owned());
        }
        let (header, from) = Header::parse(&head, bytes).map_err(|error| error.to_string())?;
        if header.board != board {
            return Err(format!("it is for the board {}, this is a {board}", header.board));
        }
        let (version, floor) = (update.version(), update.floor());
        let (Some(version), Some(floor)) = (version, floor) else {
            return Err("its version is none".to_owned());
        };
        if header.version() != Some(version) {
            let (says, signed) = (&header.version, version);
            return Err(format!("it calls itself {says}, its deployment {signed}"));
        }
        let digest = edge_core::id::Digest(named.artifact.0);
        let offer = Offer { program: Program { digest, version }, floor, force: update.force };
        Ok(Self { file, from, header, offer })
    }

    /// Goes through part `n` of the file, chunk by chunk: `take` gets where in the part each begins. What the
    /// agent's user changed since the file was verified is found out, by the digests of the header.
    pub(super) fn copy(
        &self,
        n: usize,
        mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let parts = self.header.parts();
        let from = self.from + parts[..n].iter().map(|part| part.size).sum::<u64>();
        let part = parts[n];
        let digest = walk(&self.file, from, part.size, &mut take)?;
        if digest == part.sha256 { Ok(()) } else { Err(io::Error::other("the file was changed")) }
    }
}

/// SHA-256 of a file, and its head. The head is taken out of what was hashed, not read again: the agent's user may
/// write to the file meanwhile, and the digests of all parts stand in it.
fn digest_and_head(file: &impl FileExt, bytes: u64) -> io::Result<(Digest, Vec<u8>)> {
    const { assert!(HEAD_BYTES_MAX <= CHUNK, "the head lies in the first chunk") };
    let mut head = Vec::new();
    let digest = walk(file, 0, bytes, &mut |at, chunk| {
        if at == 0 {
            head.extend_from_slice(&chunk[..chunk.len().min(HEAD_BYTES_MAX)]);
        }
        Ok(())
    })?;
    Ok((digest, head))
}

/// SHA-256 of the first `bytes` bytes of a file.
pub(super) fn digest_of(file: &File, bytes: u64) -> io::Result<Digest> {
    walk(file, 0, bytes, &mut |_, _| Ok(()))
}

fn walk(
    file: &impl FileExt,
    from: u64,
    bytes: u64,
    take: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<Digest> {
    let mut context = Context::new(&SHA256);
    let (mut chunk, mut done) = (vec![0; CHUNK], 0);
    while done < bytes {
        let left = usize::try_from(bytes - done).unwrap_or(CHUNK);
        let piece = &mut chunk[..left.min(CHUNK)];
        file.read_exact_at(piece, from + done)?;
        context.update(piece);
        take(done, piece)?;
        done += piece.len() as u64;
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(Digest(digest))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A file whose head is another one at each reading.
    struct Changing(Cell<u8>);

    impl FileExt for Changing {
        fn read_at(&self, piece: &mut [u8], at: u64) -> io::Result<usize> {
            if at == 0 {
                self.0.set(self.0.get() + 1);
            }
            piece.fill(if at == 0 { self.0.get() } else { 0 });
            Ok(piece.len())
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn the_head_is_the_one_that_was_hashed() {
        let bytes = CHUNK + 10;
        let (digest, head) = digest_and_head(&Changing(Cell::new(0)), bytes as u64).unwrap();
        let mut hashed = vec![1; CHUNK];
        hashed.extend([0; 10]);
        assert_eq!((digest, head.as_slice()), (Digest::of(&hashed), &hashed[..HEAD_BYTES_MAX]));
    }
}
