//! Archives that no backup writes.

use super::*;

/// An archive as somebody else could write it, with a right trailer.
pub(super) struct Forged {
    tar: Builder<Vec<u8>>,
}

impl Forged {
    pub(super) fn new() -> Self {
        Self { tar: Builder::new(Vec::new()) }
    }

    pub(super) fn entry(mut self, path: &str, kind: EntryType, contents: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        // Not `set_path`, which refuses what this is about.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o4777);
        header.set_size(contents.len() as u64);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        self.tar.append(&header, contents).unwrap();
        self
    }

    pub(super) fn file(self, path: &str, contents: &[u8]) -> Self {
        self.entry(path, EntryType::Regular, contents)
    }

    pub(super) fn manifest(self, files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(path, contents)| {
            let sha256 = hex(ring::digest::digest(&ring::digest::SHA256, contents).as_ref());
            ((*path).to_owned(), Saved { bytes: contents.len() as u64, sha256 })
        });
        let manifest = Manifest {
            format: manifest::FORMAT,
            agent: "0".to_owned(),
            gateway: "barn-3".to_owned(),
            made_unix_s: 1,
            files: files.collect(),
        };
        self.file(manifest::NAME, &serde_json::to_vec(&manifest).unwrap())
    }

    pub(super) fn write(self, to: &Path) {
        let mut gz = GzEncoder::new(Hashed::new(Vec::new()), Compression::fast());
        gz.write_all(&self.tar.into_inner().unwrap()).unwrap();
        fs::write(to, seal(gz.finish().unwrap()).unwrap()).unwrap();
    }
}
