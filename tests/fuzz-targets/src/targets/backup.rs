//! Backups: files that a gateway restores, whoever wrote them.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::{Cursor, Write};

use backup_archive::manifest::{self, Manifest, Saved};
use backup_archive::seal::{self, Hashed};
use backup_archive::{Trouble, hex, parts, walk};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use crate::bytes_reader::BytesReader;

/// Files of an archive that is made from decisions.
const ENTRIES_MAX: u8 = 12;

/// Nothing is read of what is not whole. What is read as a backup holds files of the list, each once,
/// and each as its manifest says; read again, it is the same.
pub(super) fn run(bytes: &[u8]) {
    let mut reader = BytesReader::new(bytes);
    let mut file = Cursor::new(match reader.byte() % 3 {
        0 => reader.rest().to_vec(),
        1 => sealed(reader.rest()),
        _ => sealed(&archive(&mut reader)),
    });
    let Ok(body) = seal::verify(&mut file) else { return };
    assert_eq!(file.position(), 0, "it stands at its beginning");
    assert!(body < file.get_ref().len() as u64);
    let mut seen = BTreeMap::new();
    let manifest = walk::<Infallible>(&mut file, body, |path, from| {
        let mut hashed = Hashed::new(std::io::sink());
        let bytes = seal::copy(from, &mut hashed)?;
        let (_, written, hash) = hashed.finish();
        assert_eq!(bytes, written);
        seen.insert(path.to_owned(), Saved { bytes, sha256: hex(&hash) });
        assert!(seen.len() <= manifest::FILES_MAX);
        Ok(bytes)
    });
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(Trouble::Archive(why)) => return assert!(!why.is_empty()),
        Err(Trouble::Target(never)) => match never {},
    };
    assert_eq!(manifest.files, seen, "what the manifest says is what there is");
    assert_eq!(manifest.bytes(), seen.values().map(|file| file.bytes).sum::<u64>());
    for path in seen.keys() {
        let part = parts::of_path(path).expect("a path of the list");
        assert!(part.is_saved && path.split('/').count() <= 2, "{path}");
        assert!(path.split('/').all(|name| !name.is_empty() && !name.starts_with('.')), "{path}");
    }
    let again =
        walk::<Infallible>(&mut file, body, |_, from| Ok(seal::copy(from, &mut std::io::sink())?));
    assert_eq!(again.expect("it was read once"), manifest);
}

/// With a right trailer, so that all that stands before it is reached.
fn sealed(tar: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Hashed::new(Vec::new()), Compression::fast());
    gz.write_all(tar).expect("invariant: writing to memory succeeds");
    let hashed = gz.finish().expect("invariant: writing to memory succeeds");
    seal::seal(hashed).expect("invariant: writing to memory succeeds")
}

/// An archive as decisions have it: paths of the list and others, kinds, sizes that lie, and a
/// manifest that fits or does not.
fn archive(reader: &mut BytesReader<'_>) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let (mut files, mut named) = (BTreeMap::new(), BTreeSet::new());
    for _ in 0..reader.byte() % ENTRIES_MAX {
        let path = path(reader);
        let len = usize::from(reader.byte());
        let contents = reader.take(len);
        let lie = reader.byte();
        let size = contents.len() as u64 + u64::from(lie.saturating_sub(250));
        let kind = if lie % 16 == 15 { EntryType::new(reader.byte()) } else { EntryType::Regular };
        append(&mut tar, &path, kind, size, contents);
        let mut hashed = Hashed::new(std::io::sink());
        hashed.write_all(contents).expect("invariant: writing to nothing succeeds");
        let (_, bytes, hash) = hashed.finish();
        if named.insert(path.clone()) {
            files.insert(path, Saved { bytes, sha256: hex(&hash) });
        }
    }
    let text = match reader.byte() % 4 {
        0 => reader.rest().to_vec(),
        _ => {
            let manifest = Manifest {
                format: u32::from(reader.byte() % 8 != 7),
                agent: "0".to_owned(),
                gateway: "barn-3".to_owned(),
                made_unix_s: reader.u64(),
                files,
            };
            serde_json::to_vec(&manifest).expect("invariant: a manifest is JSON")
        }
    };
    append(&mut tar, manifest::NAME, EntryType::Regular, text.len() as u64, &text);
    if reader.byte() % 8 == 7 {
        append(&mut tar, "identity", EntryType::Regular, 0, &[]);
    }
    tar.into_inner().expect("invariant: writing to memory succeeds")
}

fn path(reader: &mut BytesReader<'_>) -> String {
    const PATHS: [&str; 8] = [
        "identity",
        "breadcrumbs",
        "store/checkpoint.redb",
        "store/journal-00.seg",
        "library/00ff",
        "store/lock",
        "../identity",
        "lives",
    ];
    match reader.byte() {
        n @ 0..=199 => PATHS[usize::from(n) % PATHS.len()].to_owned(),
        n => {
            let bytes = reader.take(usize::from(n - 200));
            format!("library/{}", String::from_utf8_lossy(bytes))
        }
    }
}

/// The name is put into its field as it is: the crate's own way would refuse an odd one.
fn append(tar: &mut Builder<Vec<u8>>, path: &str, kind: EntryType, size: u64, contents: &[u8]) {
    let mut header = Header::new_ustar();
    let name = &mut header.as_old_mut().name;
    let len = path.len().min(name.len());
    name[..len].copy_from_slice(&path.as_bytes()[..len]);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    tar.append(&header, contents).expect("invariant: writing to memory succeeds");
}
