//! The system that a signed revision brings: a file of the agent's library, believed only as far as the
//! author's signature goes.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use edge_core::boot::{Offer, Program};
use ring::digest::{Context, SHA256};
use sync_protocol::id::Digest;
use sync_protocol::revision::{AuthorKeys, SIGNED_BYTES_MAX, SignedManifest};
use sync_protocol::system_file::{HEAD_BYTES_MAX, Header};

use super::open_plain;

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
        let manifest = read_bounded(&library.join(revision.to_string()), SIGNED_BYTES_MAX)
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
        if bytes != named.size || digest_of(&file, bytes).map_err(io)? != named.artifact {
            return Err("the file of the system is not the one that was signed".to_owned());
        }
        let mut head =
            vec![0; HEAD_BYTES_MAX.min(usize::try_from(bytes).unwrap_or(HEAD_BYTES_MAX))];
        file.read_exact_at(&mut head, 0).map_err(io)?;
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
    /// agent's user changed meanwhile is found out.
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

/// SHA-256 of the first `bytes` bytes of a file.
pub(super) fn digest_of(file: &File, bytes: u64) -> io::Result<Digest> {
    walk(file, 0, bytes, &mut |_, _| Ok(()))
}

fn walk(
    file: &File,
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

fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_plain(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::other(format!("it has over {bytes_max} bytes")));
    }
    Ok(bytes)
}
