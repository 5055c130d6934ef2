//! Going through an archive once, from its beginning to its end.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek};

use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType};

use crate::manifest::{self, Manifest, Saved};
use crate::seal::Hashed;
use crate::{hex, parts};

/// What is wrong while an archive is read.
#[derive(Debug)]
pub enum Trouble<E> {
    /// With the archive.
    Archive(String),
    /// With what takes its contents.
    Target(E),
}

impl<E> From<io::Error> for Trouble<E> {
    fn from(error: io::Error) -> Self {
        Self::Archive(error.to_string())
    }
}

/// Goes through the entries; `body` is the length of what stands before the trailer. `each` takes
/// path and contents of one file and says how many bytes that were.
///
/// # Errors
/// Something in it is not what a backup makes, or `each` fails. Of what `each` was given before that,
/// nothing is vouched for.
pub fn walk<E>(
    file: &mut (impl Read + Seek),
    body: u64,
    mut each: impl FnMut(&str, &mut dyn Read) -> Result<u64, Trouble<E>>,
) -> Result<Manifest, Trouble<E>> {
    file.rewind()?;
    let mut archive = Archive::new(GzDecoder::new(BufReader::new(file.by_ref().take(body))));
    let mut found = BTreeMap::new();
    let mut manifest = None;
    // Raw: long names and extended headers are kinds of entries that a backup does not make.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let path = path_of::<E>(&entry)?;
        if manifest.is_some() {
            return Err(Trouble::Archive(format!("{path:?} stands behind the manifest")));
        }
        if path == manifest::NAME {
            manifest = Some(read_manifest::<E>(&mut entry, &found)?);
            continue;
        }
        check::<E>(&entry, &path, found.len())?;
        let bytes = entry.size();
        let mut hashed = Hashed::new(&mut entry);
        let read = each(&path, &mut hashed)?;
        let (_, _, hash) = hashed.finish();
        if read != bytes {
            return Err(Trouble::Archive(format!("{path:?} is cut short")));
        }
        if found.insert(path.clone(), Saved { bytes, sha256: hex(&hash) }).is_some() {
            return Err(Trouble::Archive(format!("{path:?} stands in it twice")));
        }
    }
    manifest.ok_or_else(|| Trouble::Archive("it has no manifest".to_owned()))
}

fn path_of<E>(entry: &Entry<'_, impl Read>) -> Result<String, Trouble<E>> {
    let path = String::from_utf8(entry.path_bytes().into_owned());
    let path = path.map_err(|_| Trouble::Archive("a path is not UTF-8".to_owned()))?;
    let kind = entry.header().entry_type();
    if kind != EntryType::Regular {
        let why = format!("{path:?} is not an ordinary file ({kind:?})");
        return Err(Trouble::Archive(why));
    }
    Ok(path)
}

fn check<E>(entry: &Entry<'_, impl Read>, path: &str, before: usize) -> Result<(), Trouble<E>> {
    if parts::of_path(path).is_none() {
        return Err(Trouble::Archive(format!("{path:?} belongs to no backup")));
    }
    if entry.size() > manifest::FILE_BYTES_MAX {
        return Err(Trouble::Archive(format!("{path:?} is larger than any file of a gateway")));
    }
    if before >= manifest::FILES_MAX {
        return Err(Trouble::Archive(format!("it has over {} files", manifest::FILES_MAX)));
    }
    Ok(())
}

fn read_manifest<E>(
    entry: &mut Entry<'_, impl Read>,
    found: &BTreeMap<String, Saved>,
) -> Result<Manifest, Trouble<E>> {
    if entry.size() > manifest::BYTES_MAX {
        return Err(Trouble::Archive("its manifest is too long".to_owned()));
    }
    let mut text = Vec::new();
    entry.take(manifest::BYTES_MAX).read_to_end(&mut text)?;
    Manifest::judge(&text, found).map_err(Trouble::Archive)
}
