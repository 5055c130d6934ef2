//! Compiled code that is kept across restarts.
//!
//! # Invariants
//! - An artifact is given out only if its HMAC, under a key that never leaves this device, says
//!   that this device wrote it for this very component and engine. Anything else counts as
//!   absent, and the component is compiled again.
//! - A file appears whole: written under another name, synced, renamed.
//! - Directory 0700, files 0600; at most 64 artifacts, the oldest go first.
//!
//! A file is named `SHA256(component)-COMPATIBILITY.cwasm`, where the second part stands for
//! everything of engine, target and settings that an artifact depends on. It holds the HMAC-SHA256
//! over that name and the artifact (32 bytes), then the artifact.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use edge_core::id::Digest;
use ring::{digest, hmac, rand};
use wasmtime::Engine;

const KEY_FILE: &str = "artifact.key";
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 32;
const SUFFIX: &str = ".cwasm";
const TEMPORARY_SUFFIX: &str = ".tmp";
/// Most artifacts kept.
const ARTIFACTS_MAX: usize = 64;

/// Artifacts in a directory of their own.
pub struct ArtifactCache {
    dir: PathBuf,
    key: hmac::Key,
    compatibility: String,
}

impl ArtifactCache {
    /// Opens the directory, made if absent, for artifacts that `engine` can load.
    ///
    /// # Errors
    /// When it cannot be made, read or written.
    pub(super) fn open(dir: &Path, engine: &Engine) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(TEMPORARY_SUFFIX) {
                fs::remove_file(path)?;
            }
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &device_key(dir)?);
        Ok(Self { dir: dir.to_owned(), key, compatibility: compatibility(engine) })
    }

    /// The artifact of `component`, if this device compiled it for this engine.
    pub(super) fn get(&self, component: &[u8]) -> Option<Vec<u8>> {
        let name = self.name(component);
        let mut stored = match fs::read(self.dir.join(&name)) {
            Ok(stored) => stored,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!("compiled code {name} cannot be read: {error}");
                return None;
            }
        };
        if stored.len() < TAG_BYTES {
            tracing::warn!("compiled code {name} is cut short; compiling again");
            return None;
        }
        let artifact = stored.split_off(TAG_BYTES);
        if hmac::verify(&self.key, &signed(&name, &artifact), &stored).is_err() {
            tracing::warn!("compiled code {name} was not written by this gateway; compiling again");
            return None;
        }
        Some(artifact)
    }

    /// Keeps an artifact.
    pub(super) fn put(&self, component: &[u8], artifact: &[u8]) -> io::Result<()> {
        let name = self.name(component);
        let tag = hmac::sign(&self.key, &signed(&name, artifact));
        write_whole(&self.dir, &name, &[tag.as_ref(), artifact])?;
        self.evict()
    }

    /// Removes what no component of `keep` (by SHA-256) was compiled to, and what another version
    /// of the agent left behind.
    ///
    /// # Errors
    /// When the directory cannot be read or a file not be removed.
    pub fn keep_only(&self, keep: &BTreeSet<Digest>) -> io::Result<()> {
        let names: BTreeSet<String> =
            keep.iter().map(|digest| self.name_of(&digest.to_string())).collect();
        for (path, _) in self.artifacts()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !names.contains(&name) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn evict(&self) -> io::Result<()> {
        let mut artifacts = self.artifacts()?;
        artifacts.sort_by_key(|(_, written)| *written);
        let excess = artifacts.len().saturating_sub(ARTIFACTS_MAX);
        artifacts.into_iter().take(excess).try_for_each(|(path, _)| fs::remove_file(path))
    }

    fn artifacts(&self) -> io::Result<Vec<(PathBuf, SystemTime)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(SUFFIX) {
                found.push((entry.path(), entry.metadata()?.modified()?));
            }
        }
        Ok(found)
    }

    fn name(&self, component: &[u8]) -> String {
        self.name_of(&hex(digest::digest(&digest::SHA256, component).as_ref()))
    }

    fn name_of(&self, component_sha256: &str) -> String {
        format!("{component_sha256}-{}{SUFFIX}", self.compatibility)
    }
}

/// What the HMAC covers: the name, which has a fixed length, then the artifact.
fn signed(name: &str, artifact: &[u8]) -> Vec<u8> {
    [name.as_bytes(), artifact].concat()
}

/// The device's key; a new one if there is none, or if others could have read it.
fn device_key(dir: &Path) -> io::Result<[u8; KEY_BYTES]> {
    if let Some(key) = read_key(&dir.join(KEY_FILE))? {
        return Ok(key);
    }
    let random: rand::Random<[u8; KEY_BYTES]> = rand::generate(&rand::SystemRandom::new())
        .map_err(|_| io::Error::other("the system has no random numbers"))?;
    let key = random.expose();
    write_whole(dir, KEY_FILE, &[&key])?;
    Ok(key)
}

fn read_key(path: &Path) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let private = metadata.mode() & 0o077 == 0;
    let mut key = [0; KEY_BYTES];
    if !private || metadata.len() != KEY_BYTES as u64 || file.read_exact(&mut key).is_err() {
        tracing::warn!("{} is damaged or readable by others; it is replaced", path.display());
        return Ok(None);
    }
    Ok(Some(key))
}

fn write_whole(dir: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}{TEMPORARY_SUFFIX}"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// Everything that an artifact depends on beside its component, as 16 hexadecimal digits.
fn compatibility(engine: &Engine) -> String {
    let mut hasher = Sha256Hasher(digest::Context::new(&digest::SHA256));
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hex(&hasher.0.finish().as_ref()[..8])
}

/// A hasher that is the same in every version of the standard library.
struct Sha256Hasher(digest::Context);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finish();
        digest.as_ref().iter().take(8).fold(0, |n, byte| n << 8 | u64::from(*byte))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
